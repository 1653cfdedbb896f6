"""Confusion matrices: pixels by true and predicted class. Nothing else in the project counts pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.basis import Basis, EvaluatedImage, EvaluationSettings, image_index, sparse_table
from unet_segmentation.utils.ignore_index import IGNORE_INDEX


@dataclass(frozen=True)
class ClassCounts:
    """Pixels per class: all that the metrics need of a confusion matrix.

    The last axis of each array is the class; the axes before it (images, resamples) are up to the caller. int64, or
    float64 where images have weights.
    """

    tp: NDArray[Any]  # pixels of the class that were predicted as it
    support: NDArray[Any]  # pixels of the class (TP + FN)
    predicted: NDArray[Any]  # pixels predicted as the class (TP + FP)

    @classmethod
    def of(cls, matrix: NDArray[np.int64]) -> ClassCounts:
        """Compute them from confusion matrices (..., C, C) with the truth in the rows."""
        return cls(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2))

    @classmethod
    def from_array(cls, sums: NDArray[Any]) -> ClassCounts:
        """Build them from an array (..., 3, C), see `to_array`."""
        return cls(*np.moveaxis(sums, -2, 0))

    def to_array(self) -> NDArray[Any]:
        """Return TP, support and predicted pixels as one array (..., 3, C)."""
        return np.stack([self.tp, self.support, self.predicted], axis=-2)

    def summed_over_classes(self) -> ClassCounts:
        """Sum over the classes, which leaves one."""
        return ClassCounts(*(part.sum(axis=-1, keepdims=True) for part in (self.tp, self.support, self.predicted)))

    def foreground(self) -> ClassCounts:
        """Return the counts without class 0."""
        return ClassCounts(self.tp[..., 1:], self.support[..., 1:], self.predicted[..., 1:])

    @property
    def union(self) -> NDArray[Any]:
        """TP + FP + FN: 0 where the class is neither in the truth nor in the prediction."""
        return self.support + self.predicted - self.tp


def confusion_matrix(truth: NDArray[Any], prediction: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count the pixels of one image by true and predicted class.

    Args:
        truth: class ids of any shape, 0 .. classes - 1, or 255 where a pixel counts nowhere.
        prediction: class ids of the same shape, every one a class.
        classes: number of classes, at most 255.

    Returns:
        (classes, classes) int64, truth in the rows, prediction in the columns.

    Raises:
        DataError: shapes differ, or a value is no class.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise DataError(f"A mask of {truth.shape} pixels cannot be compared with a prediction of {prediction.shape}.")
    check_class_ids(prediction, classes, "prediction", ignored=None)
    check_class_ids(truth, classes, "mask", ignored=IGNORE_INDEX)
    # One code per pixel: truth x classes + prediction; ignored pixels go to the codes behind the last class.
    row = np.full(256, classes * classes, np.intp)
    row[:classes] = np.arange(classes) * classes
    codes = row[truth.ravel()] + prediction.ravel()
    counts = np.bincount(codes, minlength=classes * (classes + 1))
    return counts[: classes * classes].reshape(classes, classes).astype(np.int64, copy=False)


def check_class_ids(mask: NDArray[Any], classes: int, what: str, ignored: int | None) -> None:
    """Raise DataError where a mask holds anything but ids of the classes and, if there is one, the ignored value."""
    if not np.issubdtype(mask.dtype, np.integer):
        raise DataError(f"A {what} must hold class ids; this one holds {mask.dtype} values.")
    if mask.size == 0 or (mask.min() >= 0 and mask.max() < classes):
        return
    invalid = [value for value in np.unique(mask).tolist() if not 0 <= value < classes and value != ignored]
    if invalid:
        values = ", ".join(map(str, invalid[:8]))
        raise DataError(f"A {what} holds the values {values}, which are no class ids (0 to {classes - 1}).")


def confusion_table(matrices: Iterable[tuple[str, NDArray[np.int64]]]) -> pd.DataFrame:
    """Build a sparse table from sample id and (classes, classes) matrix of each image.

    Returns:
        Columns sample_id (str), truth, prediction, count (int64); a row for every count above 0.
    """
    return sparse_table(((sample_id, matrix[..., None]) for sample_id, matrix in matrices), Confusion)


def confusion_matrices(table: pd.DataFrame, classes: int, sample_ids: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Return the dense matrices of a sparse table, (images, classes, classes) int64.

    Args:
        table: see `confusion_table`.
        classes: number of classes.
        sample_ids: the images, in the order of the result; by default those of the table, in their order there. An
            image all of whose pixels are ignored has no row in the table: name it here, and its matrix is zero.

    Raises:
        DataError: the table names an image that is not among ``sample_ids``.
    """
    names = table["sample_id"].drop_duplicates().tolist() if sample_ids is None else sample_ids
    return Confusion(EvaluationSettings(classes)).dense(table, names, ["count"])[..., 0]


def class_counts(table: pd.DataFrame, classes: int, sample_ids: Sequence[str]) -> ClassCounts:
    """Sum a sparse table to counts (images, classes), without the dense matrices; see `confusion_matrices`."""
    image = image_index(table, sample_ids)
    truth, prediction, count = (table[name].to_numpy(np.int64) for name in ("truth", "prediction", "count"))
    # In int64: the weights of np.bincount are float64, exact only up to 2^53.
    tp, support, predicted = np.zeros((3, len(sample_ids), classes), np.int64)
    correct = truth == prediction
    np.add.at(tp, (image[correct], truth[correct]), count[correct])
    np.add.at(support, (image, truth), count)
    np.add.at(predicted, (image, prediction), count)
    return ClassCounts(tp, support, predicted)


def total_matrix(table: pd.DataFrame, classes: int) -> NDArray[np.int64]:
    """Sum a sparse table over all images to one (classes, classes) matrix."""
    return Confusion(EvaluationSettings(classes)).total(table)[..., 0]


class Confusion(Basis):
    """The confusion matrix of each image."""

    name, keys = "confusion", ("truth", "prediction")
    columns: ClassVar = {"count": np.int64}

    def __init__(self, settings: EvaluationSettings) -> None:
        super().__init__(settings)
        self.shape = (settings.n_classes, settings.n_classes)

    def measure(self, image: EvaluatedImage) -> NDArray[np.int64]:
        """Measure one image: (classes, classes, 1)."""
        return confusion_matrix(image.truth, image.prediction, self.settings.n_classes)[..., None]

    def unit_sums(self, table: pd.DataFrame, sample_ids: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the counts of each image: `confusion`, (images, 3, classes), see `ClassCounts`."""
        return {self.name: class_counts(table, self.settings.n_classes, sample_ids).to_array()}
