"""The metrics: one table of definitions, from which values, documentation and descriptions are made.

One rule for absent classes: a class is undefined (NaN) and left out of means only where it occurs neither in the truth
nor in the prediction (TP + FP + FN = 0). Wherever it occurs in one of them, 0 / 0 counts as 0.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.metrics import boundary, calibration, object_recall, thresholds
from unet_segmentation.metrics.basis import Basis
from unet_segmentation.metrics.confusion_matrix import ClassCounts, Confusion
from unet_segmentation.metrics.count_tables import divided, mean_of_defined
from unet_segmentation.metrics.soft_overlap import SoftOverlap

Values = NDArray[np.float64]

# What the metrics are computed from. A metric of a new kind is one more basis here and its entries in `METRICS`.
BASES: tuple[type[Basis], ...] = (
    Confusion, SoftOverlap, calibration.Calibration, object_recall.Objects, boundary.Boundary, thresholds.Foreground,
)  # fmt: skip

CLASS, SIZE = "<class>", "<size>"  # stand in a metric's name for the slug of a class, and for a size of objects


# --- arithmetic: the last axis is the class, what stands before it (images, resamples) is up to the caller ---


def iou_per_class(counts: ClassCounts) -> Values:
    """Intersection over union, TP / (TP + FP + FN)."""
    return _ratio(counts.tp, counts.union, counts)


def dice_per_class(counts: ClassCounts) -> Values:
    """Dice coefficient, also called F1: 2 TP / (2 TP + FP + FN)."""
    return _ratio(2 * counts.tp, counts.support + counts.predicted, counts)


def precision_per_class(counts: ClassCounts) -> Values:
    """Share of the pixels predicted as the class that are of it, TP / (TP + FP)."""
    return _ratio(counts.tp, counts.predicted, counts)


def recall_per_class(counts: ClassCounts) -> Values:
    """Share of the class's pixels that were predicted as it, TP / (TP + FN)."""
    return _ratio(counts.tp, counts.support, counts)


def pixel_accuracy(counts: ClassCounts) -> Values:
    """Share of all pixels that are correct."""
    return divided(counts.tp.sum(axis=-1), counts.support.sum(axis=-1))


def class_accuracy(counts: ClassCounts) -> Values:
    """Recall, averaged over the classes that occur in the truth."""
    return mean_of_defined(divided(counts.tp, counts.support))


def frequency_weighted_iou(counts: ClassCounts) -> Values:
    """IoU, weighted by each class's share of the true pixels."""
    weighted = np.nansum(counts.support * iou_per_class(counts), axis=-1)
    return divided(weighted, counts.support.sum(axis=-1))


def soft_iou(soft: Values) -> Values:
    """Smoothed soft IoU of images, (I + 1) / (sum t + sum p - I + 1), from (images, 3) sums I, sum t, sum p."""
    intersection, truth, prediction = soft.T
    return np.where(truth == 0, np.nan, (intersection + 1) / (truth + prediction - intersection + 1))


def soft_dice(soft: Values) -> Values:
    """Smoothed soft Dice of images, (2 I + 1) / (sum t + sum p + 1), from (images, 3) sums I, sum t, sum p."""
    intersection, truth, prediction = soft.T
    return np.where(truth == 0, np.nan, (2 * intersection + 1) / (truth + prediction + 1))


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any], counts: ClassCounts) -> Values:
    """Divide under the rule for absent classes: 0 / 0 is 0 where the class occurs at all, else NaN."""
    return np.where(counts.union == 0, np.nan, np.nan_to_num(divided(numerator, denominator)))


# --- the table ---


@dataclass(frozen=True)
class Metric:
    """The definition of a metric.

    Attributes:
        name: as it stands in metrics.json, in MLflow and in the report; `<class>` stands for the slug of each class.
        title: for people.
        formula: with TP, FP, FN per class, or the sums of `SoftOverlapSums`.
        aggregation: over what it is summed and averaged.
        range: smallest and largest value.
        better: whether a higher or a lower value is better.
        absent: what a class that does not occur does to it.
        source: where the definition comes from.
        basis: name of the sums that it is computed from, as `Basis.unit_sums` of one of the `BASES` names them.
        function: of the sums of a split (..., *shape), with resamples in front; gives one value, or one per class or
            size, as the name says. None where the value is no function of sums.
        per_image: whether `function` is applied to the sums of every image, and its values are averaged.
    """

    name: str
    title: str
    formula: str
    aggregation: str
    source: str
    basis: str
    function: Callable[[Values], Values] | None
    absent: str = "left out where TP + FP + FN = 0"
    range: str = "0 to 1"
    better: Literal["higher", "lower"] = "higher"
    per_image: bool = False


_IOU, _DICE = "TP / (TP + FP + FN)", "2 TP / (2 TP + FP + FN)"
_PRECISION, _RECALL = "TP / (TP + FP)", "TP / (TP + FN)"
_SPLIT = "counts summed over the whole split"
_CLASSES = f"{_SPLIT}; unweighted mean over all declared classes, background included"
_FOREGROUND = f"{_SPLIT}; unweighted mean over all declared classes but class 0"
_PER_CLASS = f"{_SPLIT}; one value per class"
_POOLED = f"{_SPLIT} and over all classes"
_POOLED_FOREGROUND = f"{_SPLIT} and over all classes but class 0"
_IMAGES = "mean over the classes within each image, then mean over the images"
_FOREGROUND_IMAGES = "mean over the classes but class 0 within each image, then mean over the images"
_BINARY = "the foreground (class 1) of a problem of two classes; " + _SPLIT
_THRESHOLD = f"{_BINARY}; a pixel is foreground where its probability is at least the threshold"
_CONTOURS = "per image and class, mean over the images in which it is defined"
_JACCARD = "Jaccard 1912; Everingham et al. 2010 (Pascal VOC)"
_SORENSEN = "Dice 1945, Sørensen 1948"
_RIJSBERGEN = "van Rijsbergen 1979"
_FCN = "Long, Shelhamer, Darrell 2015 (FCN)"
_ARTICLE = "the article, on class probabilities p and one-hot truth t; I = sum of p t"
_GUO = "Guo, Pleiss, Sun, Weinberger 2017"
_CHENG = "Cheng, Girshick, Dollár, Berg, Kirillov 2021"
_NIKOLOV = "Nikolov et al. 2018; Seidlitz et al. 2022; on pixels, as MONAI"
_HUTTENLOCHER = "Huttenlocher et al. 1993; Maier-Hein et al. 2024 (Metrics Reloaded)"
_LEFT_OUT = "left out where TP + FP + FN = 0"
_NULL = "null where TP + FP + FN = 0"
_ZERO = "left out where TP + FP + FN = 0; 0 / 0 otherwise counts as 0"
_IMAGE_ABSENT = (
    "left out of an image's mean where TP + FP + FN = 0 in that image; images without a counted pixel are left out"
)
_POOLED_ABSENT = "adds nothing: classes are summed, not averaged; null where none occurs"
_SOFT_ABSENT = "adds nothing: classes are summed, not averaged; images without a counted pixel are left out"
_SOFT_MEAN = "summed per image over height, width and classes, ignored pixels out; mean over the images"
_BINARY_ABSENT = "null without true foreground; absent in problems of more classes"
_THRESHOLD_ABSENT = "null where TP + FP + FN = 0; absent in problems of more classes"
_BAND_ABSENT = "left out where neither band has a pixel"
_HD_ABSENT = "left out in images where the class is in neither mask; the image's diagonal where it is in one only"
_SD_ABSENT = "left out in images where the class is in neither mask; 0 where it is in one only"
_OBJECT_ABSENT = "null where there is no object"
_UNBOUNDED = "0 upwards, in pixels"


ClassFunction = Callable[[ClassCounts], Values]


def _counts(function: ClassFunction) -> Callable[[Values], Values]:
    return lambda sums: function(ClassCounts.from_array(sums))


def _mean(function: ClassFunction) -> ClassFunction:
    return lambda counts: mean_of_defined(function(counts))


def _foreground(function: ClassFunction) -> ClassFunction:
    return lambda counts: function(counts.foreground())


def _pooled(function: ClassFunction) -> ClassFunction:
    return lambda counts: function(counts.pooled())[..., 0]


def _family(
    measure: str, noun: str, formula: str, source: str, function: ClassFunction, absent: str = _LEFT_OUT
) -> Iterator[Metric]:
    """Define the means of a measure that has a value per class: over the split and per image, with and without 0."""
    without = f"{noun} without background"
    mean, pooled = _mean(function), _pooled(function)
    rows: tuple[tuple[str, str, str, bool, ClassFunction, str], ...] = (
        ("mean", f"Mean {noun}", _CLASSES, False, mean, absent),
        ("foreground_mean", f"Mean {without}", _FOREGROUND, False, _foreground(mean), absent),
        ("foreground_micro", f"Pooled {without}", _POOLED_FOREGROUND, False, _foreground(pooled), _POOLED_ABSENT),
        ("per_image_mean", f"Mean {noun} per image", _IMAGES, True, mean, _IMAGE_ABSENT),
        (
            "foreground_per_image_mean", f"Mean {without} per image", _FOREGROUND_IMAGES, True, _foreground(mean),
            f"{_IMAGE_ABSENT}, and images without foreground in both masks",
        ),
    )  # fmt: skip
    for name, title, aggregation, per_image, value, without_class in rows:
        yield Metric(
            f"{measure}/{name}", title, formula, aggregation, source, "confusion", _counts(value), without_class,
            per_image=per_image,
        )  # fmt: skip


def _contour_family(
    measure: Literal["boundary_iou", "hd95", "surface_dice"],
    noun: str,
    formula: str,
    each: str,
    source: str,
    absent: str,
    range_: str = "0 to 1",
    better: Literal["higher", "lower"] = "higher",
) -> Iterator[Metric]:
    """Define the means of a boundary measure that has a value per class, and these values."""
    ratio = boundary.ratio
    rows: tuple[tuple[str, str, str, Callable[[Values], Values]], ...] = (
        (
            "mean", f"Mean {noun}", f"{each}; unweighted mean over the classes, background included",
            lambda sums: mean_of_defined(ratio(sums)),
        ),
        (
            "foreground_mean", f"Mean {noun} without background",
            f"{each}; unweighted mean over the classes but class 0", lambda sums: mean_of_defined(ratio(sums)[..., 1:]),
        ),
        (f"class/{CLASS}", f"{noun} of a class", f"{each}; one value per class", ratio),
    )  # fmt: skip
    for name, title, aggregation, function in rows:
        name = f"{measure}/{name}"  # noqa: PLW2901
        yield Metric(name, title, formula, aggregation, source, measure, function, absent, range_, better)


METRICS: tuple[Metric, ...] = (
    *_family("dice", "Dice", _DICE, _SORENSEN, dice_per_class, _LEFT_OUT),
    *_family("iou", "IoU", _IOU, _JACCARD, iou_per_class, _LEFT_OUT),
    Metric(
        "iou/micro", "Pooled IoU", _IOU, _POOLED, _JACCARD, "confusion", _counts(_pooled(iou_per_class)),
        _POOLED_ABSENT,
    ),
    Metric(
        "iou/frequency_weighted", "Frequency-weighted IoU", "sum over classes of (share of the true pixels) x IoU",
        _SPLIT, _FCN, "confusion", _counts(frequency_weighted_iou), "weight 0",
    ),
    Metric(
        "iou/foreground_frequency_weighted", "Frequency-weighted IoU without background",
        "sum over classes but class 0 of (share of their true pixels) x IoU", _SPLIT, _FCN, "confusion",
        _counts(_foreground(frequency_weighted_iou)), "weight 0; null without true foreground",
    ),
    Metric(
        "accuracy/pixel", "Pixel accuracy", "sum of TP / sum of (TP + FN)",
        f"{_POOLED}; so pooled Dice, precision and recall, background included, are the same", _FCN, "confusion",
        _counts(pixel_accuracy), "adds nothing",
    ),
    Metric(
        "accuracy/class_mean", "Mean class accuracy", _RECALL, f"{_SPLIT}; mean over the classes in the truth", _FCN,
        "confusion", _counts(class_accuracy), "left out where TP + FN = 0",
    ),
    Metric(
        "accuracy/foreground_class_mean", "Mean class accuracy without background", _RECALL,
        f"{_SPLIT}; mean over the classes in the truth but class 0", _FCN, "confusion",
        _counts(_foreground(class_accuracy)), "left out where TP + FN = 0",
    ),
    *_family("precision", "precision", _PRECISION, _RIJSBERGEN, precision_per_class, _ZERO),
    *_family("recall", "recall", _RECALL, _RIJSBERGEN, recall_per_class, _ZERO),
    Metric(
        f"dice/class/{CLASS}", "Dice of a class", _DICE, _PER_CLASS, _SORENSEN, "confusion", _counts(dice_per_class),
        _NULL,
    ),
    Metric(
        f"iou/class/{CLASS}", "IoU of a class", _IOU, _PER_CLASS, _JACCARD, "confusion", _counts(iou_per_class), _NULL,
    ),
    Metric(
        f"precision/class/{CLASS}", "Precision of a class", _PRECISION, _PER_CLASS, _RIJSBERGEN, "confusion",
        _counts(precision_per_class), f"{_NULL}; 0 where it occurs but is never predicted",
    ),
    Metric(
        f"recall/class/{CLASS}", "Recall of a class", _RECALL, _PER_CLASS, _RIJSBERGEN, "confusion",
        _counts(recall_per_class), f"{_NULL}; 0 where it is predicted but does not occur",
    ),
    Metric(
        "soft_iou/smooth1", "IoU as in the article", "(I + 1) / (sum t + sum p - I + 1)", _SOFT_MEAN, _ARTICLE,
        "soft", soft_iou, _SOFT_ABSENT, "above 0 to 1", per_image=True,
    ),
    Metric(
        "soft_dice/smooth1", "Dice as in the article", "(2 I + 1) / (sum t + sum p + 1)", _SOFT_MEAN, _ARTICLE,
        "soft", soft_dice, _SOFT_ABSENT, "above 0 to 1", per_image=True,
    ),
    *_contour_family(
        "boundary_iou", "boundary IoU",
        "IoU of the bands along the contours, inside true and predicted mask, 2 % of the image's diagonal wide",
        "pixels summed over the whole split", _CHENG, _BAND_ABSENT,
    ),
    *_contour_family(
        "surface_dice", "surface Dice",
        "contour pixels, true and predicted, within `evaluation.surface_dice_tolerance_px` of the other contour / "
        "contour pixels",
        _CONTOURS, _NIKOLOV, _SD_ABSENT,
    ),
    *_contour_family(
        "hd95", "Hausdorff distance (95 %)",
        "95th percentile of the distances from each contour to the other, the larger of the two directions", _CONTOURS,
        _HUTTENLOCHER, _HD_ABSENT, _UNBOUNDED, "lower",
    ),
    Metric(
        "calibration/ece", "Expected calibration error",
        "sum over 15 equal bins of confidence of (share of the pixels) x abs(accuracy - mean confidence)",
        "pixels summed over the whole split; confidence is the probability of the predicted class", _GUO, "calibration",
        calibration.expected_calibration_error, "adds nothing", better="lower",
    ),
    Metric(
        "calibration/mce", "Maximum calibration error",
        "largest abs(accuracy - mean confidence) of 15 equal bins of confidence",
        "pixels summed over the whole split; bins without a pixel left out", _GUO, "calibration",
        calibration.maximum_calibration_error, "adds nothing", better="lower",
    ),
    Metric(
        "object_recall/global", "Object recall", "objects found / objects",
        "true objects of all classes but class 0 (connected, 8 neighbours), over the whole split; found: more than "
        "half of its pixels predicted as its class", "this project", "objects",
        lambda counts: object_recall.recall(counts.sum(axis=(-3, -2))), _OBJECT_ABSENT,
    ),
    Metric(
        f"object_recall/class/{CLASS}", "Object recall of a class", "objects found / objects",
        "as `object_recall/global`; one value per class", "this project", "objects",
        lambda counts: object_recall.recall(counts.sum(axis=-2)), f"{_OBJECT_ABSENT}; null for class 0",
    ),
    Metric(
        f"object_recall/size/{SIZE}", "Object recall of a size", "objects found / objects",
        "as `object_recall/global`; one value per size, the diameter in pixels of the circle of equal area",
        "this project; sizes apart as in COCO (Lin et al. 2014)", "objects",
        lambda counts: object_recall.recall(counts.sum(axis=-3)), _OBJECT_ABSENT,
    ),
    Metric(
        "average_precision", "Average precision", "sum over thresholds of precision x (gain of recall)",
        f"{_BINARY}; 256 thresholds", "Davis, Goadrich 2006; as scikit-learn", "foreground",
        thresholds.average_precision, _BINARY_ABSENT,
    ),
    Metric(
        "optimal_threshold/value", "Threshold",
        "threshold of the highest Dice of the foreground on the validation split",
        "chosen on validation, never on the split that is scored; of equal ones, the nearest to 0.5", "this project",
        "threshold", None, _BINARY_ABSENT,
    ),
    Metric(
        "at_optimal_threshold/dice", "Dice at the threshold", _DICE, _THRESHOLD, _SORENSEN, "threshold",
        _counts(dice_per_class), _THRESHOLD_ABSENT,
    ),
    Metric(
        "at_optimal_threshold/iou", "IoU at the threshold", _IOU, _THRESHOLD, _JACCARD, "threshold",
        _counts(iou_per_class), _THRESHOLD_ABSENT,
    ),
    Metric(
        "at_optimal_threshold/precision", "Precision at the threshold",
        _PRECISION, _THRESHOLD, _RIJSBERGEN, "threshold",
        _counts(precision_per_class), _THRESHOLD_ABSENT,
    ),
    Metric(
        "at_optimal_threshold/recall", "Recall at the threshold", _RECALL, _THRESHOLD, _RIJSBERGEN, "threshold",
        _counts(recall_per_class), _THRESHOLD_ABSENT,
    ),
)  # fmt: skip


def class_slugs(classes: Sequence[str]) -> list[str]:
    """Turn class names into the last part of metric names: lower case, digits and underscores, each once."""
    unique: list[str] = []
    for number, name in enumerate(classes):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or f"class_{number}"
        while slug in unique:
            slug += f"_{number}"
        unique.append(slug)
    return unique


def global_scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Compute the metrics of one confusion matrix: everything that needs no single image.

    Args:
        matrix: (classes, classes), truth in the rows, prediction in the columns.
        classes: names of the classes.

    Returns:
        Name to value; NaN where a metric is undefined.
    """
    sums = ClassCounts.of(np.asarray(matrix)).to_array()
    values: dict[str, float] = {}
    for metric in METRICS:
        if metric.basis == Confusion.name and metric.function is not None and not metric.per_image:
            named = zip(names_of(metric, classes), np.atleast_1d(metric.function(sums)).tolist(), strict=True)
            values.update(named)
    return values


def describe(name: str) -> Metric | None:
    """Find the definition of a metric by its name (`iou/class/nucleus` stands under `iou/class/<class>`)."""
    pattern = re.sub(r"/(class|size)/.*", r"/\1/<\1>", name)
    return next((metric for metric in METRICS if metric.name == pattern), None)


def names_of(metric: Metric, classes: Sequence[str]) -> list[str]:
    """Return the names of a metric's values: one, or one per class or size."""
    for mark, names in ((CLASS, class_slugs(classes)), (SIZE, object_recall.SIZES)):
        if mark in metric.name:
            return [metric.name.replace(mark, name) for name in names]
    return [metric.name]
