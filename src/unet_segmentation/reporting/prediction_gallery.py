"""The worst, the median and the best predictions side by side, of all classes together and of each."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unet_segmentation.data.label_map import class_slugs
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.metrics.prediction_masks import read_prediction
from unet_segmentation.parameters import EvaluationParameters
from unet_segmentation.visualization import (
    INK,
    PAPER,
    Picture,
    color_mask,
    contact_sheet,
    displayable,
    error_map,
    fitted,
    font,
    legend,
)

SIDE = 256  # of a tile, in pixels
SMALL_SIDE = 132  # of a tile of the gallery by class
EMBEDDED_SIDE = 448  # longest of a picture on the page, in pixels
SHOWN_CLASSES = 20  # the weakest; more would be a book
PARTS = ("image", "truth", "prediction", "errors")


class Shown(NamedTuple):
    """A sample of the gallery; arrays as in `error_map`."""

    section: str
    sample_id: str
    score: float
    image: NDArray[Any]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def select_examples(image_scores: pd.DataFrame, score: str, count: int) -> list[tuple[str, str, float]]:
    """Choose `count` samples of each section; none comes twice, and images without a score never.

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


def pick_by_class(
    image_scores: pd.DataFrame, confusion: pd.DataFrame, classes: Sequence[str]
) -> list[tuple[str, str, str, float]]:
    """Choose the worst, the median and the best image of each class, by the IoU of that class in the image.

    Of images with the same IoU (many a rare class is missed wholly, or picked where it is not) the one with more pixels
    at stake is taken: those that are of the class or were predicted as it.

    Returns:
        (class, section, sample id, IoU), the class with the lowest IoU over all images first; at most `SHOWN_CLASSES`
        classes. A class without a scored image has no entry, and no image comes twice for a class.
    """
    picked: list[tuple[float, list[tuple[str, str, str, float]]]] = []
    for number, (name, slug) in enumerate(zip(classes, class_slugs(classes), strict=True)):
        column = f"iou/class/{slug}"
        at_stake = confusion[(confusion["truth"] == number) | (confusion["prediction"] == number)]
        pixels = at_stake.groupby("sample_id")["count"].sum()
        table = image_scores[["sample_id", column]].dropna()
        table = table.assign(pixels=table["sample_id"].map(pixels).fillna(0))
        table = table.sort_values([column, "pixels", "sample_id"], ascending=[True, False, True], ignore_index=True)
        ranked = list(zip(table["sample_id"].astype(str), table[column].astype(float), strict=True))
        if ranked:
            hits = at_stake.loc[at_stake["truth"] == at_stake["prediction"], "count"].sum()
            iou = float(hits) / max(1, int(pixels.sum()))
            picked.append((iou, [(name, section, *ranked[place]) for place, section in _places(ranked).items()]))
    picked.sort(key=lambda entry: entry[0])
    return [row for _, rows in picked[:SHOWN_CLASSES] for row in rows]


def _places(ranked: Sequence[tuple[str, float]]) -> dict[int, str]:
    """Name the places of the worst, the median and the best image; of equally good ones the first is the best."""
    if len(ranked) == 1:
        return {0: "only"}
    best = next(place for place, (_, score) in enumerate(ranked) if score == ranked[-1][1])
    places = {best: "best", len(ranked) // 2: "median", 0: "worst"} if len(ranked) > 2 else {best: "best", 0: "worst"}
    return dict(sorted(places.items()))


def load_galleries(
    image_scores: pd.DataFrame,
    confusion: pd.DataFrame,
    predictions: Path,
    packed: PackedSamples,
    classes: Sequence[str],
    evaluation: EvaluationParameters,
) -> tuple[Iterator[Shown], Iterator[tuple[str, Shown]]]:
    """Read the samples of the gallery, and those of the gallery by class, one by one."""

    def shown(section: str, name: str, value: float) -> Shown:
        return Shown(section, name, value, packed.image(name), packed.mask(name), read_prediction(predictions, name))

    picked = select_examples(image_scores, evaluation.gallery_score, evaluation.gallery_samples)
    by_class = pick_by_class(image_scores, confusion, classes)
    return (shown(*sample) for sample in picked), (
        (name, shown(part, sample, iou)) for name, part, sample, iou in by_class
    )


def gallery(samples: Iterable[Shown], classes: Sequence[str], score: str) -> Image.Image:
    """Draw a row for every sample: image, truth, prediction, errors; a section's name above its first sample."""
    strips: list[Image.Image] = []
    for section, members in groupby(samples, key=lambda sample: sample.section):
        strips.append(_heading(section))
        for sample in members:
            captions = [sample.sample_id, "truth", "prediction", f"errors in red    {score} {sample.score:.3f}"]
            tiles = [_framed(fitted(picture, SIDE), SIDE) for picture in draw_pictures(sample)]
            strips.append(contact_sheet(tiles, 4, captions))
    width = max((strip.width for strip in strips), default=4 * SIDE)
    return stack_strips([legend(classes, width), *strips], width)


def class_gallery(samples: Iterable[tuple[str, Shown]], classes: Sequence[str]) -> Image.Image:
    """Draw a row for every class: image, truth, prediction and errors of its worst, median and best image."""
    strips: list[Image.Image] = []
    for name, members in groupby(samples, key=lambda entry: entry[0]):
        tiles, captions = [], []
        for _, sample in members:
            tiles += [_framed(fitted(picture, SMALL_SIDE), SMALL_SIDE) for picture in draw_pictures(sample)]
            captions += [sample.sample_id, "truth", "prediction", f"{sample.section}: IoU {sample.score:.3f}"]
        strips += [_heading(name), contact_sheet(tiles, len(tiles), captions)]
    width = max((strip.width for strip in strips), default=12 * SMALL_SIDE)
    return stack_strips([legend(classes, width), *strips], width)


def draw_pictures(sample: Shown) -> Iterator[Picture]:
    """Draw image, truth, prediction and errors (`PARTS`) of a sample; of a large one every few pixels only."""
    step = max(1, max(sample.truth.shape) // (4 * EMBEDDED_SIDE))
    image, truth, prediction = (array[::step, ::step] for array in (sample.image, sample.truth, sample.prediction))
    yield displayable(image)
    yield color_mask(truth)
    yield color_mask(prediction)
    yield error_map(image, truth, prediction)


def encode_pictures(sample: Shown) -> list[bytes]:
    """Encode the pictures of a sample for a page: WebP, at most `EMBEDDED_SIDE` pixels; the masks without loss."""
    encoded = []
    for part, picture in zip(PARTS, draw_pictures(sample), strict=True):
        small = fitted(picture, EMBEDDED_SIDE) if max(picture.shape[:2]) > EMBEDDED_SIDE else picture
        stream = io.BytesIO()
        Image.fromarray(small).save(stream, "WEBP", quality=84, lossless=part in ("truth", "prediction"))
        encoded.append(stream.getvalue())
    return encoded


def _framed(picture: Picture, side: int) -> Picture:
    """Widen a narrow picture with paper, so that the columns of all rows stand below each other."""
    space = side - picture.shape[1]
    return np.pad(picture, ((0, 0), (0, space), (0, 0)), constant_values=PAPER[0])


def _heading(text: str) -> Image.Image:
    strip = Image.new("RGB", (4 * SIDE, 34), PAPER)
    ImageDraw.Draw(strip).text((6, 8), text, fill=INK, font=font(20))
    return strip


def stack_strips(strips: Sequence[Image.Image], width: int) -> Image.Image:
    """Paste pictures below each other."""
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet
