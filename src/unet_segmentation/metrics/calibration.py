"""Calibration: is a network right as often as its probabilities say?

The confidence of a pixel is the probability of the class that it was given. Pixels of like confidence share a bin; a
bin's gap is the difference between its mean confidence and its share of right pixels. See Guo, Pleiss, Sun, Weinberger
2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.metrics.confusion_matrix import IGNORED
from unet_segmentation.metrics.count_tables import divided, sparse_table, total

BINS = 15  # of equal width from 0 to 1, as in the article

Values = NDArray[np.float64]


def calibration_sums(truth: NDArray, prediction: NDArray, confidence: NDArray) -> Values:
    """Sum up one image.

    Args:
        truth: (height, width) class ids, 255 where a pixel counts nowhere.
        prediction: (height, width) class ids.
        confidence: (height, width) probability of the predicted class. A bin holds its lower end; the last one both.

    Returns:
        (BINS, 3): counted pixels, the sum of their confidences, how many of them are right.
    """
    bins = np.minimum((confidence * BINS).astype(np.uint8), BINS - 1)
    # One code per pixel: twice the bin, and one more where it is right; ignored pixels behind the last.
    codes = np.where(truth == IGNORED, np.uint8(2 * BINS), 2 * bins + (prediction == truth)).ravel()
    pixels = np.bincount(codes, minlength=2 * BINS)[: 2 * BINS].reshape(BINS, 2)
    sums = np.bincount(codes, weights=confidence.ravel(), minlength=2 * BINS)[: 2 * BINS].reshape(BINS, 2)
    return np.stack([pixels.sum(axis=1), sums.sum(axis=1), pixels[:, 1]], axis=1).astype(np.float64)


def calibration_table(images: Iterable[tuple[str, Values]]) -> pd.DataFrame:
    """Write sums as a table.

    Args:
        images: sample id and `calibration_sums` of each image.

    Returns:
        Columns sample_id, bin, pixels (int64), confidence (float64), correct (int64); a row for every bin with a pixel.
    """
    return sparse_table(images, ["bin"], {"pixels": np.int64, "confidence": np.float64, "correct": np.int64})


def total_sums(table: pd.DataFrame) -> Values:
    """Sum a table over its images: (BINS, 3), as `calibration_sums`."""
    return total(table, ["bin"], ["pixels", "confidence", "correct"], [BINS])


def reliability(sums: Values) -> pd.DataFrame:
    """Return the reliability curve.

    Args:
        sums: (BINS, 3), see `calibration_sums`.

    Returns:
        Columns low, high (of the bin), pixels, confidence (mean), accuracy; a row for every bin, NaN in empty ones.
    """
    pixels, confidence, correct = sums.T
    with np.errstate(invalid="ignore"):
        means = {"confidence": confidence / pixels, "accuracy": correct / pixels}
    edges = np.linspace(0, 1, BINS + 1)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "pixels": pixels.astype(np.int64), **means})


def expected_calibration_error(sums: Values) -> Values:
    """Average the gaps of the bins, each weighted by its share of the pixels: (..., BINS, 3) to (...).

    NaN without a pixel.
    """
    pixels, confidence, correct = np.moveaxis(sums, -1, 0)
    return divided(np.abs(confidence - correct).sum(axis=-1), pixels.sum(axis=-1))


def maximum_calibration_error(sums: Values) -> Values:
    """Return the largest gap of a bin with a pixel: (..., BINS, 3) to (...); NaN without one."""
    pixels, confidence, correct = np.moveaxis(sums, -1, 0)
    largest: Values = np.fmax.reduce(divided(np.abs(confidence - correct), pixels), axis=-1)
    return largest
