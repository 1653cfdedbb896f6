"""Is an image like those that the network was trained on? Arithmetic on means, contrasts and sizes; no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FENCE = 3.0  # interquartile ranges beyond the quartiles: Tukey's outer fence (Exploratory Data Analysis, 1977)
LEAST_RANGE = 0.02  # of the largest pixel value: images that are nearly alike must not make every other one strange
SIZES_APART = 2.0  # times smaller or larger than any training image


def reference_statistics(
    channel_mean: ArrayLike, channel_std: ArrayLike, sides: ArrayLike, maximum_value: int
) -> dict[str, Any]:
    """Describe the training images, as a model keeps it.

    Args:
        channel_mean: (images, channels), raw pixel units.
        channel_std: (images, channels), likewise.
        sides: (images, 2), height and width in pixels.
        maximum_value: 255 or 65535.

    Returns:
        `images` (their number), `mean` and `std` (each `low` and `high` by channel: what lies beyond is strange),
        `side` (`low`, `high`, in pixels).
    """
    sides = np.asarray(sides)
    return {
        "images": len(sides),
        "mean": _limits(np.asarray(channel_mean, np.float64), maximum_value),
        "std": _limits(np.asarray(channel_std, np.float64), maximum_value),
        "side": {"low": float(sides.min()) / SIZES_APART, "high": float(sides.max()) * SIZES_APART},
    }


def _limits(values: NDArray[np.float64], maximum_value: int) -> dict[str, list[float]]:
    """Return the outer fences by channel, but nothing that a training image had is strange."""
    first, third = np.quantile(values, (0.25, 0.75), axis=0)
    reach = FENCE * np.maximum(third - first, LEAST_RANGE * maximum_value)
    rounding = 1e-6 * maximum_value  # the same mean, computed in another order, is not the same to the last digit
    low = np.minimum(first - reach, values.min(axis=0) - rounding)
    high = np.maximum(third + reach, values.max(axis=0) + rounding)
    return {"low": low.tolist(), "high": high.tolist()}


def ood_flags(pixels: NDArray, known: Mapping[str, Any] | None) -> list[str]:
    """Say in which ways an image is unlike the training images.

    Args:
        pixels: (height, width, channels), raw values.
        known: what `typical` returned; None where the model does not say.

    Returns:
        `low_brightness`, `high_brightness`, `low_contrast`, `high_contrast`, `small`, `large`; with the channel where
        it is not true of all, such as `low_brightness in channel 2`.
    """
    if not known:
        return []
    import cv2

    channels = pixels.shape[2]
    flat = [cv2.meanStdDev(pixels[:, :, number]) for number in range(channels)]
    mean = np.array([found[0][0, 0] for found in flat])
    deviation = np.array([found[1][0, 0] for found in flat])
    flags = _beyond(mean, known["mean"], "low_brightness", "high_brightness")
    flags += _beyond(deviation, known["std"], "low_contrast", "high_contrast")
    if min(pixels.shape[:2]) < known["side"]["low"]:
        flags.append("small")
    if max(pixels.shape[:2]) > known["side"]["high"]:
        flags.append("large")
    return flags


def _beyond(values: NDArray, limits: Mapping[str, list[float]], below: str, above: str) -> list[str]:
    """Compare by channel."""
    found = []
    for word, beyond in ((below, values < np.array(limits["low"])), (above, values > np.array(limits["high"]))):
        if beyond.all():
            found.append(word)
        elif beyond.any():
            found.append(f"{word} in channel {', '.join(str(number) for number in np.flatnonzero(beyond))}")
    return found
