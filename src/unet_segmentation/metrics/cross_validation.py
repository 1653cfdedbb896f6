"""Scores of a cross-validation: every image counted once, by the model of the fold that held it out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.scores import compute_scores

BY_FOLD = ("dice/mean", "iou/mean")


def out_of_fold_scores(tables: EvaluationTables, classes: Sequence[str]) -> dict[str, float]:
    """Compute the scores of all folds together, and those of each by itself.

    The score over all images is no mean of the folds' scores: counts are summed first. The deviation is that of a
    sample (divided by folds - 1). The folds' models share most of their training samples, so it underestimates how much
    a model of other data would differ (Bengio and Grandvalet 2004, "No unbiased estimator of the variance of K-fold
    cross-validation").

    Args:
        tables: counts per image, each table with a column `fold`.
        classes: names of the classes.

    Returns:
        Every score of `compute_scores` over all images; `cv/fold_<fold>/<score>` for those of `BY_FOLD`;
        `cv/<score>/mean` and `cv/<score>/std` over the folds. NaN where undefined.
    """
    scores = compute_scores(tables, classes)
    folds = sorted(tables.soft["fold"].unique().tolist())
    scores_by_fold = [compute_scores(tables.where("fold", fold), classes) for fold in folds]
    for fold, fold_scores in zip(folds, scores_by_fold, strict=True):
        scores |= {f"cv/fold_{fold}/{name}": fold_scores[name] for name in BY_FOLD}
    for name in BY_FOLD:
        values = np.array([fold_scores[name] for fold_scores in scores_by_fold])
        scores |= {f"cv/{name}/mean": float(values.mean()), f"cv/{name}/std": float(values.std(ddof=1))}
    return scores
