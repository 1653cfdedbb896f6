"""The profile: what training must know of its split, by arithmetic on the table; no pixel is read."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import numpy as np
import pandas as pd

from unet_segmentation.errors import DataError
from unet_segmentation.samples.splitting import count_splits

logger = logging.getLogger(__name__)


def profile_samples(samples: pd.DataFrame, inspected: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Describe the training split, and identify the data.

    Args:
        samples: the samples with their split.
        inspected: what inspection measured of them.
        classes: names, in the order of their ids.

    Returns:
        `samples` by split; `channels`, `dtype`, `maximum_value` (255 or 65535); `mean` and `std` by channel over all
        pixels of the training split, in raw units; `class_shares` of its labelled pixels; `ignored_share` of its
        pixels; `height` and `width` (minimum, median, maximum) of its images; `data_sha256` over the sorted
        (sample_id, split, image_sha256, mask_sha256) of all samples.

    Raises:
        DataError: a class does not occur in the training split.
    """
    columns = ["sample_id", "channel_mean", "channel_std", "class_pixels", "ignored_pixels"]
    table = samples.merge(inspected[columns], on="sample_id", validate="one_to_one").sort_values("sample_id")
    training = table[table["split"] == "train"]
    _check_classes(table, classes)
    mean, std = pooled_moments(training)
    pixels = np.array(training["class_pixels"].tolist(), dtype=np.int64).sum(axis=0)
    ignored = int(training["ignored_pixels"].sum())
    dtype = str(training["dtype"].iloc[0])
    return {
        "samples": count_splits(table["split"]),
        "channels": int(training["channels"].iloc[0]),
        "dtype": dtype,
        "maximum_value": int(np.iinfo(dtype).max),
        "mean": mean.tolist(),
        "std": std.tolist(),
        "class_shares": {name: int(n) / int(pixels.sum()) for name, n in zip(classes, pixels, strict=True)},
        "ignored_share": ignored / (ignored + int(pixels.sum())),
        "height": _range(training["height"]),
        "width": _range(training["width"]),
        "data_sha256": data_sha256(samples),
    }


def pooled_moments(samples: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation over the pixels of all images, from those of each image.

    The variance of a union is the mean of the variances plus the variance of the means, each weighted by pixels.

    Args:
        samples: `height`, `width`, `channel_mean`, `channel_std`.

    Returns:
        Two arrays (channels,).
    """
    weights = (samples["height"] * samples["width"]).to_numpy(dtype=np.float64)
    weights /= weights.sum()
    means = np.array(samples["channel_mean"].tolist(), dtype=np.float64)
    deviations = np.array(samples["channel_std"].tolist(), dtype=np.float64)
    mean = weights @ means
    return mean, np.sqrt(weights @ (deviations**2 + (means - mean) ** 2))


def data_sha256(samples: pd.DataFrame) -> str:
    """Identify the data and its split, whatever the order of the rows."""
    columns = ["sample_id", "split", "image_sha256", "mask_sha256"]
    rows = sorted(samples[columns].astype(str).itertuples(index=False, name=None))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _check_classes(table: pd.DataFrame, classes: list[str]) -> None:
    for split in ("train", "validation", "test"):
        rows = table[table["split"] == split]
        pixels = np.array(rows["class_pixels"].tolist(), dtype=np.int64).reshape(-1, len(classes)).sum(axis=0)
        absent = [name for name, count in zip(classes, pixels, strict=True) if count == 0]
        if not absent:
            continue
        if split == "train":
            raise DataError(
                f"The training split ({len(rows)} samples) holds no pixel of: {', '.join(absent)}. What is not there "
                "cannot be learned: change split.seed, make the groups (source.group) smaller, add samples, or remove "
                "the class from classes."
            )
        logger.warning("The %s split holds no pixel of: %s; its score there is undefined", split, ", ".join(absent))


def _range(sizes: pd.Series) -> dict[str, float]:
    return {"minimum": int(sizes.min()), "median": float(sizes.median()), "maximum": int(sizes.max())}
