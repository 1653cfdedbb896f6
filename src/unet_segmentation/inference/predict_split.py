"""The pass over a split: every image through the predictor, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rich
from numpy.typing import NDArray
from rich.progress import track

from unet_segmentation.data.store.packed_arrays import Mask, PackedSamples
from unet_segmentation.inference.backends.base import Probabilities
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.metrics.basis import EvaluatedImage, EvaluationSettings
from unet_segmentation.metrics.evaluation_tables import EvaluationTables, Measurements, build_tables, measure_image
from unet_segmentation.metrics.prediction_masks import write_prediction
from unet_segmentation.metrics.thresholds import BINS, foreground_histogram
from unet_segmentation.utils.prefetch import prefetch_map

logger = logging.getLogger(__name__)


def predict_split(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str], folder: Path
) -> EvaluationTables:
    """Predict samples into a folder. Probabilities stay in memory, those of a few images at a time.

    Args:
        predictor: what predicts.
        packed: images and masks.
        sample_ids: the samples to predict.
        folder: an existing folder; gets a PNG of class ids for each sample.

    Returns:
        Tables of the bases that need probabilities, in the order of the samples.

    Raises:
        DataError: an image is not what the network was trained on.
    """
    settings = EvaluationSettings(len(predictor.classes))

    def measure(sample_id: str, mask: Mask, probabilities: Probabilities) -> tuple[str, Measurements]:
        prediction = argmax_mask(probabilities)
        write_prediction(folder, sample_id, prediction)
        return sample_id, measure_image(EvaluatedImage(mask, prediction, probabilities), settings, "probabilities")

    measured = dict(prefetch_map(measure, _predicted(predictor, packed, sample_ids)))
    return build_tables(((name, measured[name]) for name in sample_ids), settings, "probabilities")


def total_foreground_histogram(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str]
) -> NDArray[np.int64]:
    """Predict samples of a problem of two classes for the histogram of the foreground's probability.

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
    """Yield every sample's id, mask and probabilities, ordered by size; show the progress and log the throughput."""
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
