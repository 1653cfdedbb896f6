"""Predictions as PNG files, one per image: class ids at the image's own size."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.basis import EvaluatedImage, EvaluationSettings
from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
from unet_segmentation.metrics.evaluation_tables import EvaluationTables, build_tables, measure_image

# What some file system cannot hold in a name: separators, wildcards, control characters, a dot or blank at an end.
_UNSAFE = re.compile(r'[/\\:*?"<>|%\x00-\x1f]|^[. ]|[. ]$')


def file_name(sample_id: str) -> str:
    """Name the file of a sample; unsafe characters are percent-encoded, so that `sample_id_of` finds it back."""
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", sample_id) + ".png"


def sample_id_of(name: str) -> str:
    """Return the sample's id from the name of its file."""
    return unquote(name.removesuffix(".png"))


def write_prediction(folder: Path, sample_id: str, prediction: NDArray[np.uint8]) -> None:
    """Write class ids (height, width) as a gray PNG."""
    Image.fromarray(prediction).save(folder / file_name(sample_id), compress_level=1)


def remove_predictions(folder: Path) -> None:
    """Remove the predictions of a folder."""
    for file in folder.glob("*.png"):
        file.unlink()


def move_predictions(folder: Path, target: Path) -> None:
    """Move the predictions of a folder to another one."""
    for file in folder.glob("*.png"):
        shutil.move(file, target / file.name)


def read_prediction(folder: Path, sample_id: str) -> NDArray[np.uint8]:
    """Read class ids (height, width); DataError where there is no prediction for the sample."""
    file = folder / file_name(sample_id)
    try:
        with Image.open(file) as picture:
            return np.array(picture)
    except FileNotFoundError:
        raise DataError(
            f"There is no prediction for {sample_id} ({file}): the split has changed since. "
            "Run the evaluation pipeline again: kedro run --pipelines evaluation"
        ) from None


def measure_predictions(
    folder: Path, sample_ids: Sequence[str], mask: Callable[[str], NDArray[np.uint8]], settings: EvaluationSettings
) -> EvaluationTables:
    """Measure predicted masks for every basis that needs no probabilities, one image at a time.

    Args:
        folder: of the predictions.
        sample_ids: the images.
        mask: returns the true mask of a sample, (height, width) class ids, 255 = ignored.
        settings: how images are measured.

    Raises:
        DataError: a prediction is missing, or does not fit its mask.
    """
    images = ((name, EvaluatedImage(mask(name), read_prediction(folder, name))) for name in sample_ids)
    return build_tables(((name, measure_image(image, settings, "masks")) for name, image in images), settings, "masks")


def count_predictions(
    folder: Path, sample_ids: Sequence[str], mask: Callable[[str], NDArray[np.uint8]], classes: int
) -> pd.DataFrame:
    """Count the pixels of predicted images by true and predicted class, one at a time; see `measure_predictions`.

    Returns:
        Columns sample_id, truth, prediction, count.
    """
    return confusion_table(
        (name, confusion_matrix(mask(name), read_prediction(folder, name), classes)) for name in sample_ids
    )
