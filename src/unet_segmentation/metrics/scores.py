"""The scores of a split and of each of its images."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from unet_segmentation.metrics.basis import EvaluationSettings
from unet_segmentation.metrics.confusion_matrix import ClassCounts
from unet_segmentation.metrics.definitions import METRICS, class_slugs, iou_per_class, names_of
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.sufficient_statistics import UnitSums, sums_of_images

IMAGE_COLUMNS = (
    "iou/per_image_mean",
    "dice/per_image_mean",
    "accuracy/pixel",
)  # the first of the table of image scores
THRESHOLD = "optimal_threshold/value"


def compute_scores(
    tables: EvaluationTables, classes: Sequence[str], threshold: float | None = None
) -> dict[str, float]:
    """Compute every score of a split, as far as there are tables for it.

    Args:
        tables: counts per image.
        classes: names of the classes.
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
    """Compute the scores of every image by itself.

    Args:
        tables: counts per image, of which confusion and soft are used.
        classes: names of the classes.

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
