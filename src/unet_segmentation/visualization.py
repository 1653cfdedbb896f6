"""Images and masks as pictures for people."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unet_segmentation.utils.ignore_index import IGNORE_INDEX

Picture = NDArray[np.uint8]  # (height, width, 3)

PAPER, INK = (255, 255, 255), (31, 35, 40)
WRONG = (230, 57, 70)
CAPTION_SIZE = 12  # pixels

# Class 0 is nearly always the background: dark, so that the others stand out. No white and no gray: those mean ignored.
_COLORS = (
    *("22262e", "e8575a", "4d9de0", "f2c14e", "3bb273", "a06cd5", "f58549", "35c7c0", "e86fb0", "8cb369"),
    *("7a5c3e", "2456b8", "c9d64f", "9c2f4f", "5b8c85", "ffb5a7", "6f7bf7", "c08a2d", "1f6f4a", "d9a5f5"),
)


@cache
def class_colors(count: int) -> NDArray[np.uint8]:
    """Return colors that are easily told apart, (count, 3) RGB; that of a class does not depend on the count."""
    colors = [tuple(bytes.fromhex(color)) for color in _COLORS[:count]]
    for number in range(len(colors), count):  # further colors: steps of the golden angle, three shades
        hue, shade = (number * 0.618034) % 1.0, number % 3
        red, green, blue = colorsys.hls_to_rgb(hue, (0.42, 0.56, 0.70)[shade], (0.75, 0.60, 0.85)[shade])
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    table = np.array(colors, np.uint8).reshape(count, 3)
    table.flags.writeable = False  # it is cached
    return table


def displayable(image: NDArray[Any]) -> Picture:
    """Make a picture of an image (height, width) or (height, width, channels) of any depth.

    uint8 stays as it is; other depths are stretched between the 1st and the 99th percentile. One channel becomes
    gray; of more than three, the first three are shown.
    """
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    elif image.shape[2] == 2:
        image = np.concatenate([image, np.zeros_like(image[..., :1])], axis=2)
    image = image[..., :3]
    return np.ascontiguousarray(image if image.dtype == np.uint8 else _stretched(image))


def _stretched(image: NDArray[Any]) -> Picture:
    values = np.nan_to_num(image.astype(np.float64))
    low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 1.0)
    if high <= low:  # (nearly) one value only: nothing to stretch between
        low, high = values.min(initial=0), max(values.max(initial=1), values.min(initial=0) + 1)
    return np.round(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)


def color_mask(mask: NDArray[Any], colors: NDArray[np.uint8] | None = None) -> Picture:
    """Paint class ids in the classes' colors, `class_colors` by default; ignored pixels (255) are hatched."""
    mask = np.asarray(mask)
    return _hatched(_color_table(colors)[mask.astype(np.uint8)], mask == IGNORE_INDEX)


def _color_table(colors: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return a color for every id: (256, 3)."""
    table = class_colors(256)
    return table if colors is None else np.concatenate([colors, table[len(colors) :]])


def overlay(
    image: NDArray[Any], mask: NDArray[Any], colors: NDArray[np.uint8] | None = None, opacity: float = 0.5
) -> Picture:
    """Lay the classes' colors over an image; class 0 and ignored pixels show the image alone.

    Args:
        image: (height, width, channels), any depth.
        mask: (height, width) class ids, 255 = ignored.
        colors: (classes, 3) RGB; `class_colors` by default.
        opacity: of the colors, 0 to 1.
    """
    picture, ids = displayable(image), np.ascontiguousarray(mask, np.uint8)
    mixed = cv2.addWeighted(picture, 1 - opacity, _color_table(colors).take(ids, axis=0), opacity, 0)
    shown = (ids != 0) & (ids != IGNORE_INDEX)
    return np.asarray(cv2.copyTo(mixed, shown.view(np.uint8), picture.copy()), np.uint8)


def as_jpeg(picture: Picture) -> bytes:
    """Encode a picture for people: as PNG it would take three times as long."""
    import imagecodecs

    return bytes(imagecodecs.jpeg8_encode(picture, level=92, subsampling="420"))


def error_map(image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> Picture:
    """Show wrong pixels in red over a dimmed gray image; ignored pixels are hatched.

    Args:
        image: (height, width, channels), any depth.
        truth: (height, width) class ids, 255 = ignored.
        prediction: (height, width) class ids.
    """
    gray = displayable(image).mean(axis=2, keepdims=True) * 0.45
    picture = np.repeat(np.round(gray).astype(np.uint8), 3, axis=2)
    picture[(truth != prediction) & (truth != IGNORE_INDEX)] = WRONG
    return _hatched(picture, truth == IGNORE_INDEX)


def _hatched(picture: Picture, where: NDArray[np.bool_]) -> Picture:
    diagonal = np.arange(where.shape[0])[:, None] + np.arange(where.shape[1])
    stripes = np.where((diagonal // 3 % 2)[..., None], np.uint8(176), np.uint8(224))
    return np.where(where[..., None], stripes, picture)


def fitted(picture: Picture, side: int) -> Picture:
    """Bring a picture to a longer side of about ``side``: shrunk smoothly, or repeated a whole number of times."""
    longer = max(picture.shape[:2])
    if longer * 2 <= side:
        times = side // longer
        return picture.repeat(times, axis=0).repeat(times, axis=1)
    if longer <= side:
        return picture
    height, width = picture.shape[0] * side / longer, picture.shape[1] * side / longer
    size = max(1, round(width)), max(1, round(height))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def contact_sheet(
    tiles: Sequence[Picture], columns: int = 8, captions: Sequence[str] | None = None, gap: int = 4, side: int = 512
) -> Image.Image:
    """Lay pictures of any sizes out in rows.

    A row is as high as its highest picture, a column as wide as the widest picture of all.

    Args:
        tiles: pictures.
        columns: pictures in a row.
        captions: a text under each picture; empty for none.
        gap: pixels between pictures.
        side: larger pictures are shrunk to this longer side, in pixels.
    """
    if not tiles:
        return Image.new("RGB", (320, 64), PAPER)
    tiles = [fitted(tile, side) if max(tile.shape[:2]) > side else tile for tile in tiles]
    columns = max(1, min(columns, len(tiles)))
    text = font(CAPTION_SIZE)
    text_height = CAPTION_SIZE + 5 if captions is not None and any(captions) else 0
    width = max(tile.shape[1] for tile in tiles)
    rows = [range(start, min(start + columns, len(tiles))) for start in range(0, len(tiles), columns)]
    heights = [max(tiles[number].shape[0] for number in row) + text_height for row in rows]
    sheet = Image.new("RGB", (columns * (width + gap) + gap, sum(heights) + gap * (len(rows) + 1)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, number in enumerate(row):
            left = gap + column * (width + gap)
            sheet.paste(Image.fromarray(np.ascontiguousarray(tiles[number])), (left, top))
            if captions is not None and captions[number]:
                below = top + tiles[number].shape[0] + 1
                draw.text((left, below), _shortened(captions[number], width, text), fill=INK, font=text)
        top += height + gap
    return sheet


def legend(classes: Sequence[str], width: int) -> Image.Image:
    """Draw the colors and names of the classes, in as many lines as a picture of ``width`` pixels needs."""
    text, entries, left, line = font(14), [], 6, 0
    names = [*classes, "ignored"]
    swatches = color_mask(
        np.array([[*range(len(classes)), IGNORE_INDEX]], np.uint8)[:, :, None].repeat(16, 2).reshape(1, -1)
    )
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


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Load a font that knows most alphabets (Pillow's own knows little beyond English)."""
    from matplotlib import get_data_path

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Cut a text in its middle until it is at most ``width`` pixels wide."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 1, -1):
        shorter = f"{text[: length - length // 2]}…{text[len(text) - length // 2 :]}"
        if font.getlength(shorter) <= width:
            return shorter
    return ""
