"""The ways up of a decoder beside each other: what they score, and what checkerboards they leave."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unet_segmentation.figures.style import PALETTE, styled

FLOOR = 1e-9  # of a share on the logarithmic axis
MOMENTS = {"initial": ("untrained", "circle-open"), "trained": ("trained", "circle")}


def upsampling_chart(table: pd.DataFrame, score: str) -> go.Figure:
    """Draw, for each network, the score of each way up with its interval, and its checkerboards by stride.

    Args:
        table: columns network, upsampling, value, low, high, spread, ``checkerboard/initial/<stride>`` and
            ``checkerboard/trained/<stride>``.
        score: name of the score, for people.
    """
    networks = list(dict.fromkeys(table["network"]))
    strides = sorted({int(str(name).rpartition("/")[2]) for name in table if str(name).startswith("checkerboard/")})
    figure = make_subplots(
        rows=2, cols=len(networks), shared_yaxes=True, subplot_titles=networks, vertical_spacing=0.14,
        horizontal_spacing=0.06,
    )  # fmt: skip
    for column, network in enumerate(networks, 1):
        part = table[table["network"] == network]
        figure.add_trace(
            go.Scatter(
                x=part["upsampling"],
                y=part["value"],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": (part["high"] - part["value"]).fillna(0.0),
                    "arrayminus": (part["value"] - part["low"]).fillna(0.0),
                    "thickness": 2,
                    "width": 0,
                },
                mode="markers",
                marker={"size": 10, "color": PALETTE[4]},
                showlegend=False,
                customdata=part["spread"],
                hovertemplate="%{x}<br>%{y:.4f}, spread over seeds %{customdata:.4f}<extra></extra>",
            ),
            row=1,
            col=column,
        )
        for stride, colour in zip(strides, PALETTE, strict=False):
            for moment, (words, symbol) in MOMENTS.items():
                shares = part[f"checkerboard/{moment}/{stride}"]
                figure.add_trace(
                    go.Scatter(
                        name=f"period {stride}, {words}",
                        legendgroup=f"{stride} {moment}",
                        showlegend=column == 1,
                        x=part["upsampling"],
                        y=shares.clip(lower=FLOOR),
                        mode="markers",
                        marker={"size": 9, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
                        customdata=shares,
                        hovertemplate=f"%{{x}}, {words}<br>%{{customdata:.2e}} of the energy<extra></extra>",
                    ),
                    row=2,
                    col=column,
                )
    styled(figure, height=720)
    figure.update_xaxes(type="category")
    figure.update_yaxes(title_text=score, row=1, col=1)
    figure.update_yaxes(type="log", exponentformat="power", row=2)
    figure.update_yaxes(title_text="share of the logits' energy", row=2, col=1)
    return figure
