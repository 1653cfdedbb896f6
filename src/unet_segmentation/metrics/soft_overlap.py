"""Overlap of class probabilities with the true mask: the sums of soft IoU and soft Dice."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.basis import Basis, EvaluatedImage
from unet_segmentation.metrics.confusion_matrix import check_class_ids
from unet_segmentation.utils.ignore_index import IGNORE_INDEX


class SoftOverlapSums(NamedTuple):
    """Sums of one image over its counted pixels and all classes, in float64."""

    intersection: float  # sum of p t, with class probabilities p and one-hot truth t
    truth: float  # sum of t
    prediction: float  # sum of p


def soft_overlap_sums(truth: NDArray[Any], probabilities: NDArray[Any]) -> SoftOverlapSums:
    """Sum the class probabilities (classes, height, width) of one image over its counted pixels.

    Raises:
        DataError: shapes differ, or a value is no class.
    """
    classes = len(probabilities)
    if probabilities.shape[1:] != truth.shape:
        raise DataError(f"A mask of {truth.shape} pixels does not go with probabilities of {probabilities.shape}.")
    check_class_ids(truth, classes, "mask", ignored=IGNORE_INDEX)
    counted = truth != IGNORE_INDEX
    flat = probabilities.reshape(classes, truth.size)
    if counted.all():
        targets, everything = truth.ravel(), flat
    else:
        targets, everything = truth[counted], flat[:, counted.ravel()]
    target_probabilities = np.take_along_axis(everything, targets[None].astype(np.intp), axis=0)
    return SoftOverlapSums(
        float(target_probabilities.sum(dtype=np.float64)),
        float(targets.size),
        float(everything.sum(dtype=np.float64)),
    )


class SoftOverlap(Basis):
    """The soft overlap of each image: one row per image, also where all of its pixels are ignored."""

    name, needs = "soft", "probabilities"
    columns: ClassVar = dict.fromkeys(SoftOverlapSums._fields, np.float64)

    def measure(self, image: EvaluatedImage) -> NDArray[np.float64]:
        """Measure one image: (3,)."""
        assert image.probabilities is not None
        return np.array(soft_overlap_sums(image.truth, image.probabilities))
