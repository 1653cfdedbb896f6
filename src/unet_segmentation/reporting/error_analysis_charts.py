"""Charts of failure patterns: the error of every image against what is known of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unet_segmentation.metrics.error_analysis import FEATURES, large_groups
from unet_segmentation.reporting.plotly_theme import PALETTE, apply_theme

MOST_POINTS = 2_000  # drawn; more would bloat the page and hide each other
MOST_GROUPS = 20  # drawn, those with the largest median error
FEW_FOR_A_LINE = 40  # images; a running median of fewer follows single points
GROUP_TITLE = "Error by group"
AXES = {feature.name: feature.axis for feature in FEATURES}
TITLES = {feature.name: f"Error against {feature.title}" for feature in FEATURES} | {"group": GROUP_TITLE}


def pattern_charts(facts: pd.DataFrame) -> dict[str, go.Figure]:
    """Draw a chart for each feature of `image_features` that differs between images, and one for the groups."""
    charts = {}
    for name, traces in _drawable(facts).items():
        figure = go.Figure(traces)
        _label(figure, name)
        charts[name] = apply_theme(figure, height=_height(name, facts))
        charts[name].update_layout(margin_t=16, showlegend=False)
    return charts


def patterns_chart(facts: pd.DataFrame) -> go.Figure:
    """Draw the charts of `pattern_charts` below each other in one figure, for MLflow and Kedro-Viz."""
    drawable = _drawable(facts)
    if not drawable:
        return apply_theme(go.Figure(), height=200)
    heights = [_height(name, facts) for name in drawable]
    gap = 90 / sum(heights) if len(heights) > 1 else 0  # pixels, for a title and the numbers of an axis
    figure = make_subplots(
        rows=len(drawable),
        cols=1,
        row_heights=heights,
        vertical_spacing=min(gap, 0.9 / max(1, len(heights) - 1)),
        subplot_titles=[TITLES[name] for name in drawable],
    )
    for row, (name, traces) in enumerate(drawable.items(), start=1):
        figure.add_traces(traces, rows=[row] * len(traces), cols=[1] * len(traces))
        _label(figure, name, row=row, col=1)
    apply_theme(figure, height=80 + sum(heights))
    figure.update_layout(showlegend=False)
    return figure


def _drawable(facts: pd.DataFrame) -> dict[str, list[go.Scatter] | list[go.Box]]:
    traces: dict[str, list[go.Scatter] | list[go.Box]] = {}
    for feature in FEATURES:
        rows = facts[["sample_id", "error", feature.name]].dropna()
        if rows[feature.name].nunique() > 1:
            traces[feature.name] = _points(rows, feature.name)
    if len(compared := large_groups(facts)):
        traces["group"] = _boxes(compared)
    return traces


def _points(rows: pd.DataFrame, name: str) -> list[go.Scatter]:
    """Draw images as points, at most `MOST_POINTS` evenly spread over the errors, and the median error of tenths."""
    ranked = rows.sort_values(["error", "sample_id"])
    shown = ranked.iloc[np.unique(np.linspace(0, len(ranked) - 1, min(MOST_POINTS, len(ranked))).round().astype(int))]
    points = go.Scatter(
        x=[float(f"{value:.5g}") for value in shown[name]],
        y=[float(f"{value:.5g}") for value in shown["error"]],
        text=shown["sample_id"].tolist(),
        mode="markers",
        marker={"size": 6, "color": PALETTE[0], "opacity": 0.55, "line": {"width": 0}},
        hovertemplate="%{text}<br>%{x:.4g}, error %{y:.3f}<extra></extra>",
    )
    if len(rows) < FEW_FOR_A_LINE:
        return [points]
    tenths = rows.groupby(pd.qcut(rows[name], 10, duplicates="drop"), observed=True)
    line = go.Scatter(
        x=tenths[name].median().tolist(),
        y=tenths["error"].median().tolist(),
        mode="lines+markers",
        line={"color": PALETTE[1], "width": 2},
        marker={"size": 5},
        hovertemplate="median of a tenth of the images<br>%{x:.4g}, error %{y:.3f}<extra></extra>",
    )
    return [points, line]


def _boxes(compared: pd.DataFrame) -> list[go.Box]:
    medians = compared.groupby("group")["error"].median().sort_values(ascending=False)
    return [
        go.Box(
            name=str(group),
            x=compared.loc[compared["group"] == group, "error"].tolist(),
            boxpoints="outliers",
            orientation="h",
            marker={"color": PALETTE[0], "size": 4},
            line={"width": 1.5},
        )
        for group in medians.index[:MOST_GROUPS]
    ]


def _label(figure: go.Figure, name: str, **where: int) -> None:
    if name == "group":
        figure.update_xaxes(title_text="error (1 - IoU)", rangemode="tozero", **where)
        figure.update_yaxes(autorange="reversed", type="category", **where)
    else:
        figure.update_xaxes(title_text=AXES[name], **where)
        figure.update_yaxes(title_text="error (1 - IoU)", rangemode="tozero", **where)
    if name == "foreground":
        figure.update_xaxes(tickformat=".0%", **where)


def _height(name: str, facts: pd.DataFrame) -> int:
    if name != "group":
        return 300
    return 90 + 28 * min(MOST_GROUPS, large_groups(facts)["group"].nunique())
