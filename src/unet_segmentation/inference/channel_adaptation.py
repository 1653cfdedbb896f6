"""How the images of a model are read, and how a gray image is adapted to a model of colors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters.data import ImageParameters

GRAY, RGB = 1, 3  # channels


def image_parameters(spec: ModelSpec) -> ImageParameters:
    """Return how a model's training images were read; older model files say less about it."""
    if spec.images is not None:
        return ImageParameters.model_validate(spec.images)
    keep = spec.bands is None and spec.in_channels in {2, 4}
    bands = None if spec.bands is None else list(spec.bands)
    return ImageParameters(bands=bands, range=spec.range, alpha="keep" if keep else "drop")


def with_channels(pixels: NDArray[Any], channels: int, images: ImageParameters) -> NDArray[Any]:
    """Repeat a gray image (height, width, 1) in three channels, or take one of three where all are equal.

    Args:
        pixels: (height, width, channels of the file).
        channels: what the network takes.
        images: declared bands are taken at their word.

    Raises:
        DataError: the file does not fit; says what it is and what the network takes.
    """
    file_channels = pixels.shape[2]
    if images.bands is not None or file_channels == channels:
        return pixels
    if file_channels == GRAY and channels == RGB:
        return np.repeat(pixels, RGB, axis=2)
    if file_channels == RGB and channels == GRAY:
        if (pixels == pixels[:, :, :1]).all():
            return np.ascontiguousarray(pixels[:, :, :1])
        raise DataError("is colored; the network was trained on gray images. Convert it first")
    raise DataError(f"has {file_channels} channels; the network takes {channels}. Convert it first")
