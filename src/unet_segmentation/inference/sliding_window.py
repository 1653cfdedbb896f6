"""Tiles: how a large image is cut, and its parts are put together again. Numbers only; no network, no torch.

An image in memory is blended by `Predictor`, which divides by the sum of the weights at the end; a raster larger than
memory row by row by `rasters/predict_raster.py`, with the normalized weights of `rasters/tiling.py`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.backends.base import Image, Mask, Probabilities

SIGMA = 1 / 8  # of the blending weights, as a share of the tile's side (nnU-Net)


def argmax_mask(probabilities: Probabilities) -> Mask:
    """Return the most probable class of every pixel, (classes, height, width) to (height, width)."""
    return argmax_with_confidence(probabilities)[0]


def argmax_with_confidence(probabilities: Probabilities) -> tuple[Mask, NDArray[np.float32]]:
    """Return the most probable class of every pixel (of equal ones, the first) and its probability, (height, width)."""
    best = probabilities[0].copy()
    mask = np.zeros(best.shape, np.uint8)
    for number in range(1, len(probabilities)):  # four times as fast as numpy's argmax over the first axis
        better = probabilities[number] > best
        mask[better] = number
        np.maximum(best, probabilities[number], out=best)
    return mask, best


def padded(image: Image, size: tuple[int, int]) -> Image:
    """Extend an image (height, width, channels) below and to the right by reflection, to a height and width.

    An image of one pixel is repeated.
    """
    below, right = size[0] - image.shape[0], size[1] - image.shape[1]
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="reflect")  # type: ignore[return-value]


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Place tiles along one side: evenly, the first at 0, the last at the end.

    Args:
        length: of the side, in pixels, at least `tile`.
        tile: length of a tile, in pixels.
        overlap: share of a tile that neighbors share at least.
    """
    step = max(1, int(tile * (1 - overlap)))
    count = math.ceil((length - tile) / step) + 1
    return [round(place) for place in np.linspace(0, length - tile, count)]


def blending_weights(height: int, width: int) -> NDArray[np.float32]:
    """Weigh the pixels of a tile, (height, width): a Gaussian around its middle, at most 1, nowhere 0.

    As in nnU-Net (Isensee et al. 2021): a network knows least at the border of a tile.
    """
    return np.outer(gaussian(height), gaussian(width)).astype(np.float32)


def gaussian(size: int) -> NDArray[np.float64]:
    """Return a Gaussian around the middle of a side of `size` pixels, with a sigma of `SIGMA` of it."""
    weights: NDArray[np.float64] = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size * SIGMA)) ** 2)
    return weights


def round_up_to_multiple(length: int, multiple: int) -> int:
    """Return the next multiple, at least `length`."""
    return math.ceil(length / multiple) * multiple
