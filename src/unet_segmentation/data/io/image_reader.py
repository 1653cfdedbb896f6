"""Image files become arrays of 8 or 16 bits: each file is read once, hashed and decoded from the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.bit_depth import BitDepthError, to_uint
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import LARGEST, Note, Raster, UnreadableError, decode_raster, read_raster
from unet_segmentation.parameters.data import ImageParameters

CLIPPED_SHARE = 0.01  # of the values outside the range: from here on it is reported


@dataclass(frozen=True)
class DecodedImage:
    """An image file, with what was done to it or is odd."""

    pixels: NDArray[Any]  # (height, width, channels) uint8 or uint16
    sha256: str  # of the file's bytes; of the pixels and their shape where one page of several was read
    notes: tuple[Note, ...]


def read_image(storage: FileStore, path: str, images: ImageParameters) -> DecodedImage:
    """Decode an image: 8 and 16 bits as they are, other numbers by a range; upright (EXIF), palettes as colors.

    Raises:
        UnreadableError: the file is missing or damaged (`unreadable_image`), needs a range (`no_range`), or holds NaN
            or infinite values (`not_finite`).
    """
    return from_raster(read_raster(storage, path), images)


def decode_image(data: bytes, name: str, images: ImageParameters, *, largest: int = LARGEST) -> DecodedImage:
    """Decode the bytes of an image file of at most ``largest`` pixels, as `read_image` does the file.

    Raises:
        UnreadableError: see `read_image`; the message begins with the name.
    """
    try:
        return from_raster(decode_raster(data, largest=largest), images)
    except UnreadableError as error:
        raise UnreadableError(f"{name} {error}", error.kind) from None


def from_raster(raster: Raster, images: ImageParameters) -> DecodedImage:
    """Convert what a file, or a window of it, holds to the input of the model; see `read_image`."""
    pixels, notes = _chosen_bands(raster, images)
    try:
        pixels, clipped = to_uint(pixels, images.range)
    except BitDepthError as error:
        raise UnreadableError(str(error), error.kind) from None
    if clipped > CLIPPED_SHARE:
        notes += (
            ("clipped_range", f"{clipped:.1%} of the values lie outside images.range {list(images.range or ())}"),
        )
    return DecodedImage(pixels, raster.sha256, raster.notes + notes)


def read_roi(storage: FileStore, path: str) -> NDArray[np.bool_]:
    """Decode a region of interest: (height, width), True where the file holds any value but 0 (or black).

    Raises:
        UnreadableError: the file is missing or damaged (`unreadable_roi`).
    """
    try:
        raster = read_raster(storage, path)
    except UnreadableError as error:
        raise UnreadableError(str(error), "unreadable_roi") from None
    pixels = colored(raster)
    return (pixels != 0) if pixels.ndim == 2 else (pixels != 0).any(axis=2)


def colored(raster: Raster, *, alpha: bool = False) -> NDArray[Any]:
    """Convert pixels to what a viewer shows: palettes looked up, one bit as black and white.

    Returns:
        (height, width) or (height, width, bands); with ``alpha`` the last band is transparency, which else is dropped.
    """
    pixels = raster.pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if raster.palette is not None:
        bands = raster.palette.shape[1] if alpha else 3
        colors = np.zeros((np.iinfo(pixels.dtype).max + 1, bands), np.uint8)
        colors[: len(raster.palette)] = raster.palette[:, :bands]  # beyond its end is black, as viewers show it
        return colors[pixels]
    if not raster.alpha or alpha:
        return pixels
    if pixels.shape[2] == 4 and pixels.dtype in (np.uint8, np.uint16):
        import cv2

        return cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)  # several times as fast as copying a view
    return pixels[:, :, 0] if pixels.shape[2] == 2 else np.ascontiguousarray(pixels[:, :, :-1])


def _chosen_bands(raster: Raster, images: ImageParameters) -> tuple[NDArray[Any], tuple[Note, ...]]:
    """Return (height, width, channels)."""
    has_alpha = raster.alpha or (raster.palette is not None and raster.palette.shape[1] == 4)
    keep = images.alpha == "keep" or images.bands is not None
    pixels = colored(raster, alpha=keep)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if images.bands is not None:  # they count the bands of the file, transparency among them
        if max(images.bands) >= pixels.shape[2]:
            raise UnreadableError(
                f"has {pixels.shape[2]} bands; images.bands wants number {max(images.bands)} (from 0)"
            )
        pixels = np.ascontiguousarray(pixels[:, :, images.bands])
    return pixels, (("alpha_dropped", "transparency is not used"),) if has_alpha and not keep else ()
