"""Tiles: how a large image is cut, and its parts are put together again. Numbers only; no network, no torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.backends.base import Image, Mask, Probabilities

SIGMA = 1 / 8  # of the blending weights, as a share of the tile's side (nnU-Net)


def argmax_mask(probabilities: Probabilities) -> Mask:
    """Return the most probable class of every pixel; of equal ones, the first.

    Args:
        probabilities: (classes, height, width).
    """
    return argmax_with_confidence(probabilities)[0]


def argmax_with_confidence(probabilities: Probabilities) -> tuple[Mask, NDArray[np.float32]]:
    """Return the most probable class of every pixel (of equal ones, the first), and its probability.

    Args:
        probabilities: (classes, height, width).

    Returns:
        Both (height, width).
    """
    best = probabilities[0].copy()
    mask = np.zeros(best.shape, np.uint8)
    for number in range(1, len(probabilities)):  # four times as fast as numpy's argmax over the first axis
        better = probabilities[number] > best
        mask[better] = number
        np.maximum(best, probabilities[number], out=best)
    return mask, best


def padded(image: Image, size: tuple[int, int]) -> Image:
    """Extend an image below and to the right by reflection (an image of one pixel: by repetition).

    Args:
        image: (height, width, channels).
        size: height and width wanted, not smaller than the image's.
    """
    below, right = size[0] - image.shape[0], size[1] - image.shape[1]
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="reflect")  # type: ignore[return-value]


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Place tiles along one side: evenly, the first at 0, the last at the end, neighbours sharing at least `overlap`.

    Args:
        length: of the side, in pixels, at least `tile`.
        tile: length of a tile, in pixels.
        overlap: share of a tile.
    """
    step = max(1, int(tile * (1 - overlap)))
    count = math.ceil((length - tile) / step) + 1
    return [round(place) for place in np.linspace(0, length - tile, count)]


def blending_weights(height: int, width: int) -> NDArray[np.float32]:
    """Weigh the pixels of a tile: a Gaussian around its middle, sigma an eighth of its side, nowhere 0.

    As in nnU-Net (Isensee et al. 2021): a network knows least at the border of a tile.

    Returns:
        (height, width), at most 1.
    """
    rows, columns = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side * SIGMA)) ** 2) for side in (height, width)
    )
    return np.outer(rows, columns).astype(np.float32)


def round_up_to_multiple(length: int, multiple: int) -> int:
    """Return the next multiple, at least `length`."""
    return math.ceil(length / multiple) * multiple
