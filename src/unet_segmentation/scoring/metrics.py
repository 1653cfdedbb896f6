"""The scores: one table of definitions, from which values, documentation and descriptions are made.

One rule for absent classes: a class is undefined (NaN) and left out of means only where it occurs neither in the truth
nor in the prediction (TP + FP + FN = 0). Wherever it occurs in one of them, 0 / 0 counts as 0.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.scoring.counting import ClassCounts, class_counts

Values = NDArray[np.float64]

CLASS = "<class>"  # stands in a metric's name for the slug of a class


# --- arithmetic: the last axis is the class, what stands before it (images, resamples) is up to the caller ---


def iou_per_class(counts: ClassCounts) -> Values:
    """Intersection over union, TP / (TP + FP + FN)."""
    return _ratio(counts.hits, counts.union, counts)


def dice_per_class(counts: ClassCounts) -> Values:
    """Dice coefficient, also called F1: 2 TP / (2 TP + FP + FN)."""
    return _ratio(2 * counts.hits, counts.truth + counts.predicted, counts)


def precision_per_class(counts: ClassCounts) -> Values:
    """Share of the pixels predicted as the class that are of it, TP / (TP + FP)."""
    return _ratio(counts.hits, counts.predicted, counts)


def recall_per_class(counts: ClassCounts) -> Values:
    """Share of the class's pixels that were found, TP / (TP + FN)."""
    return _ratio(counts.hits, counts.truth, counts)


def pixel_accuracy(counts: ClassCounts) -> Values:
    """Share of all pixels that are right."""
    return _divided(counts.hits.sum(axis=-1), counts.truth.sum(axis=-1))


def class_accuracy(counts: ClassCounts) -> Values:
    """Recall, averaged over the classes that occur in the truth."""
    return mean_of_defined(_divided(counts.hits, counts.truth))


def frequency_weighted_iou(counts: ClassCounts) -> Values:
    """IoU, weighted by each class's share of the true pixels."""
    weighted = np.nansum(counts.truth * iou_per_class(counts), axis=-1)
    return _divided(weighted, counts.truth.sum(axis=-1))


def smoothed_iou(soft: Values) -> Values:
    """The article's IoU of each image, (I + 1) / (sum t + sum p - I + 1), from (images, 3) sums I, sum t, sum p."""
    intersection, truth, prediction = soft.T
    return np.where(truth == 0, np.nan, (intersection + 1) / (truth + prediction - intersection + 1))


def smoothed_dice(soft: Values) -> Values:
    """The article's Dice of each image, (2 I + 1) / (sum t + sum p + 1), from (images, 3) sums I, sum t, sum p."""
    intersection, truth, prediction = soft.T
    return np.where(truth == 0, np.nan, (2 * intersection + 1) / (truth + prediction + 1))


def mean_of_defined(values: NDArray, axis: int = -1) -> Values:
    """Average what is not NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return _divided(np.where(defined, values, 0.0).sum(axis=axis), defined.sum(axis=axis))


def _divided(above: NDArray, below: NDArray) -> Values:
    """Divide; NaN where the denominator is 0."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)


def _ratio(above: NDArray, below: NDArray, counts: ClassCounts) -> Values:
    """Divide under the rule for absent classes: 0 / 0 is 0 where the class occurs at all, else NaN."""
    return np.where(counts.union == 0, np.nan, np.nan_to_num(_divided(above, below)))


# --- the table ---


@dataclass(frozen=True)
class Metric:
    """The definition of a score.

    Attributes:
        name: as it stands in metrics.json, in MLflow and in the report; `<class>` stands for the slug of each class.
        title: for people.
        formula: with TP, FP, FN per class, or the article's sums.
        aggregation: over what it is summed and averaged.
        range: smallest and largest value.
        absent: what a class that does not occur does to it.
        source: where the definition comes from.
        basis: what `function` is given: `split` (counts of the whole split, gives one value), `class` (the same, gives
            a value per class), `image` (counts per image, gives a value per image, averaged), `soft` (the article's
            sums per image, gives a value per image, averaged).
        function: see `basis`.
    """

    name: str
    title: str
    formula: str
    aggregation: str
    source: str
    basis: Literal["split", "class", "image", "soft"]
    function: Callable[[Any], Values]
    absent: str = "left out where TP + FP + FN = 0"
    range: str = "0 to 1"


_IOU, _DICE = "TP / (TP + FP + FN)", "2 TP / (2 TP + FP + FN)"
_PRECISION, _RECALL = "TP / (TP + FP)", "TP / (TP + FN)"
_SPLIT = "counts summed over the whole split"
_CLASSES = f"{_SPLIT}; unweighted mean over all declared classes, background included"
_FOREGROUND = f"{_SPLIT}; unweighted mean over all declared classes but class 0"
_PER_CLASS = f"{_SPLIT}; one value per class"
_IMAGES = "mean over the classes within each image, then mean over the images"
_JACCARD = "Jaccard 1912; Everingham et al. 2010 (Pascal VOC)"
_SORENSEN = "Dice 1945, Sørensen 1948"
_RIJSBERGEN = "van Rijsbergen 1979"
_FCN = "Long, Shelhamer, Darrell 2015 (FCN)"
_ARTICLE = "the article, on class probabilities p and one-hot truth t; I = sum of p t"
_NULL = "null where TP + FP + FN = 0"
_ZERO = "left out where TP + FP + FN = 0; 0 / 0 otherwise counts as 0"
_IMAGE_ABSENT = (
    "left out of an image's mean where TP + FP + FN = 0 in that image; images without a counted pixel are left out"
)
_SOFT_ABSENT = "adds nothing: classes are summed, not averaged; images without a counted pixel are left out"
_SOFT_MEAN = "summed per image over height, width and classes, ignored pixels out; mean over the images"


def _foreground(function: Callable[[ClassCounts], Values]) -> Callable[[ClassCounts], Values]:
    return lambda counts: mean_of_defined(function(counts)[..., 1:])


def _mean(function: Callable[[ClassCounts], Values]) -> Callable[[ClassCounts], Values]:
    return lambda counts: mean_of_defined(function(counts))


METRICS: tuple[Metric, ...] = (
    Metric("dice/mean", "Mean Dice", _DICE, _CLASSES, _SORENSEN, "split", _mean(dice_per_class)),
    Metric("iou/mean", "Mean IoU", _IOU, _CLASSES, _JACCARD, "split", _mean(iou_per_class)),
    Metric(
        "dice/foreground_mean", "Mean Dice without background", _DICE, _FOREGROUND, _SORENSEN, "split",
        _foreground(dice_per_class),
    ),
    Metric(
        "iou/foreground_mean", "Mean IoU without background", _IOU, _FOREGROUND, _JACCARD, "split",
        _foreground(iou_per_class),
    ),
    Metric(
        "dice/image_mean", "Mean Dice per image", _DICE, _IMAGES, _SORENSEN, "image", _mean(dice_per_class),
        _IMAGE_ABSENT,
    ),
    Metric(
        "iou/image_mean", "Mean IoU per image", _IOU, _IMAGES, _JACCARD, "image", _mean(iou_per_class),
        _IMAGE_ABSENT,
    ),
    Metric(
        "iou/frequency_weighted", "Frequency-weighted IoU", "sum over classes of (share of the true pixels) x IoU",
        _SPLIT, _FCN, "split", frequency_weighted_iou, "weight 0",
    ),
    Metric(
        "accuracy/pixel", "Pixel accuracy", "sum of TP / sum of (TP + FN)", _SPLIT, _FCN, "split", pixel_accuracy,
        "adds nothing",
    ),
    Metric(
        "accuracy/class_mean", "Mean class accuracy", _RECALL, f"{_SPLIT}; mean over the classes in the truth", _FCN,
        "split", class_accuracy, "left out where TP + FN = 0",
    ),
    Metric(
        "precision/mean", "Mean precision", _PRECISION, _CLASSES, _RIJSBERGEN, "split", _mean(precision_per_class),
        _ZERO,
    ),
    Metric("recall/mean", "Mean recall", _RECALL, _CLASSES, _RIJSBERGEN, "split", _mean(recall_per_class), _ZERO),
    Metric(f"dice/class/{CLASS}", "Dice of a class", _DICE, _PER_CLASS, _SORENSEN, "class", dice_per_class, _NULL),
    Metric(f"iou/class/{CLASS}", "IoU of a class", _IOU, _PER_CLASS, _JACCARD, "class", iou_per_class, _NULL),
    Metric(
        f"precision/class/{CLASS}", "Precision of a class", _PRECISION, _PER_CLASS, _RIJSBERGEN, "class",
        precision_per_class, f"{_NULL}; 0 where it occurs but is never predicted",
    ),
    Metric(
        f"recall/class/{CLASS}", "Recall of a class", _RECALL, _PER_CLASS, _RIJSBERGEN, "class",
        recall_per_class, f"{_NULL}; 0 where it is predicted but does not occur",
    ),
    Metric(
        "article/iou_smooth1", "IoU as in the article", "(I + 1) / (sum t + sum p - I + 1)", _SOFT_MEAN, _ARTICLE,
        "soft", smoothed_iou, _SOFT_ABSENT, "above 0 to 1",
    ),
    Metric(
        "article/dice_smooth1", "Dice as in the article", "(2 I + 1) / (sum t + sum p + 1)", _SOFT_MEAN, _ARTICLE,
        "soft", smoothed_dice, _SOFT_ABSENT, "above 0 to 1",
    ),
)  # fmt: skip

PER_IMAGE = ("iou/image_mean", "dice/image_mean", "accuracy/pixel")  # columns of the table of image scores


def slugs(classes: Sequence[str]) -> list[str]:
    """Turn class names into the last part of metric names: lower case, digits and underscores, each once."""
    taken: list[str] = []
    for number, name in enumerate(classes):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or f"class_{number}"
        while slug in taken:
            slug += f"_{number}"
        taken.append(slug)
    return taken


def global_scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Score one confusion matrix: everything that needs no single image.

    Args:
        matrix: (classes, classes), truth in the rows, prediction in the columns.
        classes: names of the classes.

    Returns:
        Name to value; NaN where a score is undefined.
    """
    return _scores(ClassCounts.of(np.asarray(matrix)), classes)


def scores(confusion: pd.DataFrame, soft: pd.DataFrame, classes: Sequence[str]) -> dict[str, float]:
    """Compute every score of a split.

    Args:
        confusion: sparse counts per image: sample_id, truth, prediction, count.
        soft: the article's sums per image: sample_id, intersection, truth, prediction. It names all images.
        classes: names of the classes.

    Returns:
        Name to value, in the order of `METRICS`; NaN where a score is undefined.
    """
    images = class_counts(confusion, len(classes), soft["sample_id"].tolist())
    known = _scores(images.total(), classes)
    for metric in METRICS:
        if metric.basis in ("image", "soft"):
            values = metric.function(images if metric.basis == "image" else soft_sums(soft))
            known[metric.name] = float(mean_of_defined(values))
    order = [name for metric in METRICS for name in names_of(metric, classes)]
    return {name: known[name] for name in order}


def image_scores(confusion: pd.DataFrame, soft: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Score every image by itself.

    Args:
        confusion: see `scores`.
        soft: see `scores`.
        classes: names of the classes.

    Returns:
        Columns sample_id, the scores of `PER_IMAGE`, the article's, `iou/class/...` and `pixels` (counted ones); the
        worst `iou/image_mean` first, images without a counted pixel last.
    """
    images = class_counts(confusion, len(classes), soft["sample_id"].tolist())
    table = pd.DataFrame({"sample_id": soft["sample_id"]})
    for metric in METRICS:
        if metric.name in PER_IMAGE:
            table[metric.name] = metric.function(images)
        elif metric.basis == "soft":
            table[metric.name] = metric.function(soft_sums(soft))
    table = table[["sample_id", *PER_IMAGE, *(name for name in table if name not in ("sample_id", *PER_IMAGE))]]
    for slug, values in zip(slugs(classes), iou_per_class(images).T, strict=True):
        table[f"iou/class/{slug}"] = values
    table["pixels"] = images.truth.sum(axis=-1)
    return table.sort_values([PER_IMAGE[0], "sample_id"], na_position="last", ignore_index=True)


def describe(name: str) -> Metric | None:
    """Find the definition of a score by its name (`iou/class/nucleus` is found under `iou/class/<class>`)."""
    pattern = re.sub(r"/class/.*", f"/class/{CLASS}", name)
    return next((metric for metric in METRICS if metric.name == pattern), None)


def _scores(counts: ClassCounts, classes: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in METRICS:
        if metric.basis in ("split", "class"):
            values = np.atleast_1d(metric.function(counts))
            found.update(zip(names_of(metric, classes), map(float, values), strict=True))
    return found


def names_of(metric: Metric, classes: Sequence[str]) -> list[str]:
    """Give the names of a metric's values: one, or one per class."""
    if metric.basis != "class":
        return [metric.name]
    return [metric.name.replace(CLASS, slug) for slug in slugs(classes)]


def soft_sums(soft: pd.DataFrame) -> Values:
    """Take the article's sums of each image from their table: (images, 3), I, sum t, sum p."""
    return soft[["intersection", "truth", "prediction"]].to_numpy(np.float64)
