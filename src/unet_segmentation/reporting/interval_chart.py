"""Scores and their intervals, as points with bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from unet_segmentation.reporting.plotly_theme import PALETTE, styled

MOST_ROWS = 40
ROW_HEIGHT = 30  # pixels


def interval_chart(intervals: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """Draw each score as a point, its interval as a bar; hollow where the interval is not to be trusted.

    Args:
        intervals: columns score, value, low, high, trusted; those without an interval are left out.
        titles: what is drawn, in this order: names of scores, and what people call them. At most `MOST_ROWS`.
    """
    rows = intervals.set_index("score")[["value", "low", "high", "trusted"]].dropna()
    names = [name for name in titles if name in rows.index][:MOST_ROWS]
    shown = rows.loc[names]
    labels: Sequence[str] = [titles[name] for name in names]
    figure = go.Figure(
        go.Scatter(
            x=shown["value"].tolist(),
            y=labels,
            mode="markers",
            marker={
                "size": 9,
                "color": PALETTE[0],
                "symbol": ["circle" if trusted else "circle-open" for trusted in shown["trusted"].astype(bool)],
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": (shown["high"] - shown["value"]).tolist(),
                "arrayminus": (shown["value"] - shown["low"]).tolist(),
                "color": PALETTE[0],
                "thickness": 2,
                "width": 5,
            },
            customdata=shown[["low", "high"]].to_numpy().tolist(),
            hovertemplate="%{y}<br>%{x:.4f} [%{customdata[0]:.4f}, %{customdata[1]:.4f}]<extra></extra>",
        )
    )
    figure.update_xaxes(nticks=6, tickangle=0)
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], type="category", tickfont={"size": 12})
    styled(figure, height=70 + ROW_HEIGHT * max(1, len(names)))
    figure.update_layout(margin_t=12)
    return figure
