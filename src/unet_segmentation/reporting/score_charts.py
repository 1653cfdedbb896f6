"""Charts of scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from unet_segmentation.data.label_map import class_slugs
from unet_segmentation.metrics import calibration, thresholds
from unet_segmentation.metrics.basis import EvaluationSettings
from unet_segmentation.metrics.confusion_matrix import total_matrix
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.object_recall import SIZES, Objects, recall
from unet_segmentation.reporting.plotly_theme import GRID, PALETTE, TEXT, apply_theme, build_error_bars

MEASURES = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall"}
CURVE_HEIGHT = 380  # pixels
MEAN_SCORES = {"dice/mean": "mean Dice", "iou/mean": "mean IoU"}
MOST_INTERVALS = 40
ROW_HEIGHT = 30  # pixels, of an interval
CELLS_WITH_TEXT = 15  # classes; with more, a number would not fit into its cell


class ScoreCharts(NamedTuple):
    """The charts of an evaluation."""

    confusion_matrix: go.Figure
    class_scores: go.Figure
    reliability: go.Figure
    object_recall: go.Figure
    precision_recall: go.Figure


def draw_score_charts(
    tables: EvaluationTables, metrics: Mapping[str, float | None], threshold: float | None, classes: Sequence[str]
) -> ScoreCharts:
    """Draw all charts of an evaluation; None stands for an undefined score, or a threshold that was not chosen."""
    settings, curve = EvaluationSettings(len(classes)), None
    if "foreground" in tables:
        curve = thresholds.precision_recall_curve(thresholds.Foreground(settings).total(tables["foreground"]))
    return ScoreCharts(
        confusion_chart(total_matrix(tables.confusion, len(classes)), classes),
        class_chart(metrics, classes),
        reliability_chart(calibration.reliability(calibration.Calibration(settings).total(tables["calibration"]))),
        objects_chart(Objects(settings).total(tables["objects"]), classes),
        precision_recall_chart(curve, threshold),
    )


def confusion_chart(matrix: NDArray[np.int64], classes: Sequence[str]) -> go.Figure:
    """Draw a confusion matrix: each row (true class) as shares that sum to 1; the pixel counts on hover."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)
    few = len(classes) <= CELLS_WITH_TEXT
    figure = go.Figure(
        go.Heatmap(
            z=[[None if np.isnan(share) else share for share in row] for row in shares.tolist()],
            x=list(classes),
            y=list(classes),
            customdata=matrix.tolist(),
            text=[["" if np.isnan(share) else f"{share:.1%}" for share in row] for row in shares.tolist()],
            texttemplate="%{text}" if few else None,
            textfont={"color": "#1c2128"},  # the cells are light on any page
            colorscale=[[0, "#f1f6fb"], [1, "#4d9de0"]],
            zmin=0,
            zmax=1,
            xgap=2,
            ygap=2,
            showscale=not few,
            colorbar={"tickformat": ".0%", "thickness": 12},
            hovertemplate="%{y} predicted as %{x}<br>%{z:.2%} of the class, %{customdata:,} pixels<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="predicted", side="bottom", type="category")
    figure.update_yaxes(title_text="true", autorange="reversed", type="category")
    apply_theme(figure, height=150 + max(150, min(46 * len(classes), 640)))
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_layout(margin_t=16)
    return figure


def class_chart(metrics: Mapping[str, float | None], classes: Sequence[str]) -> go.Figure:
    """Draw Dice, IoU, precision and recall of every class as bars."""
    figure = go.Figure()
    for (measure, title), color in zip(MEASURES.items(), PALETTE, strict=False):
        figure.add_trace(
            go.Bar(
                name=title,
                y=list(classes),
                x=[metrics.get(f"{measure}/class/{slug}") for slug in class_slugs(classes)],
                orientation="h",
                marker={"color": color, "line": {"width": 0}},
                hovertemplate="%{y}<br>" + title + " %{x:.4f}<extra></extra>",
            )
        )
    figure.update_xaxes(range=[0, 1.0], dtick=0.2)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(barmode="group", bargap=0.25)
    return apply_theme(figure, height=120 + max(140, 52 * len(classes)))


def reliability_chart(curve: pd.DataFrame) -> go.Figure:
    """Draw how often the network is right against how sure it is: on the diagonal it is as sure as it may be.

    `curve`: see `metrics.calibration.reliability`.
    """
    curve = curve[curve["pixels"] > 0]
    shares = curve["pixels"] / max(1, curve["pixels"].sum())
    figure = go.Figure()
    figure.add_trace(
        go.Bar(
            name="share of the pixels",
            x=(curve["low"] + curve["high"]) / 2,
            y=shares,
            width=curve["high"] - curve["low"],
            marker={"color": GRID, "line": {"width": 0}},
            hovertemplate="%{y:.2%} of the pixels<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            name="share that is right",
            x=curve["confidence"],
            y=curve["accuracy"],
            mode="lines+markers",
            line={"color": PALETTE[0]},
            marker={"size": 8},
            customdata=curve["pixels"],
            hovertemplate="confidence %{x:.3f}<br>right %{y:.3f}<br>%{customdata:,} pixels<extra></extra>",
        )
    )
    _diagonal(figure)
    figure.update_xaxes(title_text="confidence: probability of the predicted class", range=[0, 1], dtick=0.2)
    figure.update_yaxes(title_text="share", range=[0, 1.02], dtick=0.2)
    return apply_theme(figure, height=CURVE_HEIGHT)


def _diagonal(figure: go.Figure) -> None:
    figure.add_shape(
        type="line", x0=0, y0=0, x1=1, y1=1, line={"color": TEXT, "width": 1, "dash": "dot"}, layer="below"
    )


def precision_recall_chart(curve: pd.DataFrame | None, threshold: float | None) -> go.Figure:
    """Draw precision against recall of the foreground, see `metrics.thresholds.precision_recall_curve`.

    `curve` is None where there are not two classes: the chart says so.
    """
    figure = go.Figure()
    if curve is None:
        figure.add_annotation(
            text="only for problems of two classes", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False
        )
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
        return apply_theme(figure, height=160)
    hover = "threshold %{customdata:.3f}<br>recall %{x:.4f}<br>precision %{y:.4f}<extra></extra>"
    figure.add_trace(
        go.Scatter(
            name="every threshold",
            x=curve["recall"],
            y=curve["precision"],
            customdata=curve["threshold"],
            mode="lines",
            line={"color": PALETTE[0]},
            hovertemplate=hover,
        )
    )
    marked = [("0.5", 0.5, PALETTE[2])] if threshold is None or threshold != 0.5 else []
    marked += [] if threshold is None else [(f"chosen on validation: {threshold:.3f}", threshold, PALETTE[1])]
    for title, value, color in marked:
        point = curve.iloc[[int((curve["threshold"] - value).abs().argmin())]]
        figure.add_trace(
            go.Scatter(
                name=title,
                x=point["recall"],
                y=point["precision"],
                customdata=point["threshold"],
                mode="markers",
                marker={"color": color, "size": 11},
                hovertemplate=hover,
            )
        )
    figure.update_xaxes(title_text="recall", range=[0, 1.02], dtick=0.2)
    figure.update_yaxes(title_text="precision", range=[0, 1.02], dtick=0.2)
    return apply_theme(figure, height=CURVE_HEIGHT)


def objects_chart(counts: NDArray[np.int64], classes: Sequence[str]) -> go.Figure:
    """Draw the share of the objects that is found, by size: of all classes, and of each but the background (the first).

    `counts`: (classes, sizes, 2), objects and those that are found, see `metrics.object_recall`.
    """
    sizes = [size.replace("_", " ") for size in SIZES]
    rows = [("all classes", counts.sum(axis=0))]
    if 2 < len(classes) <= len(PALETTE):
        rows += list(zip(classes[1:], counts[1:], strict=True))
    figure = go.Figure()
    for (name, of_class), color in zip(rows, PALETTE, strict=False):
        figure.add_trace(
            go.Bar(
                name=name,
                x=sizes,
                y=[None if np.isnan(value) else value for value in recall(of_class).tolist()],
                customdata=of_class,
                marker={"color": color, "line": {"width": 0}},
                hovertemplate=f"{name}, " + "%{x}<br>%{customdata[1]:,} of %{customdata[0]:,} found<extra></extra>",
            )
        )
    counted = [f"{hits} of {objects}" if objects else "none" for objects, hits in rows[0][1]]
    figure.update_xaxes(
        title_text="diameter in pixels; found, of all classes",
        type="category",
        tickvals=sizes,
        ticktext=[f"{size}<br>{words}" for size, words in zip(sizes, counted, strict=True)],
    )
    figure.update_yaxes(title_text="share found", range=[0, 1.08], dtick=0.2)
    figure.update_layout(barmode="group", bargap=0.25)
    return apply_theme(figure, height=CURVE_HEIGHT)


def interval_chart(intervals: pd.DataFrame, titles: Mapping[str, str]) -> go.Figure:
    """Draw each score of `titles` as a point, its interval as a bar; hollow where the interval is not to be trusted.

    `intervals`: columns score, value, low, high, trusted; those without an interval are left out.
    """
    rows = intervals.set_index("score")[["value", "low", "high", "trusted"]].dropna()
    names = [name for name in titles if name in rows.index][:MOST_INTERVALS]
    shown = rows.loc[names]
    figure = go.Figure(
        go.Scatter(
            x=shown["value"].tolist(),
            y=[titles[name] for name in names],
            mode="markers",
            marker={
                "size": 9,
                "color": PALETTE[0],
                "symbol": ["circle" if trusted else "circle-open" for trusted in shown["trusted"].astype(bool)],
            },
            error_x=build_error_bars(shown, color=PALETTE[0], thickness=2, width=5),
            customdata=shown[["low", "high"]].to_numpy().tolist(),
            hovertemplate="%{y}<br>%{x:.4f} [%{customdata[0]:.4f}, %{customdata[1]:.4f}]<extra></extra>",
        )
    )
    figure.update_xaxes(nticks=6, tickangle=0)
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], type="category", tickfont={"size": 12})
    apply_theme(figure, height=70 + ROW_HEIGHT * max(1, len(names)))
    figure.update_layout(margin_t=12)
    return figure


def folds_chart(metrics: Mapping[str, float | None]) -> go.Figure:
    """Draw the scores of every fold (see `out_of_fold_scores`) as points, those over all samples as dotted lines."""
    figure = go.Figure()
    for (score, title), color in zip(MEAN_SCORES.items(), PALETTE, strict=False):
        matches = (re.fullmatch(rf"cv/fold_(\d+)/{score}", name) for name in metrics)
        folds = sorted(int(match[1]) for match in matches if match)
        figure.add_trace(
            go.Scatter(
                name=title,
                x=[str(fold) for fold in folds],
                y=[metrics[f"cv/fold_{fold}/{score}"] for fold in folds],
                mode="markers",
                marker={"color": color, "size": 11},
                hovertemplate="fold %{x}<br>" + title + " %{y:.4f}<extra></extra>",
            )
        )
        if (overall := metrics.get(score)) is not None:
            figure.add_hline(
                y=overall,
                line={"color": color, "dash": "dot", "width": 1.5},
                annotation={"text": f"{title} over all samples: {overall:.4f}", "font": {"size": 12}},
                annotation_position="bottom right",
            )
    figure.update_xaxes(title_text="held-out fold", type="category")
    figure.update_yaxes(title_text="score")
    return apply_theme(figure, height=360)
