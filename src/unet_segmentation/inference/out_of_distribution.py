"""Is an image like those that the network was trained on? Arithmetic on means, contrasts and sizes; no network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.statistics import ChannelLimits, ReferenceStatistics


def ood_flags(pixels: NDArray[Any], reference: ReferenceStatistics | None) -> list[str]:
    """Name in which ways an image (height, width, channels) of raw values is unlike the training images.

    Returns:
        `low_brightness`, `high_brightness`, `low_contrast`, `high_contrast`, `small`, `large`; with the channel where
        it is not true of all, such as `low_brightness in channel 2`.
    """
    if reference is None:
        return []
    import cv2

    channels = pixels.shape[2]
    moments = [cv2.meanStdDev(pixels[:, :, number]) for number in range(channels)]
    mean = np.array([mean[0, 0] for mean, _ in moments])
    deviation = np.array([std[0, 0] for _, std in moments])
    flags = _beyond(mean, reference.mean, "low_brightness", "high_brightness")
    flags += _beyond(deviation, reference.std, "low_contrast", "high_contrast")
    if min(pixels.shape[:2]) < reference.side.low:
        flags.append("small")
    if max(pixels.shape[:2]) > reference.side.high:
        flags.append("large")
    return flags


def _beyond(values: NDArray[Any], limits: ChannelLimits, below: str, above: str) -> list[str]:
    """Compare by channel."""
    flags = []
    for word, beyond in ((below, values < np.array(limits.low)), (above, values > np.array(limits.high))):
        if beyond.all():
            flags.append(word)
        elif beyond.any():
            flags.append(f"{word} in channel {', '.join(str(number) for number in np.flatnonzero(beyond))}")
    return flags
