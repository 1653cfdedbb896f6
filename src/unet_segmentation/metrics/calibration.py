"""Calibration: does the accuracy of the pixels match their confidence?

The confidence of a pixel is the probability of the predicted class. Pixels of like confidence share a bin; a
bin's gap is the difference between its mean confidence and its accuracy. See Guo, Pleiss, Sun, Weinberger
2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.metrics.basis import Basis, EvaluatedImage, divided
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

BINS = 15  # of equal width from 0 to 1, as in that paper

Values = NDArray[np.float64]


def calibration_sums(truth: NDArray[Any], prediction: NDArray[Any], confidence: NDArray[Any]) -> Values:
    """Sum up one image (height, width): counted pixels, their confidences, the correct ones by bin, (BINS, 3).

    A bin holds its lower end; the last one both.
    """
    bins = np.minimum((confidence * BINS).astype(np.uint8), BINS - 1)
    # One code per pixel: twice the bin, and one more where it is correct; ignored pixels behind the last.
    codes = np.where(truth == IGNORE_INDEX, np.uint8(2 * BINS), 2 * bins + (prediction == truth)).ravel()
    pixels = np.bincount(codes, minlength=2 * BINS)[: 2 * BINS].reshape(BINS, 2)
    sums = np.bincount(codes, weights=confidence.ravel(), minlength=2 * BINS)[: 2 * BINS].reshape(BINS, 2)
    return np.stack([pixels.sum(axis=1), sums.sum(axis=1), pixels[:, 1]], axis=1).astype(np.float64)


class Calibration(Basis):
    """The pixels of each image by confidence: a row for every bin with a pixel."""

    name, needs, keys = "calibration", "probabilities", ("bin",)
    columns: ClassVar = {"pixels": np.int64, "confidence": np.float64, "correct": np.int64}
    shape = (BINS,)

    def measure(self, image: EvaluatedImage) -> Values:
        """Measure one image: (BINS, 3)."""
        assert image.probabilities is not None
        return calibration_sums(image.truth, image.prediction, image.probabilities.max(axis=0))


def reliability(sums: Values) -> pd.DataFrame:
    """Compute the reliability curve of the sums (BINS, 3) of a split.

    Returns:
        Columns low, high (of the bin), pixels, confidence (mean), accuracy; a row for every bin, NaN in empty ones.
    """
    pixels, confidence, correct = sums.T
    means = {"confidence": divided(confidence, pixels), "accuracy": divided(correct, pixels)}
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
