"""Problems of two classes: the precision-recall curve, and a threshold in place of the more probable class.

A histogram of the foreground's probability holds all that is needed. A pixel is foreground where its probability is at
least the threshold; thresholds are the lower edges of the bins, so that the counts at each are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.metrics.basis import Basis, EvaluatedImage, divided
from unet_segmentation.metrics.confusion_matrix import ClassCounts
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

BINS = 256  # of equal width from 0 to 1
THRESHOLDS = np.arange(BINS) / BINS


@dataclass(frozen=True)
class ThresholdChoice:
    """The threshold of the foreground in a problem of two classes, chosen on the validation split."""

    threshold: float | None = None  # one of `THRESHOLDS`; None where there is none
    dice: float | None = None  # of the foreground at the threshold, on validation
    images: int = 0  # of the validation split
    note: str = ""  # why it is this one, or why there is none


def foreground_histogram(truth: NDArray[Any], probability: NDArray[Any]) -> NDArray[np.int64]:
    """Count the pixels of one image (height, width) by the probability of class 1.

    Returns:
        (BINS, 2): true background, true foreground. A bin holds its lower end; the last one both.
    """
    bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    codes = np.where(truth == IGNORE_INDEX, 2 * BINS, 2 * bins + (truth == 1))
    return np.bincount(codes.ravel(), minlength=2 * BINS)[: 2 * BINS].reshape(BINS, 2)


class Foreground(Basis):
    """The histogram of the foreground's probability in each image: a row for every bin with a pixel."""

    name, needs, keys = "foreground", "probabilities", ("bin",)
    columns: ClassVar = {"background": np.int64, "foreground": np.int64}
    shape = (BINS,)

    @property
    def applies(self) -> bool:
        """Return whether there are two classes."""
        return self.settings.n_classes == 2

    def measure(self, image: EvaluatedImage) -> NDArray[np.int64]:
        """Measure one image: (BINS, 2)."""
        assert image.probabilities is not None
        return foreground_histogram(image.truth, image.probabilities[1])

    def unit_sums(self, table: pd.DataFrame, sample_ids: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the histogram of each image: `foreground`, (images, BINS, 2).

        Where a threshold was chosen, the counts of the foreground at it as well: `threshold`, (images, 3, 1).
        """
        sums = super().unit_sums(table, sample_ids)
        if self.settings.threshold is not None:
            sums["threshold"] = counts_at(sums[self.name], self.settings.threshold).to_array()
        return sums


def counts_at_thresholds(histogram: NDArray[Any]) -> ClassCounts:
    """Count the foreground at every threshold: (..., BINS, 2) to arrays of (..., BINS, 1), as in `THRESHOLDS`."""
    background, foreground = np.moveaxis(histogram[..., ::-1, :].cumsum(axis=-2)[..., ::-1, :], -1, 0)[..., None]
    support = np.broadcast_to(foreground[..., :1, :], foreground.shape)
    return ClassCounts(tp=foreground, support=support, predicted=foreground + background)


def counts_at(histogram: NDArray[Any], threshold: float) -> ClassCounts:
    """Count the foreground at one of the `THRESHOLDS`: (..., BINS, 2) to arrays of (..., 1)."""
    at = counts_at_thresholds(histogram)
    index = round(threshold * BINS)
    return ClassCounts(*(counts[..., index, :] for counts in (at.tp, at.support, at.predicted)))


def precision_recall_curve(histogram: NDArray[np.int64]) -> pd.DataFrame:
    """Compute precision and recall of the foreground at every threshold.

    Returns:
        Columns threshold, precision (NaN where nothing is predicted), recall (NaN without true foreground).
    """
    at = counts_at_thresholds(histogram)
    precision, recall = (divided(at.tp, denominator) for denominator in (at.predicted, at.support))
    return pd.DataFrame({"threshold": THRESHOLDS, "precision": precision[:, 0], "recall": recall[:, 0]})


def average_precision(histogram: NDArray[Any]) -> NDArray[np.float64]:
    """Sum precision x (gain of recall) from the highest threshold down: (..., BINS, 2) to (...).

    NaN without true foreground. As scikit-learn's `average_precision_score` of the probabilities rounded down to a
    multiple of 1/256.
    """
    at = counts_at_thresholds(histogram)
    precision = np.nan_to_num(divided(at.tp, at.predicted))[..., 0]
    recall = divided(at.tp, at.support)[..., 0]
    gains = -np.diff(recall, axis=-1, append=0.0)
    area: NDArray[np.float64] = (precision * gains).sum(axis=-1)
    return area


def best_threshold(histogram: NDArray[np.int64]) -> float | None:
    """Choose the threshold of the highest Dice of the foreground; of equal ones, the one nearest to 0.5.

    Returns:
        One of `THRESHOLDS` above 0, at which everything would be foreground; None without true foreground.
    """
    if not histogram[:, 1].any():
        return None
    at = counts_at_thresholds(histogram)
    dice = (2 * at.tp / (at.support + at.predicted))[1:, 0]
    best = THRESHOLDS[1:][dice == dice.max()]
    return float(best[np.abs(best - 0.5).argmin()])
