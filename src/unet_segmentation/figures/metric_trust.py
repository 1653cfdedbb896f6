"""Which metric one may believe: every metric against the share of the foreground."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unet_segmentation.figures.style import PALETTE, TEXT, styled

LINES = {  # prediction to its title, colour and dash
    "network": ("trained network", PALETTE[0], "solid"),
    "background": ("background everywhere", PALETTE[1], "solid"),
    "random": ("a coin for every pixel", PALETTE[3], "dot"),
}
BLIND = ("background", "random")
COLUMNS, PANEL = 3, 210  # panels in a row; pixels of a panel's height
BELIEVED, DOUBTED = 0.05, 0.3  # what a prediction that looks at nothing may get at most, where foreground is rarest
JUDGED = {"yes": (PALETTE[2], "may be believed"), "partly": (PALETTE[3], "flatters"), "no": (PALETTE[1], "misleads")}


def judgements(table: pd.DataFrame) -> pd.DataFrame:
    """Say of each metric what a prediction that looks at nothing gets where foreground is rarest.

    Args:
        table: columns share, prediction, metric, value.

    Returns:
        A row per metric, in the table's order: metric, blind (the most that one of them gets), network, gap (network -
        blind), judgement: `yes` (blind at most 0.05), `partly` (at most 0.3), `no`.
    """
    rarest = table[table["share"] == table["share"].min()]
    values = rarest.pivot(index="metric", columns="prediction", values="value").loc[
        list(dict.fromkeys(table["metric"]))
    ]
    blind = values[[name for name in BLIND if name in values]].max(axis=1)
    judged = ["yes" if value <= BELIEVED else "partly" if value <= DOUBTED else "no" for value in blind]
    found = pd.DataFrame({"blind": blind, "network": values["network"], "gap": values["network"] - blind})
    return found.assign(judgement=judged).reset_index()


def trust_chart(table: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """Draw a panel for each metric: its value against the share of the foreground, for every prediction.

    One look: where the red line is high, the metric praises a prediction that looks at nothing. The word and the colour
    above each panel say so for the rarest foreground.

    Args:
        table: columns share, foreground, prediction, metric, value.
        titles: of the metrics, for people.
    """
    judged = judgements(table).set_index("metric")
    names = list(judged.index)
    rows = -(-len(names) // COLUMNS)
    figure = make_subplots(
        rows=rows, cols=COLUMNS, shared_yaxes=True, vertical_spacing=0.3 / rows, horizontal_spacing=0.05,
        subplot_titles=[_title(titles[name], judged.loc[name]) for name in names],
    )  # fmt: skip
    for number, name in enumerate(names):
        place = {"row": number // COLUMNS + 1, "col": number % COLUMNS + 1}
        for prediction, (title, colour, dash) in LINES.items():
            part = table[(table["metric"] == name) & (table["prediction"] == prediction)].sort_values("foreground")
            figure.add_trace(
                go.Scatter(
                    name=title,
                    legendgroup=prediction,
                    showlegend=number == 0,
                    x=100 * part["foreground"],
                    y=part["value"],
                    mode="lines+markers",
                    line={"color": colour, "dash": dash, "width": 2},
                    marker={"size": 6},
                    hovertemplate="foreground %{x:.2g} %<br>" + title + " %{y:.3f}<extra></extra>",
                ),
                **place,
            )
    styled(figure, height=110 + PANEL * rows)
    shares = sorted(100 * value for value in set(table["foreground"]))
    ticks = {"tickvals": shares, "ticktext": [f"{share:.2g}" for share in shares]}
    figure.update_xaxes(type="log", autorange="reversed", **ticks)  # from common to rare
    figure.update_xaxes(title_text="foreground, % of the pixels", row=rows)
    figure.update_yaxes(range=[-0.03, 1.05], dtick=0.5)
    figure.update_annotations(font={"size": 12})
    figure.update_layout(margin_t=96, legend_y=1 + 70 / (PANEL * rows))
    return figure


def _title(title: str, judged: pd.Series) -> str:
    colour, word = JUDGED[judged["judgement"]]
    plain = f"looking at nothing gets up to {judged['blind']:.3f}"
    return f"<span style='color:{TEXT}'>{title}</span><br><b style='color:{colour}'>{word}</b>: {plain}"
