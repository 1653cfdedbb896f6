"""The profile: what training must know of its split, by arithmetic on the table; no pixel is read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

from unet_segmentation.data.split.split import count_splits
from unet_segmentation.inference.out_of_distribution import reference_statistics


def dataset_statistics(samples: pd.DataFrame, inspected: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Describe the training split, and identify the data.

    Args:
        samples: the samples with their split.
        inspected: what inspection measured of them.
        classes: names, in the order of their ids.

    Returns:
        `samples` by split; `channels`, `dtype`, `maximum_value` (255 or 65535); `mean` and `std` by channel over all
        pixels of the training split, in raw units; `class_shares` of its labelled pixels (0 for a class
        that it lacks, where that is allowed); `ignored_share` of its pixels; `height` and `width` (minimum, median,
        maximum) of its images; `data_sha256` over the sorted (sample_id, split, image_sha256, mask_sha256) of all
        samples; `typical` of its images (see `familiarity.typical`).
    """
    columns = ["sample_id", "channel_mean", "channel_std", "class_pixels", "ignored_pixels"]
    table = samples.merge(inspected[columns], on="sample_id", validate="one_to_one").sort_values("sample_id")
    training = table[table["split"] == "train"]
    mean, std = pooled_moments(training)
    pixels = np.array(training["class_pixels"].tolist(), dtype=np.int64).sum(axis=0)
    labelled = int(pixels.sum())
    ignored = int(training["ignored_pixels"].sum())
    dtype = str(training["dtype"].iloc[0])
    maximum = int(np.iinfo(dtype).max)
    return {
        "samples": count_splits(table["split"]),
        "channels": int(training["channels"].iloc[0]),
        "dtype": dtype,
        "maximum_value": maximum,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "class_shares": {name: int(n) / max(1, labelled) for name, n in zip(classes, pixels, strict=True)},
        "ignored_share": ignored / max(1, ignored + labelled),
        "height": _range(training["height"]),
        "width": _range(training["width"]),
        "data_sha256": data_sha256(samples),
        "typical": reference_statistics(
            training["channel_mean"].tolist(), training["channel_std"].tolist(), training[["height", "width"]], maximum
        ),
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


def _range(sizes: pd.Series) -> dict[str, float]:
    return {"minimum": int(sizes.min()), "median": float(sizes.median()), "maximum": int(sizes.max())}
