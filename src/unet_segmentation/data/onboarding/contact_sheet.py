"""Draw a contact sheet: some images, each next to its mask as it would be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_segmentation.data.io.image_decoders import UnreadableError
from unet_segmentation.data.io.image_reader import read_image
from unet_segmentation.data.io.mask_decoder import MaskDecoder
from unet_segmentation.data.io.mask_encodings import EncodingError
from unet_segmentation.data.layout.layout import Layout, Sample
from unet_segmentation.data.onboarding.file_types import spread
from unet_segmentation.data.onboarding.folder_survey import Survey
from unet_segmentation.parameters import Parameters
from unet_segmentation.utils.atomic_io import atomic_write
from unet_segmentation.visualization import Picture, color_mask, contact_sheet, displayable, fitted, legend

SAMPLES, COLUMNS, SIDE = 16, 8, 192
OF_IMAGES = {"unreadable_image", "no_range", "not_finite"}  # kinds of findings; the others are about masks


def write_sheet(file: Path, survey: Survey, parameters: Parameters) -> list[str]:
    """Draw some samples and write them as PNG; return what is wrong with those that could not be read, by line."""
    from PIL import Image

    by_image = {sample.image: sample for sample in survey.pairing.pairs}
    tiles: list[Picture] = []
    captions: list[str] = []
    problems: list[str] = []
    for image in spread(list(by_image), SAMPLES):
        try:
            tiles += _drawn(by_image[image], survey, parameters)
            captions += [by_image[image].id, "mask"]
        except (UnreadableError, EncodingError) as error:
            path = image if error.kind in OF_IMAGES else ", ".join(by_image[image].masks)
            problems.append(f"{path}: {error}")
    if not tiles:
        return problems
    sheet = contact_sheet(tiles, COLUMNS, captions, side=SIDE)
    rows = [np.asarray(part) for part in (legend(parameters.classes, sheet.width), sheet)]
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, "PNG")
    return problems


def _drawn(sample: Sample, survey: Survey, parameters: Parameters) -> list[Picture]:
    layout = Layout.of(parameters.source)
    image = read_image(survey.storage, sample.image, parameters.images).pixels
    image_height, image_width = image.shape[:2]
    decoder = MaskDecoder(survey.storage, parameters.masks, parameters.classes, layout.label)
    ids = decoder.decode(sample.masks, sample.image, (image_height, image_width)).ids
    height, width = ids.shape
    if (height, width) != (image_height, image_width):
        raise EncodingError(
            "size_mismatch", f"is {width} x {height} pixels, but {sample.image} is {image_width} x {image_height}"
        )
    step = max(1, max(height, width) // (4 * SIDE))  # nobody sees more of a large image
    small = np.ascontiguousarray(image[::step, ::step])
    return [fitted(displayable(small), SIDE), fitted(color_mask(ids[::step, ::step]), SIDE)]
