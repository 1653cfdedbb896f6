"""Scores of a cross-validation: every image counted once, by the network of the fold that held it out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from unet_segmentation.metrics.definitions import scores

BY_FOLD = ("dice/mean", "iou/mean")


def out_of_fold_scores(confusion: pd.DataFrame, soft: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    """Score all folds together, and each by itself.

    The score over all images is no mean of the folds' scores: counts are summed first. The deviation is that of a
    sample (divided by folds - 1). The folds' trainings share most of their samples, so it underestimates how much a
    training on other data would differ (Bengio and Grandvalet 2004, "No unbiased estimator of the variance of K-fold
    cross-validation").

    Args:
        confusion: sparse counts per image: fold, sample_id, truth, prediction, count.
        soft: the article's sums per image: fold, sample_id, intersection, truth, prediction. It names all images.
        classes: names of the classes.

    Returns:
        Every score of :func:`metrics.scores` over all images; `cv/fold_<fold>/<score>` for those of `BY_FOLD`;
        `cv/<score>/mean` and `cv/<score>/std` over the folds. NaN where undefined.
    """
    found = scores(confusion, soft, classes)
    numbers = sorted(soft["fold"].unique().tolist())
    by_fold = [scores(confusion[confusion["fold"] == n], soft[soft["fold"] == n], classes) for n in numbers]
    for fold, of_fold in zip(numbers, by_fold, strict=True):
        found |= {f"cv/fold_{fold}/{name}": of_fold[name] for name in BY_FOLD}
    for name in BY_FOLD:
        values = np.array([of_fold[name] for of_fold in by_fold])
        found |= {f"cv/{name}/mean": float(values.mean()), f"cv/{name}/std": float(values.std(ddof=1))}
    return found
