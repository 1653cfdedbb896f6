"""The pass over a split: every image through the predictor, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import rich
from rich.progress import track

from unet_segmentation.learning.predictor import Predictor, most_probable
from unet_segmentation.samples.packing import PackedSamples
from unet_segmentation.scoring.counting import SoftCounts, soft_counts
from unet_segmentation.scoring.prediction_files import write_prediction

logger = logging.getLogger(__name__)


def predict_samples(
    predictor: Predictor, packed: PackedSamples, sample_ids: Sequence[str], folder: Path
) -> pd.DataFrame:
    """Predict samples into a folder. Probabilities stay in memory, those of one batch at a time.

    Args:
        predictor: what predicts.
        packed: images and masks.
        sample_ids: the samples to predict.
        folder: an existing folder; gets a PNG of class ids for each sample.

    Returns:
        The article's sums: columns sample_id, intersection, truth, prediction (float64), in the order of
        ``sample_ids``.

    Raises:
        DataError: an image is not what the network was trained on.
    """
    started = time.perf_counter()
    by_shape = sorted(sample_ids, key=packed.shape)  # neighbours of one size share a batch
    images = (packed.image(sample_id) for sample_id in by_shape)
    found: dict[str, SoftCounts] = {}
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
        write_prediction(folder, sample_id, most_probable(probabilities))
        found[sample_id] = soft_counts(packed.mask(sample_id), probabilities)
    seconds = time.perf_counter() - started
    rate = len(found) / max(seconds, 1e-9)
    logger.info("Predicted %d images in %.1f s (%.1f images/s) on %s", len(found), seconds, rate, predictor.device)
    sums = pd.DataFrame.from_records([found[sample_id] for sample_id in sample_ids], columns=SoftCounts._fields)
    sums.insert(0, "sample_id", pd.Series(list(sample_ids), dtype="str"))
    return sums
