"""Thumbnails that inspection stores of each sample, so that samples can be compared without decoding them again.

A signature is one record of fixed size (2.5 kB), so those of a data set are one flat file behind a memory map.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unet_segmentation.utils.ignore_index import IGNORE_INDEX

SIDE = 32  # pixels of a thumbnail
COARSE = SIDE // 2  # pixels of its color, which the eye (and JPEG) resolves less finely, too
MIN_PIXELS = 2 * SIDE  # of the shorter side, above which halving stops
FLAT = 0.01  # gray levels; less than that is rounding, not contrast

SIGNATURE = np.dtype(
    [
        ("gray", np.uint8, (SIDE, SIDE)),
        ("color", np.uint8, (2, COARSE, COARSE)),
        ("classes", np.uint8, (SIDE, SIDE)),
        ("height", np.int32),
        ("width", np.int32),
    ]
)
"""`gray`: mean of the channels; `color`: first and last channel less `gray`; each averaged over areas and stretched to
0..255, all 0 where it is constant. `classes`: the mask at the middle of each area, 255 ignored. `height` and `width`:
of the image, in pixels."""


def signature(pixels: NDArray[Any], ids: NDArray[np.uint8] | None = None) -> np.void:
    """Condense a sample to a record.

    Args:
        pixels: the image, (height, width, channels), uint8 or uint16. Of more than four channels the first, the
            middle and the last count.
        ids: class ids, (height, width) uint8, 255 ignored; None where there is no mask.

    Returns:
        A record of `SIGNATURE`: the same pixels give the same bytes.
    """
    record: np.void = np.zeros(1, SIGNATURE)[0]
    height, width, channels = pixels.shape
    if channels > 4:  # OpenCV resizes no more than four
        pixels = pixels[:, :, [0, channels // 2, channels - 1]]
    small = _averaged(np.ascontiguousarray(pixels))
    gray = small.mean(axis=2)
    record["gray"] = _stretched(gray)
    if channels > 1:
        for number, channel in enumerate((0, -1)):
            coarse = cv2.resize(small[:, :, channel] - gray, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
            record["color"][number] = _stretched(coarse)
    record["classes"] = IGNORE_INDEX if ids is None else ids[np.ix_(_middles(ids.shape[0]), _middles(ids.shape[1]))]
    record["height"], record["width"] = height, width
    return record


def _averaged(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Average over areas: (height, width, channels) to (SIDE, SIDE, channels).

    Halving first is five times as fast as one step, because 2 x 2 areas hold whole pixels.
    """
    while min(pixels.shape[:2]) >= 2 * MIN_PIXELS:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        halved = cv2.resize(pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        pixels = halved.reshape(height, width, -1)  # OpenCV drops a single channel's axis
    small = cv2.resize(pixels.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(SIDE, SIDE, -1)


def _stretched(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch the values to 0..255, so that contrast survives rounding at any depth and exposure."""
    least, most = float(plane.min()), float(plane.max())
    if most - least < FLAT:
        return np.zeros(plane.shape, np.uint8)
    return np.rint((plane - least) * (255 / (most - least))).astype(np.uint8)


def _middles(length: int) -> NDArray[np.intp]:
    """Index of the middle of each of SIDE equal parts."""
    return (2 * np.arange(SIDE) + 1) * length // (2 * SIDE)
