"""Survey images: sizes, channels, depth, and the range of numbers that are no 8 or 16 bit values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from unet_segmentation.data.io.bit_depth import BitDepthError, to_uint
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError, read_raster
from unet_segmentation.data.io.image_reader import coloured
from unet_segmentation.data.onboarding.file_types import spread

SAMPLE = 48  # images that are decoded
SAMPLED = 10_000  # values of an image of which percentiles are taken


@dataclass
class ImageSurvey:
    """What a sample of the images holds.

    Attributes:
        total: images there are.
        read: how many of them were decoded.
        formats: images by file format.
        channels: images by number of channels, without transparency.
        depths: images by type of number.
        sizes: images by (height, width).
        notes: images by what was noted of them: `turned_by_exif`, `several_pages`, `wrong_extension`.
        alpha: images with transparency.
        low: the least value, and the one of which 0.1% are below, of images that need a range.
        high: the greatest value, and the one of which 0.1% are above.
        unreadable: files, and why they cannot be read.
    """

    total: int = 0
    read: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    depths: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    alpha: int = 0
    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def median_side(self) -> int:
        """Median of the shorter sides, in pixels."""
        sides = sorted(min(size) for size in self.sizes.elements())
        return sides[len(sides) // 2] if sides else 0


def survey_images(
    storage: FileStore, images: Sequence[str], progress: Callable[[float], None] = lambda _: None
) -> ImageSurvey:
    """Decode a sample of the images, spread over all of them.

    Args:
        storage: where the files are.
        images: paths.
        progress: called with the share that is done.
    """
    survey = ImageSurvey(total=len(images))
    numbers = []
    chosen = spread(images, SAMPLE)
    for done, path in enumerate(chosen, start=1):
        try:
            raster = read_raster(storage, path)
        except UnreadableError as error:
            survey.unreadable[path] = str(error)
            continue
        pixels = coloured(raster)
        survey.read += 1
        survey.formats[raster.format] += 1
        survey.alpha += raster.alpha or (raster.palette is not None and raster.palette.shape[1] == 4)
        survey.channels[1 if pixels.ndim == 2 else pixels.shape[2]] += 1
        survey.depths["1 bit" if raster.pixels.dtype == bool else str(pixels.dtype)] += 1
        survey.sizes[pixels.shape[0], pixels.shape[1]] += 1
        survey.notes.update(kind for kind, _ in raster.notes)
        try:
            to_uint(pixels, None)
        except BitDepthError as error:
            if error.kind == "no_range":
                numbers.append(_extremes(pixels))
            else:
                survey.unreadable[path] = str(error)
        progress(done / len(chosen))
    if numbers:
        least, low, high, greatest = (np.array(column) for column in zip(*numbers, strict=True))
        survey.low = float(least.min()), float(np.median(low))
        survey.high = float(greatest.max()), float(np.median(high))
    return survey


def _extremes(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """Return least value, 0.1 and 99.9 percentile, greatest value."""
    some = pixels.ravel()[:: pixels.size // SAMPLED + 1].astype(np.float64)
    low, high = np.percentile(some, [0.1, 99.9])
    return float(pixels.min()), float(low), float(high), float(pixels.max())
