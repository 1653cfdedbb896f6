"""The pass over a split: every image through the predictor, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import rich
from numpy.typing import NDArray
from rich.progress import track

from unet_segmentation.data.store.packed_arrays import Mask, PackedSamples
from unet_segmentation.inference.backends.base import Probabilities
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.metrics.calibration import calibration_sums, calibration_table
from unet_segmentation.metrics.confusion_matrix import SoftCounts, soft_overlap_sums
from unet_segmentation.metrics.prediction_masks import write_prediction
from unet_segmentation.metrics.thresholds import BINS, foreground_histogram, histogram_table
from unet_segmentation.utils.prefetch import prefetch_map

logger = logging.getLogger(__name__)


class PixelStatistics(NamedTuple):
    """What a pass has summed up where the probabilities were; tables per image, in the order of the samples.

    Attributes:
        soft: the article's sums: sample_id, intersection, truth, prediction (float64).
        calibration: see `calibration.calibration_table`.
        foreground: see `thresholds.histogram_table`; without a row where there are not two classes.
    """

    soft: pd.DataFrame
    calibration: pd.DataFrame
    foreground: pd.DataFrame


class _Sums(NamedTuple):
    """The sums of one image."""

    soft: SoftCounts
    calibration: NDArray[np.float64]
    foreground: NDArray[np.int64] | None


def predict_split(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str], folder: Path
) -> PixelStatistics:
    """Predict samples into a folder. Probabilities stay in memory, those of a few images at a time.

    Args:
        predictor: what predicts.
        packed: images and masks.
        sample_ids: the samples to predict.
        folder: an existing folder; gets a PNG of class ids for each sample.

    Returns:
        Sums per image of what needs probabilities.

    Raises:
        DataError: an image is not what the network was trained on.
    """
    binary = len(predictor.classes) == 2

    def settle(sample_id: str, mask: Mask, probabilities: Probabilities) -> tuple[str, _Sums]:
        prediction = argmax_mask(probabilities)
        write_prediction(folder, sample_id, prediction)
        confidence = probabilities.max(axis=0)
        return sample_id, _Sums(
            soft_overlap_sums(mask, probabilities),
            calibration_sums(mask, prediction, confidence),
            foreground_histogram(mask, probabilities[1]) if binary else None,
        )

    found = dict(prefetch_map(settle, _predicted(predictor, packed, sample_ids)))
    soft = pd.DataFrame.from_records([found[name].soft for name in sample_ids], columns=SoftCounts._fields)
    soft.insert(0, "sample_id", pd.Series(list(sample_ids), dtype="str"))
    histograms = ((name, found[name].foreground) for name in sample_ids)
    return PixelStatistics(
        soft,
        calibration_table((name, found[name].calibration) for name in sample_ids),
        histogram_table((name, histogram) for name, histogram in histograms if histogram is not None),
    )


def total_foreground_histogram(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str]
) -> NDArray[np.int64]:
    """Predict samples of a problem of two classes, only to see how the foreground's probability is distributed.

    Returns:
        (BINS, 2), see `thresholds.foreground_histogram`; the sum over the samples.
    """
    total = np.zeros((BINS, 2), np.int64)
    for _, mask, probabilities in _predicted(predictor, packed, sample_ids):
        total += foreground_histogram(mask, probabilities[1])
    return total


def _predicted(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str]
) -> Iterator[tuple[str, Mask, Probabilities]]:
    """Return every sample's id, mask and probabilities, by size; show how far it is, and say how long it took."""
    started = time.perf_counter()
    by_shape = sorted(sample_ids, key=packed.shape)  # neighbours of one size share a batch
    images = (packed.image(sample_id) for sample_id in by_shape)
    console = rich.get_console()
    predictions = track(
        zip(by_shape, predictor.predict_many(images), strict=True),
        description="Predicting",
        total=len(by_shape),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for sample_id, probabilities in predictions:
        yield sample_id, packed.mask(sample_id), probabilities
    seconds = time.perf_counter() - started
    rate = len(by_shape) / max(seconds, 1e-9)
    logger.info(
        "Predicted %d images in %.1f s (%.1f images/s) on %s", len(by_shape), seconds, rate, predictor.backend.name
    )
