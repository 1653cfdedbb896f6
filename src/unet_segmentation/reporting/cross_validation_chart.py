"""The chart of a cross-validation."""

from __future__ import annotations

import re
from collections.abc import Mapping

import plotly.graph_objects as go

from unet_segmentation.reporting.plotly_theme import PALETTE, styled

SCORES = {"dice/mean": "mean Dice", "iou/mean": "mean IoU"}


def folds_chart(metrics: Mapping[str, float | None]) -> go.Figure:
    """Draw the scores of every fold as points, and those over all samples as dotted lines.

    Args:
        metrics: name to value, as `scoring.folds.out_of_fold_scores` names them; None where undefined.
    """
    figure = go.Figure()
    for (score, title), colour in zip(SCORES.items(), PALETTE, strict=False):
        matches = (re.fullmatch(rf"cv/fold_(\d+)/{score}", name) for name in metrics)
        folds = sorted(int(match[1]) for match in matches if match)
        figure.add_trace(
            go.Scatter(
                name=title,
                x=[str(fold) for fold in folds],
                y=[metrics[f"cv/fold_{fold}/{score}"] for fold in folds],
                mode="markers",
                marker={"color": colour, "size": 11},
                hovertemplate="fold %{x}<br>" + title + " %{y:.4f}<extra></extra>",
            )
        )
        if (together := metrics.get(score)) is not None:
            figure.add_hline(
                y=together,
                line={"color": colour, "dash": "dot", "width": 1.5},
                annotation={"text": f"{title} over all samples: {together:.4f}", "font": {"size": 12}},
                annotation_position="bottom right",
            )
    figure.update_xaxes(title_text="held-out fold", type="category")
    figure.update_yaxes(title_text="score")
    return styled(figure, height=360)
