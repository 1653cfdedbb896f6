"""A contact sheet: images beside their masks, read as the new problem reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_segmentation.atomic import whole
from unet_segmentation.errors import ProjectError
from unet_segmentation.onboarding.files import spread
from unet_segmentation.parameters import Parameters
from unet_segmentation.samples.decoding import UnreadableError
from unet_segmentation.samples.encodings import EncodingError, decode_masks
from unet_segmentation.samples.reading import read_image
from unet_segmentation.sources.layout import Layout, Sample
from unet_segmentation.storage import Storage

SHOWN = 12
SIDE = 240  # pixels


def write_contact_sheet(storage: Storage, samples: Sequence[Sample], parameters: Parameters, target: Path) -> list[str]:
    """Read some samples with the parameters that were written, and show them.

    Args:
        storage: where the files are.
        samples: with images and masks.
        parameters: of the new problem.
        target: file to write.

    Returns:
        What went wrong with samples that could not be read so, or hold what is not declared.
    """
    from unet_segmentation.figures.pictures import class_colours, colour_mask, contact_sheet, displayable, fitted

    layout = Layout.of(parameters.source)
    colours = class_colours(len(parameters.classes))
    by_image = {sample.image: sample for sample in samples}
    tiles, captions, problems = [], [], []
    for path in spread(list(by_image), SHOWN):
        sample = by_image[path]
        try:
            image = read_image(storage, path, parameters.images).pixels
            size = (image.shape[0], image.shape[1])
            labels = [layout.label(mask) for mask in sample.masks]
            mask = decode_masks(storage, sample.masks, labels, parameters.masks, parameters.classes, path, size)
        except (UnreadableError, EncodingError, ProjectError) as error:
            problems.append(f"{path}: {error}")
            continue
        if mask.undeclared:
            problems.append(f"{path}: undeclared {', '.join(list(mask.undeclared)[:8])}")
        tiles += [fitted(displayable(image), SIDE), fitted(colour_mask(mask.ids, colours), SIDE)]
        present = [parameters.classes[number] for number in np.unique(mask.ids).tolist() if number < len(colours)]
        captions += [sample.id, ", ".join(present)]
    with whole(target) as temporary:
        contact_sheet(tiles, columns=6, captions=captions, side=SIDE).save(temporary, "PNG")
    return problems
