"""The pass over a split: every image through the predictor, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rich
from rich.progress import track

from unet_segmentation.data.store.packed_arrays import Mask, PackedSamples
from unet_segmentation.inference.backends.base import Probabilities
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.metrics import thresholds
from unet_segmentation.metrics.basis import EvaluatedImage, EvaluationSettings
from unet_segmentation.metrics.definitions import dice_per_class
from unet_segmentation.metrics.evaluation_tables import EvaluationTables, Measurements, build_tables, measure_image
from unet_segmentation.metrics.prediction_masks import write_prediction
from unet_segmentation.utils.threads import prefetch_map

logger = logging.getLogger(__name__)


def predict_split(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str], folder: Path
) -> EvaluationTables:
    """Predict samples into an existing folder: a PNG of class ids for each.

    Probabilities stay in memory, those of a few images at a time.

    Returns:
        Tables of the bases that need probabilities, in the order of the samples.

    Raises:
        DataError: an image is not what the network was trained on.
    """
    settings = EvaluationSettings(len(predictor.spec.classes))

    def measure(sample_id: str, mask: Mask, probabilities: Probabilities) -> tuple[str, Measurements]:
        prediction = argmax_mask(probabilities)
        write_prediction(folder, sample_id, prediction)
        return sample_id, measure_image(EvaluatedImage(mask, prediction, probabilities), settings, "probabilities")

    measured = dict(prefetch_map(measure, _predicted(predictor, packed, sample_ids)))
    return build_tables(((name, measured[name]) for name in sample_ids), settings, "probabilities")


def choose_foreground_threshold(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str]
) -> thresholds.ThresholdChoice:
    """Predict samples of a problem of two classes, and choose the threshold of the highest Dice of the foreground."""
    histogram = np.zeros((thresholds.BINS, 2), np.int64)
    for _, mask, probabilities in _predicted(predictor, packed, sample_ids):
        histogram += thresholds.foreground_histogram(mask, probabilities[1])
    foreground, threshold = predictor.spec.classes[1], thresholds.best_threshold(histogram)
    if threshold is None:
        return thresholds.ThresholdChoice(
            images=len(sample_ids), note=f"{foreground} does not occur in the validation split"
        )
    dice = float(dice_per_class(thresholds.counts_at(histogram, threshold))[0])
    logger.info("Threshold of %s, chosen on validation: %.4g (Dice %.4f there)", foreground, threshold, dice)
    return thresholds.ThresholdChoice(threshold, dice, len(sample_ids), "highest Dice on validation")


def _predicted(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str]
) -> Iterator[tuple[str, Mask, Probabilities]]:
    """Yield every sample's id, mask and probabilities, ordered by size; show the progress and log the throughput."""
    started = time.perf_counter()
    by_shape = sorted(sample_ids, key=packed.shape)  # neighbors of one size share a batch
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
