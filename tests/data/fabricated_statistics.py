"""Statistics of data sets that do not exist."""

from collections.abc import Mapping
from typing import Any

from unet_segmentation.data.statistics import (
    ChannelLimits,
    DatasetStatistics,
    ReferenceStatistics,
    SideLengths,
    SideLimits,
)


def statistics_of(known: Mapping[str, Any]) -> DatasetStatistics:
    """Statistics with these values; the others are those of twelve RGB images of 64 x 64 pixels."""
    channels = len(known["mean"]) if "mean" in known else known.get("channels", 3)
    limits = ChannelLimits(low=(0.0,) * channels, high=(65535.0,) * channels)
    side = SideLengths(minimum=64, median=64, maximum=64)
    values = {
        "samples": {"train": 8, "validation": 4},
        "channels": channels,
        "dtype": "uint8",
        "maximum_value": 255,
        "mean": (120.0,) * channels,
        "std": (40.0,) * channels,
        "class_shares": {"background": 0.5, "object": 0.5},
        "ignored_share": 0.0,
        "height": side,
        "width": side,
        "data_sha256": "0" * 64,
        "typical": ReferenceStatistics(images=8, mean=limits, std=limits, side=SideLimits(low=1, high=10_000)),
    }
    return DatasetStatistics.model_validate({**values, **known})
