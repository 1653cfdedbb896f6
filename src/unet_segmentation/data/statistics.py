"""Statistics of the training split, by arithmetic on the tables of the samples; no pixel is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from unet_segmentation.data.split.split import count_splits
from unet_segmentation.parameters.data import ImageParameters
from unet_segmentation.utils.stable_hash import stable_hash
from unet_segmentation.utils.strict_model import StrictModel

FENCE = 3.0  # interquartile ranges beyond the quartiles: Tukey's outer fence (Exploratory Data Analysis, 1977)
MIN_RANGE = 0.02  # of the largest pixel value: where training images are nearly alike, others need not be
SIDE_FACTOR = 2.0  # how much smaller or larger than any training image is out of distribution


class SideLengths(StrictModel):
    """Heights, or widths, of images in pixels."""

    minimum: int
    median: float
    maximum: int

    @classmethod
    def from_column(cls, sides: pd.Series[int]) -> Self:
        """Compute them from the sides of all images."""
        return cls(minimum=int(sides.min()), median=float(sides.median()), maximum=int(sides.max()))


class ChannelLimits(StrictModel):
    """By channel, the values between which images are like those of the training split."""

    low: tuple[float, ...]
    high: tuple[float, ...]


class SideLimits(StrictModel):
    """The lengths in pixels between which images are like those of the training split."""

    low: float
    high: float


class ReferenceStatistics(StrictModel):
    """What training images are like: what lies beyond is out of distribution."""

    images: int  # how many there are
    mean: ChannelLimits  # of an image's mean, in raw units
    std: ChannelLimits
    side: SideLimits


class DatasetStatistics(StrictModel):
    """What training must know of the data: of the training split, but for ``samples`` and ``data_sha256``."""

    samples: Mapping[str, int]  # by split
    channels: int
    dtype: str
    maximum_value: int  # 255 or 65535
    mean: tuple[float, ...]  # of each channel over all pixels, in raw units
    std: tuple[float, ...]
    class_shares: Mapping[str, float]  # of the labeled pixels; 0 for a class that is lacking, where that is allowed
    ignored_share: float  # of the pixels
    height: SideLengths
    width: SideLengths
    data_sha256: str  # of the sorted (sample_id, split, image_sha256, mask_sha256)
    typical: ReferenceStatistics
    images: ImageParameters = ImageParameters()  # how image values were read; prediction reads them the same way


def compute_statistics(
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    classes: Sequence[str],
    images: ImageParameters = ImageParameters(),  # noqa: B008 - frozen
) -> DatasetStatistics:
    """Compute the statistics of the training split, and hash the data of all samples."""
    columns = ["sample_id", "channel_mean", "channel_std", "class_pixels", "ignored_pixels"]
    table = samples.merge(inspected[columns], on="sample_id", validate="one_to_one").sort_values("sample_id")
    training = table[table["split"] == "train"]
    mean, std = pooled_moments(training)
    pixels = np.array(training["class_pixels"].tolist(), dtype=np.int64).sum(axis=0)
    labeled = int(pixels.sum())
    ignored = int(training["ignored_pixels"].sum())
    dtype = str(training["dtype"].iloc[0])
    maximum = int(np.iinfo(dtype).max)
    return DatasetStatistics(
        samples=count_splits(table["split"]),
        channels=int(training["channels"].iloc[0]),
        dtype=dtype,
        maximum_value=maximum,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        class_shares={name: int(n) / max(1, labeled) for name, n in zip(classes, pixels, strict=True)},
        ignored_share=ignored / max(1, ignored + labeled),
        height=SideLengths.from_column(training["height"]),
        width=SideLengths.from_column(training["width"]),
        data_sha256=data_sha256(samples),
        typical=reference_statistics(
            training["channel_mean"].tolist(), training["channel_std"].tolist(), training[["height", "width"]], maximum
        ),
        images=images,
    )


def pooled_moments(samples: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute mean and population standard deviation over the pixels of all images, from those of each image.

    The variance of a union is the mean of the variances plus the variance of the means, each weighted by pixels.
    """
    weights = (samples["height"] * samples["width"]).to_numpy(dtype=np.float64)
    weights /= weights.sum()
    means = np.array(samples["channel_mean"].tolist(), dtype=np.float64)
    deviations = np.array(samples["channel_std"].tolist(), dtype=np.float64)
    mean = weights @ means
    return mean, np.sqrt(weights @ (deviations**2 + (means - mean) ** 2))


def data_sha256(samples: pd.DataFrame) -> str:
    """Compute a hash of the data and its split, whatever the order of the rows."""
    columns = ["sample_id", "split", "image_sha256", "mask_sha256"]
    rows = sorted(samples[columns].astype(str).itertuples(index=False, name=None))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def labeled_ids_by_split(samples: pd.DataFrame) -> dict[str, list[str]]:
    """Return the ids of the samples that have a mask, by split, in an order that does not depend on the table's."""
    labeled = samples[samples["masks"].map(len) > 0].sort_values("sample_id")
    return {str(name): ids.tolist() for name, ids in labeled.groupby("split")["sample_id"]}


def hash_data(statistics: DatasetStatistics, samples: pd.DataFrame) -> str:
    """Hash the data and the split of the labeled samples: reports and sweeps compare it."""
    return stable_hash(statistics.data_sha256, labeled_ids_by_split(samples))


def reference_statistics(
    channel_mean: ArrayLike, channel_std: ArrayLike, sides: ArrayLike, maximum_value: int
) -> ReferenceStatistics:
    """Compute what the training images are like.

    Args:
        channel_mean: (images, channels), raw pixel units, as `channel_std`.
        channel_std: of the pixels of each image.
        sides: (images, 2), height and width in pixels.
        maximum_value: 255 or 65535.
    """
    sides = np.asarray(sides)
    return ReferenceStatistics(
        images=len(sides),
        mean=_outer_fences(np.asarray(channel_mean, np.float64), maximum_value),
        std=_outer_fences(np.asarray(channel_std, np.float64), maximum_value),
        side=SideLimits(low=float(sides.min()) / SIDE_FACTOR, high=float(sides.max()) * SIDE_FACTOR),
    )


def _outer_fences(values: NDArray[np.float64], maximum_value: int) -> ChannelLimits:
    """Compute the outer fences by channel, wide enough to hold every training image."""
    first, third = np.quantile(values, (0.25, 0.75), axis=0)
    reach = FENCE * np.maximum(third - first, MIN_RANGE * maximum_value)
    rounding = 1e-6 * maximum_value  # the same mean, computed in another order, is not the same to the last digit
    low = np.minimum(first - reach, values.min(axis=0) - rounding)
    high = np.maximum(third + reach, values.max(axis=0) + rounding)
    return ChannelLimits(low=tuple(low.tolist()), high=tuple(high.tolist()))
