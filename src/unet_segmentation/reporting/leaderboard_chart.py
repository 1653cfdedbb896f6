"""The chart of a leaderboard."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from unet_segmentation.reporting.plotly_theme import PALETTE, TEXT, apply_theme, build_error_bars

VERDICTS = {  # to the color, and what it means against the best run
    "best": (PALETTE[0], "best"),
    "better": (PALETTE[0], "better than the best by value"),
    "equivalent": (PALETTE[2], "equivalent"),
    "inconclusive": (PALETTE[3], "inconclusive"),
    "worse": (PALETTE[1], "worse"),
    "undefined": (TEXT, "not defined"),
    "other samples": (TEXT, "tested on other samples"),
    "no counts": (TEXT, "no counts per image"),
}
NOT_COMPARED = {"other samples", "no counts"}


def leaderboard_chart(table: pd.DataFrame) -> go.Figure:
    """Draw a dot per run, with the interval of its score, the best on top; hollow where it is compared with nothing.

    `table`: see `experiments.run_comparison.leaderboard`.
    """
    figure = go.Figure()
    names = table["run"].str.replace(" · ", "<br>", n=1, regex=False)  # two short lines fit on a phone
    labels = [f"{name} · {run_id[:6]}" for name, run_id in zip(names, table["run_id"], strict=True)]
    table = table.assign(label=labels)
    for verdict, (color, title) in VERDICTS.items():
        rows = table[table["verdict"] == verdict]
        if rows.empty:
            continue
        figure.add_trace(
            go.Scatter(
                name=title,
                x=rows["value"],
                y=rows["label"],
                error_x=build_error_bars(rows, thickness=2, width=0),
                mode="markers",
                marker={"color": color, "size": 10, "symbol": "circle-open" if verdict in NOT_COMPARED else "circle"},
                customdata=[_words(row) for row in rows.to_dict("records")],
                hovertemplate="%{y}<br>%{x:.4f}%{customdata}<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="score, with its interval")
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=labels[::-1])
    return apply_theme(figure, height=150 + max(120, 44 * len(table)))


def _words(row: dict[Hashable, Any]) -> str:
    lines = [f"{row['encoder']}, {row['epochs']} epochs, seed {row['seed']}", str(row["started"])]
    if pd.notna(row["low"]):
        lines.insert(0, f"{row['low']:.4f} to {row['high']:.4f}")
    if pd.notna(row["difference"]):
        lines.append(f"{row['difference']:+.4f} to the best: {row['verdict']}")
    return "".join(f"<br>{line}" for line in lines)
