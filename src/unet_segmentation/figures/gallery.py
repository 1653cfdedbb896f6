"""The worst, the median and the best predictions side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unet_segmentation.figures.pictures import (
    INK,
    PAPER,
    Picture,
    colour_mask,
    contact_sheet,
    displayable,
    error_map,
    fitted,
    font,
)

SIDE = 256  # of a tile, in pixels


class Shown(NamedTuple):
    """A sample of the gallery; arrays as in `error_map`."""

    section: str
    sample_id: str
    score: float
    image: NDArray
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def pick(image_scores: pd.DataFrame, score: str, count: int) -> list[tuple[str, str, float]]:
    """Choose the samples of the gallery; none comes twice, and images without a score never.

    Args:
        image_scores: columns sample_id and ``score``.
        score: what orders the samples.
        count: samples of each section; fewer where there are less than three times as many.

    Returns:
        (section, sample id, score): the worst first, then those around the median, then the best, the best last.
    """
    table = image_scores.dropna(subset=[score]).sort_values([score, "sample_id"], kind="stable")
    ranked = list(zip(table["sample_id"].astype(str), table[score].astype(float), strict=True))
    if len(ranked) < 3:
        return [("All", *sample) for sample in ranked]
    count = min(count, len(ranked) // 3)
    middle = (len(ranked) - count) // 2
    sections = {"Worst": ranked[:count], "Median": ranked[middle : middle + count], "Best": ranked[-count:]}
    return [(section, *sample) for section, samples in sections.items() for sample in samples]


def gallery(samples: Iterable[Shown], classes: Sequence[str], score: str) -> Image.Image:
    """Draw a row for every sample: image, truth, prediction, errors.

    Args:
        samples: in their order; a section's name is written above its first sample.
        classes: names of the classes, for the legend.
        score: name of the score in the captions, for people.
    """
    strips: list[Image.Image] = []
    section = None
    for sample in samples:
        if sample.section != section:
            section = sample.section
            strips.append(_heading(section))
        pictures = (
            displayable(sample.image),
            colour_mask(sample.truth),
            colour_mask(sample.prediction),
            error_map(sample.image, sample.truth, sample.prediction),
        )
        captions = [sample.sample_id, "truth", "prediction", f"errors in red    {score} {sample.score:.3f}"]
        strips.append(contact_sheet([_framed(fitted(picture, SIDE)) for picture in pictures], 4, captions))
    width = max((strip.width for strip in strips), default=4 * SIDE)
    return _stacked([legend(classes, width), *strips], width)


def legend(classes: Sequence[str], width: int) -> Image.Image:
    """Draw the classes' colours and names, in as many lines as a picture of ``width`` pixels needs."""
    text, entries, left, line = font(14), [], 6, 0
    names = [*classes, "ignored"]
    swatches = colour_mask(np.array([[*range(len(classes)), 255]], np.uint8)[:, :, None].repeat(16, 2).reshape(1, -1))
    for number, name in enumerate(names):
        length = 30 + int(text.getlength(name))
        if left + length > width and left > 6:
            left, line = 6, line + 1
        entries.append((number, name, left, 6 + 24 * line))
        left += length + 14
    sheet = Image.new("RGB", (width, 24 * (line + 1) + 10), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, name, x, y in entries:
        swatch = swatches[:, 16 * number : 16 * number + 16].repeat(16, axis=0)
        sheet.paste(Image.fromarray(np.ascontiguousarray(swatch)), (x, y))
        draw.rectangle((x, y, x + 15, y + 15), outline=(150, 150, 150))
        draw.text((x + 22, y - 1), name, fill=INK, font=text)
    return sheet


def _framed(picture: Picture) -> Picture:
    """Widen a narrow picture with paper, so that the columns of all rows stand below each other."""
    space = SIDE - picture.shape[1]
    return np.pad(picture, ((0, 0), (0, space), (0, 0)), constant_values=PAPER[0])


def _heading(text: str) -> Image.Image:
    strip = Image.new("RGB", (4 * SIDE, 34), PAPER)
    ImageDraw.Draw(strip).text((6, 8), text, fill=INK, font=font(20))
    return strip


def _stacked(strips: Sequence[Image.Image], width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet
