"""The page of a sweep: score against cost as a chart, and all results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from unet_segmentation.experiments.sweep.leaderboard import BEST, FAILED, mean_costs, pareto_front
from unet_segmentation.reporting.html import encode_charts, render
from unet_segmentation.reporting.plotly_theme import GRID, PALETTE, TEXT, apply_theme, build_error_bars
from unet_segmentation.reporting.run_comparison import TONES, format_number, interval, p_value

Column = tuple[str, str, Callable[[Any], str]]  # title, name in the table, and how a value is written

PANELS = {  # the x axes to choose from: button, title, and how the column becomes a cost (the smaller, the better)
    "multiply_adds": ("multiply-adds", "multiply-adds of a patch (billions)", lambda values: values / 1e9),
    "training_seconds": ("training", "seconds of training, mean over the seeds", lambda values: values),
    "prediction_images_per_second": (
        "prediction", "milliseconds to predict an image", lambda values: 1000 / values,
    ),
    "memory_bytes": (
        "memory", "memory that a training step keeps, counted (MiB)", lambda values: values / 2**20,
    ),
    "peak_memory_mib": ("peak memory", "peak memory of a training, measured (MiB)", lambda values: values),
}  # fmt: skip
SCORE_TITLES = ("Variant", "Mean", "Spread", "Interval", "To the best", "Interval", "p", "Verdict", "Seeds")
TEXT_COLUMNS = ("Variant", "Verdict", "Status", "Fingerprint")
MAX_LABELS = 8  # variants; with more of them, only those on the Pareto front have labels in the chart


def frontier_chart(leaderboard: pd.DataFrame, costs: pd.DataFrame, score: str) -> go.Figure:
    """Draw the mean score of every variant against a cost, and the Pareto front; buttons choose the cost."""
    table = _with_costs(leaderboard, costs).dropna(subset="value")
    panels = {name: panel for name, panel in PANELS.items() if table[name].notna().any()}
    figure = go.Figure()
    for name, (_, _, cost_of) in panels.items():
        points = table.assign(cost=cost_of(table[name].astype(float))).dropna(subset="cost").sort_values("cost")
        figure.add_traces(_traces(points)).update_yaxes(range=_range(table))
    per_panel = len(figure.data) // max(1, len(panels))
    figure.for_each_trace(lambda trace: trace.update(visible=trace in figure.data[:per_panel]))
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [
                {"visible": [number // per_panel == panel for number in range(len(figure.data))]},
                {"xaxis.title.text": title},
            ],
        }
        for panel, (label, title, _) in enumerate(panels.values())
    ]
    figure.update_xaxes(
        type="log", title_text=next((title for _, title, _ in panels.values()), ""), nticks=6, tickangle=0
    )
    figure.update_yaxes(title_text=score)
    apply_theme(figure, height=460)
    if len(buttons) > 1:
        figure.update_layout(
            margin_t=96,
            updatemenus=[
                {
                    "type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "xanchor": "left", "y": 1.16,
                    "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)", "bordercolor": GRID,
                    "font": {"size": 12, "color": TEXT}, "pad": {"l": 0, "b": 4},
                    "showactive": False,  # it would be white on a dark page; the axis says what is shown
                }
            ],
        )  # fmt: skip
    return figure


def _traces(table: pd.DataFrame) -> list[go.Scatter]:
    """Draw variants, ordered by their cost, and the Pareto front."""
    on = pareto_front(table["cost"].tolist(), table["value"].tolist())
    middle = np.sqrt(table["cost"].iloc[0] * table["cost"].iloc[-1])
    table["side"] = np.where(table["cost"] > middle, "top left", "top right")  # names stay within the chart
    table["name"] = table["variant"].where(on | (len(table) <= MAX_LABELS), "")
    line = {"color": PALETTE[0], "width": 1, "dash": "dot", "shape": "hv"}
    return [
        _markers(table[on], PALETTE[0], "on the frontier"),
        _markers(table[~on], TEXT, "dominated"),
        go.Scatter(
            x=table["cost"][on], y=table["value"][on], mode="lines", line=line, hoverinfo="skip", showlegend=False
        ),
    ]


def _range(table: pd.DataFrame) -> tuple[float, float]:
    """Return the range of the y axis, with space for labels above the markers."""
    low, high = float(np.nanmin(table[["value", "low"]])), float(np.nanmax(table[["value", "high"]]))
    height = max(high - low, 1e-3)
    return low - 0.1 * height, high + 0.15 * height


def _markers(table: pd.DataFrame, color: str, name: str) -> go.Scatter:
    """Draw variants with their intervals."""
    return go.Scatter(
        name=name,
        x=table["cost"],
        y=table["value"],
        error_y=build_error_bars(table, thickness=1.5, width=0),
        mode="markers+text",
        text=table["name"],
        textposition=table["side"],
        textfont={"size": 11},
        customdata=table["variant"],
        marker={"color": color, "size": 9},
        showlegend=len(table) > 0,
        hovertemplate="%{customdata}<br>%{y:.4f} at %{x:.4g}<extra></extra>",
    )  # fmt: skip


def _with_costs(leaderboard: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    return leaderboard.join(mean_costs(costs), on="variant")


def score_lines(leaderboard: pd.DataFrame) -> list[tuple[str, ...]]:
    """Format the scores of a leaderboard as lines of a table, with `SCORE_TITLES`."""
    return [
        (
            str(row["variant"]),
            format_number(row["value"]),
            format_number(row["spread"]),
            interval(row["low"], row["high"]),
            format_number(row["difference"], "+"),
            interval(row["difference_low"], row["difference_high"], "+"),
            p_value(row["p_value"]),
            str(row["verdict"]),
            f"{row['seeds']}" + (f" ({row['failed']} failed)" if row["failed"] else ""),
        )
        for row in leaderboard.to_dict("records")
    ]


def cost_lines(leaderboard: pd.DataFrame, costs: pd.DataFrame) -> list[tuple[str, ...]]:
    """Format the costs of each variant as lines of a table, with `COST_TITLES`."""
    return _format_rows(_with_costs(leaderboard, costs), COST_COLUMNS)


def _format_rows(table: pd.DataFrame, columns: Sequence[Column]) -> list[tuple[str, ...]]:
    rows = table.reindex(columns=[name for _, name, _ in columns]).to_dict("records")
    return [tuple(form(row[name]) for _, name, form in columns) for row in rows]


def summary(
    leaderboard: pd.DataFrame,
    runs: pd.DataFrame,
    costs: pd.DataFrame,
    chart: go.Figure,
    *,
    budget: str,
    score: str,
    margin: float,
    confidence: float,
    remark: str | None = None,
    data: str = "",
) -> dict[str, Any]:
    """Return what `variants.html` shows of a sweep, as JSON values: its own page and the report show the same."""
    failed = runs[runs["status"] == FAILED]
    return {
        "data": data,
        "budget": budget,
        "score": score,
        "margin": margin,
        "confidence": f"{100 * confidence:g} %",
        "units": int(leaderboard["units"].max()),
        "remark": remark,
        "failures": [[f"{row['variant']}, seed {row['seed']}", row["reason"]] for row in failed.to_dict("records")],
        "words": TEXT_COLUMNS,
        "tones": {**TONES, BEST: "good", FAILED: "bad"},
        "score_titles": SCORE_TITLES,
        "score_lines": score_lines(leaderboard),
        "cost_titles": COST_TITLES,
        "cost_lines": cost_lines(leaderboard, costs),
        "chart": json.loads(str(chart.to_json())),
    }


def sweep_page(problem: str, sweep: Mapping[str, Any], runs: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Render a sweep, see `summary`, as one page that opens offline."""
    titles = [title for title, _, _ in RUN_COLUMNS]
    lines = _format_rows(runs.merge(costs, on=["variant", "seed"]), RUN_COLUMNS)
    charts = encode_charts({"variants": go.Figure(sweep["chart"])})
    return render("sweep.html", problem=problem, sweep=sweep, runs=(titles, lines), **charts)


def _count(value: Any) -> str:  # noqa: ANN401 - a number, or none
    """Format a count: `14.3 M`; a dash for a missing one."""
    if pd.isna(value):
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.0f}"


def _mib(value: Any, of_one: int = 1) -> str:  # noqa: ANN401 - a number, or none
    return "-" if pd.isna(value) else f"{value / of_one:.0f} MiB"


def _rate(value: float) -> str:
    """Format a rate or a duration with three digits; a dash for a missing one."""
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


COST_COLUMNS: Sequence[Column] = (
    ("Variant", "variant", str),
    ("Parameters", "parameters", _count),
    ("Multiply-adds", "multiply_adds", _count),
    ("Memory", "memory_bytes", lambda value: _mib(value, 2**20)),
    ("Peak memory", "peak_memory_mib", _mib),
    ("Epochs", "epochs", _rate),
    ("Training, s", "training_seconds", _rate),
    ("Training, images/s", "training_images_per_second", _rate),
    ("Prediction, images/s", "prediction_images_per_second", _rate),
)
COST_TITLES = tuple(title for title, _, _ in COST_COLUMNS)
RUN_COLUMNS: Sequence[Column] = (
    ("Variant", "variant", str),
    ("Seed", "seed", str),
    ("Status", "status", str),
    ("Dice", "dice/mean", format_number),
    ("IoU", "iou/mean", format_number),
    ("Epochs", "epochs", _count),
    ("Best epoch", "best_epoch", _count),
    ("Training, s", "training_seconds", _rate),
    ("Prediction, s", "evaluation_seconds", _rate),
    ("In all, s", "seconds", _rate),
    ("Fingerprint", "fingerprint", lambda value: value if isinstance(value, str) and value else "-"),
)
