"""From masks to counts. Nothing else in the project counts pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.count_tables import sparse_table

IGNORED = 255  # the mask value of pixels that count nowhere
KEY = ["sample_id", "truth", "prediction"]


class SoftCounts(NamedTuple):
    """Sums of one image over its counted pixels and all classes, in float64.

    Attributes:
        intersection: sum of p t, with class probabilities p and one-hot truth t.
        truth: sum of t.
        prediction: sum of p.
    """

    intersection: float
    truth: float
    prediction: float


@dataclass(frozen=True)
class ClassCounts:
    """Pixels per class: all that the scores need of a confusion matrix.

    The last axis of each array is the class; what stands before it (images, resamples) is up to the caller.

    Attributes:
        hits: pixels of the class that were predicted as it (TP), int64; float64 where images have weights.
        truth: pixels of the class (TP + FN), likewise.
        predicted: pixels predicted as the class (TP + FP), likewise.
    """

    hits: NDArray[Any]
    truth: NDArray[Any]
    predicted: NDArray[Any]

    @classmethod
    def of(cls, matrix: NDArray[np.int64]) -> ClassCounts:
        """Take them from confusion matrices (..., C, C) with the truth in the rows."""
        return cls(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2))

    def total(self) -> ClassCounts:
        """Sum over the first axis (the images)."""
        return ClassCounts(self.hits.sum(axis=0), self.truth.sum(axis=0), self.predicted.sum(axis=0))

    def pooled(self) -> ClassCounts:
        """Sum over the classes, which leaves one."""
        return ClassCounts(*(part.sum(axis=-1, keepdims=True) for part in (self.hits, self.truth, self.predicted)))

    def foreground(self) -> ClassCounts:
        """Leave class 0 out."""
        return ClassCounts(self.hits[..., 1:], self.truth[..., 1:], self.predicted[..., 1:])

    @property
    def union(self) -> NDArray[Any]:
        """TP + FP + FN: 0 where the class is neither in the truth nor in the prediction."""
        return self.truth + self.predicted - self.hits


def confusion_matrix(truth: NDArray, prediction: NDArray, classes: int) -> NDArray[np.int64]:
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
    _check_ids(prediction, classes, "prediction", ignored=None)
    _check_ids(truth, classes, "mask", ignored=IGNORED)
    # One code per pixel: truth x classes + prediction; ignored pixels go to the codes behind the last class.
    row = np.full(256, classes * classes, np.intp)
    row[:classes] = np.arange(classes) * classes
    codes = row[truth.ravel()] + prediction.ravel()
    counts = np.bincount(codes, minlength=classes * (classes + 1))
    return counts[: classes * classes].reshape(classes, classes).astype(np.int64, copy=False)


def _check_ids(mask: NDArray, classes: int, what: str, ignored: int | None) -> None:
    if not np.issubdtype(mask.dtype, np.integer):
        raise DataError(f"A {what} must hold class ids; this one holds {mask.dtype} values.")
    if mask.size == 0 or (mask.min() >= 0 and mask.max() < classes):
        return
    strange = [value for value in np.unique(mask).tolist() if not 0 <= value < classes and value != ignored]
    if strange:
        found = ", ".join(map(str, strange[:8]))
        raise DataError(f"A {what} holds the values {found}, which are no class ids (0 to {classes - 1}).")


def soft_overlap_sums(truth: NDArray, probabilities: NDArray) -> SoftCounts:
    """Sum class probabilities of one image as the article's scores need them.

    Args:
        truth: (height, width) class ids, 255 where a pixel counts nowhere.
        probabilities: (classes, height, width).

    Raises:
        DataError: shapes differ, or a value is no class.
    """
    classes = len(probabilities)
    if probabilities.shape[1:] != truth.shape:
        raise DataError(f"A mask of {truth.shape} pixels does not go with probabilities of {probabilities.shape}.")
    _check_ids(truth, classes, "mask", ignored=IGNORED)
    counted = truth != IGNORED
    flat = probabilities.reshape(classes, truth.size)
    if counted.all():
        chosen, everything = truth.ravel(), flat
    else:
        chosen, everything = truth[counted], flat[:, counted.ravel()]
    hit = np.take_along_axis(everything, chosen[None].astype(np.intp), axis=0)
    return SoftCounts(float(hit.sum(dtype=np.float64)), float(chosen.size), float(everything.sum(dtype=np.float64)))


def confusion_table(matrices: Iterable[tuple[str, NDArray[np.int64]]]) -> pd.DataFrame:
    """Write confusion matrices as a sparse table.

    Args:
        matrices: sample id and (classes, classes) matrix of each image.

    Returns:
        Columns sample_id (str), truth, prediction, count (int64); a row for every count above 0.
    """
    arrays = ((sample_id, matrix[..., None]) for sample_id, matrix in matrices)
    return sparse_table(arrays, KEY[1:], {"count": np.int64})


def confusion_matrices(table: pd.DataFrame, classes: int, sample_ids: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Make dense matrices of a sparse table again.

    Args:
        table: see `confusion_table`.
        classes: number of classes.
        sample_ids: the images, in the order wanted; by default those of the table, in their order there. An image all
            of whose pixels are ignored has no row in the table: name it here, and its matrix is zero.

    Returns:
        (images, classes, classes) int64.

    Raises:
        DataError: the table names an image that is not among ``sample_ids``.
    """
    image, count = _positions(table, sample_ids)
    cell = (image * classes + table["truth"].to_numpy()) * classes + table["prediction"].to_numpy()
    return _summed(cell, table, count * classes * classes).reshape(count, classes, classes)


def class_counts(table: pd.DataFrame, classes: int, sample_ids: Sequence[str] | None = None) -> ClassCounts:
    """Sum a sparse table to counts per image and class, without the dense matrices.

    Args:
        table: see `confusion_table`.
        classes: number of classes.
        sample_ids: see `confusion_matrices`.

    Returns:
        Arrays of (images, classes).
    """
    image, count = _positions(table, sample_ids)
    truth, prediction = (image * classes + table[name].to_numpy() for name in ("truth", "prediction"))
    hit = truth == prediction
    size, shape = count * classes, (count, classes)
    return ClassCounts(
        hits=_summed(truth[hit], table[hit], size).reshape(shape),
        truth=_summed(truth, table, size).reshape(shape),
        predicted=_summed(prediction, table, size).reshape(shape),
    )


def total_matrix(table: pd.DataFrame, classes: int) -> NDArray[np.int64]:
    """Sum a sparse table over all images to one (classes, classes) matrix."""
    cell = table["truth"].to_numpy() * classes + table["prediction"].to_numpy()
    return _summed(cell, table, classes * classes).reshape(classes, classes)


def _positions(table: pd.DataFrame, sample_ids: Sequence[str] | None) -> tuple[NDArray[np.int64], int]:
    names = table["sample_id"].drop_duplicates().tolist() if sample_ids is None else list(sample_ids)
    image = pd.Index(names).get_indexer(pd.Index(table["sample_id"]))
    if (image < 0).any():
        raise DataError(f"The counts hold an image that is not asked for: {table['sample_id'][image < 0].iloc[0]}.")
    return image.astype(np.int64), len(names)


def _summed(cell: NDArray[np.int64], table: pd.DataFrame, size: int) -> NDArray[np.int64]:
    """Add the counts up in int64 (bincount's weights would make them float64, exact only up to 2^53)."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, cell, table["count"].to_numpy(np.int64))
    return sums
