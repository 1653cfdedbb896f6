"""Charts of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from unet_segmentation.figures.style import PALETTE, styled
from unet_segmentation.scoring.metrics import slugs

MEASURES = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall"}
CELLS_WITH_TEXT = 15  # classes; with more, a number would not fit into its cell


def confusion_chart(matrix: NDArray[np.int64], classes: Sequence[str]) -> go.Figure:
    """Draw a confusion matrix: each row (true class) as shares that sum to 1; the pixel counts on hover.

    Args:
        matrix: (classes, classes), truth in the rows.
        classes: names of the classes.
    """
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
    styled(figure, height=150 + max(150, min(46 * len(classes), 640)))
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_layout(margin_t=16)
    return figure


def class_chart(metrics: Mapping[str, float | None], classes: Sequence[str]) -> go.Figure:
    """Draw Dice, IoU, precision and recall of every class as bars.

    Args:
        metrics: name to value; None where a score is undefined.
        classes: names of the classes.
    """
    figure = go.Figure()
    for (measure, title), colour in zip(MEASURES.items(), PALETTE, strict=False):
        figure.add_trace(
            go.Bar(
                name=title,
                y=list(classes),
                x=[metrics.get(f"{measure}/class/{slug}") for slug in slugs(classes)],
                orientation="h",
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="%{y}<br>" + title + " %{x:.4f}<extra></extra>",
            )
        )
    figure.update_xaxes(range=[0, 1.0], dtick=0.2)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_layout(barmode="group", bargap=0.25)
    return styled(figure, height=120 + max(140, 52 * len(classes)))
