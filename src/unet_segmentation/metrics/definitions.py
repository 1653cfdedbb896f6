"""The metrics: one table of definitions, from which values, documentation and descriptions are made.

One rule for absent classes: a class is undefined (NaN) and left out of means only where it occurs neither in the truth
nor in the prediction (TP + FP + FN = 0). Wherever it occurs in one of them, 0 / 0 counts as 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.label_map import class_slugs
from unet_segmentation.metrics import boundary, calibration, object_recall, thresholds
from unet_segmentation.metrics.basis import Basis, divided, mean_of_defined
from unet_segmentation.metrics.confusion_matrix import ClassCounts, Confusion
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

    `function` takes the sums of a split (..., *shape), with resamples in front, and gives one value, or one per class
    or size, as the name says; None where the value is no function of sums.
    """

    name: str  # as in metrics.json, MLflow and the report; `<class>` stands for the slug of each class
    title: str  # for people
    formula: str  # with TP, FP, FN per class, or the sums of `SoftOverlapSums`
    aggregation: str  # over what it is summed and averaged
    source: str  # where the definition comes from
    basis: str  # name of the sums that it is computed from, as `Basis.unit_sums` of one of the `BASES` names them
    function: Callable[[Values], Values] | None
    absent: str = "left out where TP + FP + FN = 0"  # how classes absent from both masks are handled
    range: str = "0 to 1"
    better: Literal["higher", "lower"] = "higher"
    per_image: bool = False  # apply the function to the sums of every image, and average the values

    @property
    def definition(self) -> dict[str, str]:
        """Return what users read of it, by heading."""
        return {
            "meaning": self.title,
            "formula": self.formula,
            "aggregation": self.aggregation,
            "range": self.range + ("; lower is better" if self.better == "lower" else ""),
            "absent classes": self.absent,
            "source": self.source,
        }


_SPLIT = "counts summed over the whole split"
_PER_CLASS = f"{_SPLIT}; one value per class"
_MICRO = f"{_SPLIT} and over all classes"
_BINARY = f"the foreground (class 1) of a problem of two classes; {_SPLIT}"
_CONTOURS = "per image and class, mean over the images in which it is defined"
_JACCARD = "Jaccard 1912; Everingham et al. 2010 (Pascal VOC)"
_RIJSBERGEN = "van Rijsbergen 1979"
_FCN = "Long, Shelhamer, Darrell 2015 (FCN)"
_RASHID = "Rashid 2021 (Red Buffer), on class probabilities p and one-hot truth t; I = sum of p t"
_GUO = "Guo, Pleiss, Sun, Weinberger 2017"
_LEFT_OUT = "left out where TP + FP + FN = 0"
_ZERO = f"{_LEFT_OUT}; 0 / 0 otherwise counts as 0"
_IMAGE_ABSENT = (
    "left out of an image's mean where TP + FP + FN = 0 in that image; images without a counted pixel are left out"
)
_MICRO_ABSENT = "adds nothing: classes are summed, not averaged; null where none occurs"
_SOFT_ABSENT = "adds nothing: classes are summed, not averaged; images without a counted pixel are left out"
_SOFT_MEAN = "summed per image over height, width and classes, ignored pixels out; mean over the images"
_BINARY_ABSENT = "null without true foreground; absent in problems of more classes"
_CONTOUR_ABSENT = "left out in images where the class is in neither mask"
_OBJECT_ABSENT = "null where there is no object"

ClassFunction = Callable[[ClassCounts], Values]


class ClassMeasure(NamedTuple):
    """A measure that has a value for each class, from which metrics are made."""

    key: str  # the first part of their names
    noun: str  # for people
    formula: str
    source: str
    function: ClassFunction
    absent: str = _LEFT_OUT  # how classes absent from both masks are handled
    zero: str = ""  # when the value of a class is 0 for want of pixels

    @property
    def title(self) -> str:
        """Return the noun, as a title begins."""
        return self.noun[0].upper() + self.noun[1:]


DICE = ClassMeasure("dice", "Dice", "2 TP / (2 TP + FP + FN)", "Dice 1945, Sørensen 1948", dice_per_class)
IOU = ClassMeasure("iou", "IoU", "TP / (TP + FP + FN)", _JACCARD, iou_per_class)
PRECISION = ClassMeasure(
    "precision", "precision", "TP / (TP + FP)", _RIJSBERGEN, precision_per_class, _ZERO,
    "; 0 where it occurs but is never predicted",
)  # fmt: skip
RECALL = ClassMeasure(
    "recall", "recall", "TP / (TP + FN)", _RIJSBERGEN, recall_per_class, _ZERO,
    "; 0 where it is predicted but does not occur",
)  # fmt: skip
CLASS_MEASURES = (DICE, IOU, PRECISION, RECALL)


def _counts(function: ClassFunction) -> Callable[[Values], Values]:
    return lambda sums: function(ClassCounts.from_array(sums))


def _mean(function: ClassFunction) -> ClassFunction:
    return lambda counts: mean_of_defined(function(counts))


def _foreground(function: ClassFunction) -> ClassFunction:
    return lambda counts: function(counts.foreground())


def _micro(function: ClassFunction) -> ClassFunction:
    return lambda counts: function(counts.summed_over_classes())[..., 0]


def _means(measure: ClassMeasure) -> Iterator[Metric]:
    """Define the means of a measure: over the split and per image, with and without class 0."""
    noun, without = measure.noun, f"{measure.noun} without background"
    mean, micro = _mean(measure.function), _micro(measure.function)
    over_classes = f"{_SPLIT}; unweighted mean over all declared classes"
    per_image = "mean over the classes{} within each image, then mean over the images"
    rows: tuple[tuple[str, str, str, ClassFunction, str], ...] = (
        ("mean", f"Mean {noun}", f"{over_classes}, background included", mean, measure.absent),
        ("foreground_mean", f"Mean {without}", f"{over_classes} but class 0", _foreground(mean), measure.absent),
        ("foreground_micro", f"Micro-averaged {without}", f"{_MICRO} but class 0", _foreground(micro), _MICRO_ABSENT),
        ("per_image_mean", f"Mean {noun} per image", per_image.format(""), mean, _IMAGE_ABSENT),
        (
            "foreground_per_image_mean", f"Mean {without} per image", per_image.format(" but class 0"),
            _foreground(mean), f"{_IMAGE_ABSENT}, and images without foreground in both masks",
        ),
    )  # fmt: skip
    for name, title, aggregation, function, absent in rows:
        yield Metric(
            f"{measure.key}/{name}", title, measure.formula, aggregation, measure.source, "confusion",
            _counts(function), absent, per_image="per_image" in name,
        )  # fmt: skip


def _of_class(measure: ClassMeasure) -> Metric:
    """Define the values of a measure by class."""
    return Metric(
        f"{measure.key}/class/{CLASS}", f"{measure.title} of a class", measure.formula, _PER_CLASS, measure.source,
        "confusion", _counts(measure.function), f"null where TP + FP + FN = 0{measure.zero}",
    )  # fmt: skip


def _at_threshold(measure: ClassMeasure) -> Metric:
    """Define the value of a measure for the foreground at the threshold that was chosen."""
    return Metric(
        f"at_optimal_threshold/{measure.key}", f"{measure.title} at the threshold", measure.formula,
        f"{_BINARY}; a pixel is foreground where its probability is at least the threshold", measure.source,
        "threshold", _counts(measure.function), "null where TP + FP + FN = 0; absent in problems of more classes",
    )  # fmt: skip


def _contour_means(per_class: Metric) -> Iterator[Metric]:
    """Define the means of a boundary measure that has a value per class, and these values."""
    ratio, each, noun = boundary.ratio, per_class.aggregation, per_class.title
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
        yield replace(
            per_class, name=f"{per_class.name}/{name}", title=title, aggregation=aggregation, function=function
        )


METRICS: tuple[Metric, ...] = (
    *_means(DICE),
    *_means(IOU),
    Metric(
        "iou/micro", "Micro-averaged IoU", IOU.formula, _MICRO, _JACCARD, "confusion", _counts(_micro(iou_per_class)),
        _MICRO_ABSENT,
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
        f"{_MICRO}; so micro-averaged Dice, precision and recall, background included, are the same", _FCN, "confusion",
        _counts(pixel_accuracy), "adds nothing",
    ),
    Metric(
        "accuracy/class_mean", "Mean class accuracy", RECALL.formula, f"{_SPLIT}; mean over the classes in the truth",
        _FCN, "confusion", _counts(class_accuracy), "left out where TP + FN = 0",
    ),
    Metric(
        "accuracy/foreground_class_mean", "Mean class accuracy without background", RECALL.formula,
        f"{_SPLIT}; mean over the classes in the truth but class 0", _FCN, "confusion",
        _counts(_foreground(class_accuracy)), "left out where TP + FN = 0",
    ),
    *_means(PRECISION),
    *_means(RECALL),
    *(_of_class(measure) for measure in CLASS_MEASURES),
    Metric(
        "soft_iou/smooth1", "Smoothed soft IoU", "(I + 1) / (sum t + sum p - I + 1)", _SOFT_MEAN, _RASHID,
        "soft", soft_iou, _SOFT_ABSENT, "above 0 to 1", per_image=True,
    ),
    Metric(
        "soft_dice/smooth1", "Smoothed soft Dice", "(2 I + 1) / (sum t + sum p + 1)", _SOFT_MEAN, _RASHID,
        "soft", soft_dice, _SOFT_ABSENT, "above 0 to 1", per_image=True,
    ),
    *_contour_means(Metric(
        "boundary_iou", "boundary IoU",
        "IoU of the bands along the contours, inside true and predicted mask, 2 % of the image's diagonal wide",
        "pixels summed over the whole split", "Cheng, Girshick, Dollár, Berg, Kirillov 2021", "boundary_iou",
        boundary.ratio, "left out where neither band has a pixel",
    )),
    *_contour_means(Metric(
        "surface_dice", "surface Dice",
        "contour pixels, true and predicted, within `evaluation.surface_dice_tolerance_px` of the other contour / "
        "contour pixels",
        _CONTOURS, "Nikolov et al. 2018; Seidlitz et al. 2022; on pixels, as MONAI", "surface_dice", boundary.ratio,
        f"{_CONTOUR_ABSENT}; 0 where it is in one only",
    )),
    *_contour_means(Metric(
        "hd95", "Hausdorff distance (95 %)",
        "95th percentile of the distances from each contour to the other, the larger of the two directions", _CONTOURS,
        "Huttenlocher et al. 1993; Maier-Hein et al. 2024 (Metrics Reloaded)", "hd95", boundary.ratio,
        f"{_CONTOUR_ABSENT}; the image's diagonal where it is in one only", "0 upwards, in pixels", "lower",
    )),
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
        "true objects of all classes but class 0 (connected, 8 neighbors), over the whole split; found: more than "
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
    *(_at_threshold(measure) for measure in CLASS_MEASURES),
)  # fmt: skip


def global_scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Compute the metrics of one confusion matrix, (classes, classes) with truth in the rows: name to value or NaN."""
    sums = ClassCounts.of(np.asarray(matrix)).to_array()
    values: dict[str, float] = {}
    for metric in METRICS:
        if metric.basis == Confusion.name and metric.function is not None and not metric.per_image:
            named = zip(names_of(metric, classes), np.atleast_1d(metric.function(sums)).tolist(), strict=True)
            values.update(named)
    return values


def find_metric(name: str) -> Metric | None:
    """Find the definition of a metric by its name (`iou/class/nucleus` stands under `iou/class/<class>`)."""
    pattern = re.sub(r"/(class|size)/.*", r"/\1/<\1>", name)
    return next((metric for metric in METRICS if metric.name == pattern), None)


def names_of(metric: Metric, classes: Sequence[str]) -> list[str]:
    """Return the names of a metric's values: one, or one per class or size."""
    for mark, names in ((CLASS, class_slugs(classes)), (SIZE, object_recall.SIZES)):
        if mark in metric.name:
            return [metric.name.replace(mark, name) for name in names]
    return [metric.name]


def score_definitions(scores: Mapping[str, float | None]) -> pd.DataFrame:
    """Build a table of scores with their definitions: columns score, value, and those of `Metric.definition`."""
    rows = [
        {"score": name, "value": value, **metric.definition}
        for name, value in scores.items()
        if (metric := find_metric(name)) is not None
    ]
    return pd.DataFrame(rows)
