"""The contact sheet: some images, each beside its mask as it would be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_segmentation.atomic import whole
from unet_segmentation.figures.gallery import legend
from unet_segmentation.figures.pictures import PAPER, Picture, colour_mask, contact_sheet, displayable, fitted
from unet_segmentation.onboarding.files import spread
from unet_segmentation.onboarding.survey import Survey
from unet_segmentation.parameters import Parameters
from unet_segmentation.samples.decoding import UnreadableError
from unet_segmentation.samples.encodings import EncodingError, decode_masks
from unet_segmentation.samples.reading import read_image
from unet_segmentation.sources.layout import Layout, Sample

SAMPLES, COLUMNS, SIDE = 16, 8, 192


def write_sheet(file: Path, survey: Survey, parameters: Parameters) -> list[str]:
    """Draw some samples and write them as PNG.

    Args:
        file: where to.
        survey: the samples.
        parameters: how they are read.

    Returns:
        What is wrong with samples that could not be read so; one line each.
    """
    from PIL import Image

    by_image = {sample.image: sample for sample in survey.pairing.pairs}
    tiles: list[Picture] = []
    captions: list[str] = []
    problems: list[str] = []
    for image in spread(list(by_image), SAMPLES):
        try:
            pair = _drawn(by_image[image], survey, parameters)
        except (UnreadableError, EncodingError) as error:
            problems.append(f"{image}: {error}")
            continue
        tiles += pair
        captions += [by_image[image].id, "mask"]
    if not tiles:
        return problems
    sheet = contact_sheet(tiles, COLUMNS, captions, side=SIDE)
    names = legend(parameters.classes, sheet.width)
    whole_sheet = Image.new("RGB", (sheet.width, sheet.height + names.height), PAPER)
    whole_sheet.paste(names, (0, 0))
    whole_sheet.paste(sheet, (0, names.height))
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as temporary:
        whole_sheet.save(temporary, "PNG")
    return problems


def _drawn(sample: Sample, survey: Survey, parameters: Parameters) -> list[Picture]:
    layout = Layout.of(parameters.source)
    image = read_image(survey.storage, sample.image, parameters.images).pixels
    labels = [layout.label(mask) for mask in sample.masks]
    mask = decode_masks(
        survey.storage,
        sample.masks,
        labels,
        parameters.masks,
        parameters.classes,
        sample.image,
        (image.shape[0], image.shape[1]),
    )
    if mask.ids.shape != image.shape[:2]:
        sizes = " and ".join(f"{width} x {height}" for height, width in (image.shape[:2], mask.ids.shape))
        raise EncodingError("size_mismatch", f"image and mask have different sizes, {sizes} pixels")
    step = max(1, max(image.shape[:2]) // (4 * SIDE))  # nobody sees more of a large image
    small = np.ascontiguousarray(image[::step, ::step])
    return [fitted(displayable(small), SIDE), fitted(colour_mask(mask.ids[::step, ::step]), SIDE)]
