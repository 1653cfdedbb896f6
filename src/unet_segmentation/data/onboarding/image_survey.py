"""Survey images: sizes, channels, depth, and the range of numbers that are no 8 or 16 bit values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unet_segmentation.data.io.bit_depth import BitDepthError, to_uint
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError, read_raster
from unet_segmentation.data.io.image_reader import colored
from unet_segmentation.data.onboarding.file_types import spread, track

SAMPLE = 48  # images that are decoded
SAMPLED = 10_000  # values of an image of which percentiles are taken


@dataclass
class ImageSurvey:
    """What a sample of the images holds."""

    formats: set[str] = field(default_factory=set)
    channels: set[int] = field(default_factory=set)  # without transparency
    depths: set[str] = field(default_factory=set)  # types of numbers
    sizes: list[tuple[int, int]] = field(default_factory=list)  # height and width of each image that was decoded
    alpha: bool = False  # any has transparency
    low: tuple[float, float] | None = None  # of images that need a range: least value, and 0.1 percentile
    high: tuple[float, float] | None = None  # greatest value, and 99.9 percentile
    unreadable: dict[str, str] = field(default_factory=dict)  # files, and why they cannot be read


def survey_images(storage: FileStore, images: Sequence[str]) -> ImageSurvey:
    """Decode a sample of the images, spread over all of them."""
    survey = ImageSurvey()
    numbers = []
    for path in track(spread(images, SAMPLE), "Reading images"):
        try:
            raster = read_raster(storage, path)
        except UnreadableError as error:
            survey.unreadable[path] = str(error)
            continue
        pixels = colored(raster)
        survey.formats.add(raster.format)
        survey.alpha |= raster.alpha or (raster.palette is not None and raster.palette.shape[1] == 4)
        survey.channels.add(1 if pixels.ndim == 2 else pixels.shape[2])
        survey.depths.add("1 bit" if raster.pixels.dtype == bool else str(pixels.dtype))
        survey.sizes.append((pixels.shape[0], pixels.shape[1]))
        try:
            to_uint(pixels, None)
        except BitDepthError as error:
            if error.kind == "no_range":
                some = pixels.ravel()[:: pixels.size // SAMPLED + 1].astype(np.float64)
                numbers.append([pixels.min(), *np.percentile(some, [0.1, 99.9]), pixels.max()])
            else:
                survey.unreadable[path] = str(error)
    if numbers:
        least, low, high, greatest = np.array(numbers, np.float64).T
        survey.low = float(least.min()), float(np.median(low))
        survey.high = float(greatest.max()), float(np.median(high))
    return survey
