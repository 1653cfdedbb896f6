"""The scores of a split, of each of its images, and of a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from unet_segmentation.data.label_map import class_slugs
from unet_segmentation.metrics.basis import EvaluationSettings
from unet_segmentation.metrics.confusion_matrix import ClassCounts
from unet_segmentation.metrics.definitions import METRICS, iou_per_class, names_of
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.sufficient_statistics import UnitSums, sums_of_images

IMAGE_COLUMNS = ("iou/per_image_mean", "dice/per_image_mean", "accuracy/pixel")  # the first of the image scores
BY_FOLD = ("dice/mean", "iou/mean")
THRESHOLD = "optimal_threshold/value"


def compute_scores(
    tables: EvaluationTables, classes: Sequence[str], threshold: float | None = None
) -> dict[str, float]:
    """Compute every score of a split, as far as there are tables for it.

    Args:
        tables: counts per image.
        classes: their names.
        threshold: of the foreground, chosen on another split.

    Returns:
        Name to value, in the order of `METRICS`; NaN where a score is undefined.
    """
    sums = UnitSums.of(tables, classes, threshold=threshold)
    values = dict(zip(sums.names, sums.scores(sums.total).tolist(), strict=True))
    if threshold is not None and "threshold" in sums.shapes:
        values[THRESHOLD] = threshold
    ordered = (name for metric in METRICS for name in names_of(metric, classes))
    return {name: values[name] for name in ordered if name in values}


def compute_image_scores(tables: EvaluationTables, classes: Sequence[str]) -> pd.DataFrame:
    """Compute the scores of every image by itself, from the tables `confusion` and `soft`.

    Returns:
        Columns sample_id, `IMAGE_COLUMNS`, those of the soft overlap, `iou/class/...` and `pixels` (counted ones); the
        worst `iou/per_image_mean` first, images without a counted pixel last.
    """
    used = EvaluationTables({name: tables[name] for name in ("confusion", "soft")})
    sums = sums_of_images(used, EvaluationSettings(len(classes)))
    values = {
        metric.name: metric.function(sums[metric.basis])
        for metric in METRICS
        if metric.function is not None and (metric.name in IMAGE_COLUMNS or metric.basis == "soft")
    }
    table = pd.DataFrame({"sample_id": tables.soft["sample_id"]})
    for name in (*IMAGE_COLUMNS, *(name for name in values if name not in IMAGE_COLUMNS)):
        table[name] = values[name]
    counts = ClassCounts.from_array(sums["confusion"])
    for slug, column in zip(class_slugs(classes), iou_per_class(counts).T, strict=True):
        table[f"iou/class/{slug}"] = column
    table["pixels"] = counts.support.sum(axis=-1)
    return table.sort_values([IMAGE_COLUMNS[0], "sample_id"], na_position="last", ignore_index=True)


def out_of_fold_scores(tables: EvaluationTables, classes: Sequence[str]) -> dict[str, float]:
    """Compute the scores of a cross-validation, of all folds together and of each, from tables with a column `fold`.

    Every image is counted once, by the model of the fold that held it out. The score over all images is no mean of the
    folds' scores: counts are summed first. The deviation is that of a sample (divided by folds - 1). The folds' models
    share most of their training samples, so it underestimates how much a model of other data would differ (Bengio and
    Grandvalet 2004, "No unbiased estimator of the variance of K-fold cross-validation").

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
