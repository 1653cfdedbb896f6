"""Mask encodings: from the pixels of a mask file to class ids.

An encoding is one function in `ENCODINGS`. It takes the raw mask and the declaration, and gives codes (one whole
number per pixel), a lookup from code to class id (None: undeclared) and a way to write a code for people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.parameters.preparation import MaskParameters
from unet_segmentation.samples.packing import IGNORED
from unet_segmentation.samples.reading import RawMask

LUMINANCE = np.array([299, 587, 114])  # ITU-R BT.601, as everywhere a colour becomes grey
MOST_COLOURS = 64  # of one file that are reported


class EncodingError(Exception):
    """A mask file is not of the declared kind.

    Attributes:
        kind: of the finding.
        values: pixels by value, as in `DecodedMask.values`.
    """

    def __init__(self, kind: str, message: str, values: dict[str, int]) -> None:
        super().__init__(message)
        self.kind = kind
        self.values = values


@dataclass(frozen=True)
class DecodedMask:
    """Class ids and what they were read from.

    Attributes:
        ids: (height, width) uint8; 255 where ignored or undeclared.
        values: pixels by value in the file; `"128"`, or `"64,0,128"` for a colour.
        undeclared: the part of `values` that the declaration does not name.
    """

    ids: NDArray[np.uint8]
    values: dict[str, int]
    undeclared: dict[str, int]


def decode_mask(raw: RawMask, masks: MaskParameters, classes: list[str]) -> DecodedMask:
    """Apply the declared encoding.

    Args:
        raw: what `read_mask` read.
        masks: the declaration.
        classes: names, in the order of their ids.

    Raises:
        EncodingError: the file is not of the declared kind.
    """
    codes, lookup, name = ENCODINGS[masks.encoding](raw, masks, classes)
    found, positions, counts = _unique(codes)
    ids = {code: lookup(code) for code in found.tolist()}
    values = {name(code): count for code, count in zip(ids, counts.tolist(), strict=True)}
    undeclared = {name(code): values[name(code)] for code, class_id in ids.items() if class_id is None}
    table = np.array([IGNORED if class_id is None else class_id for class_id in ids.values()], np.uint8)
    return DecodedMask(table[positions], values, undeclared)


Coded = tuple[NDArray, Callable[[int], int | None], Callable[[int], str]]
Encoding = Callable[[RawMask, MaskParameters, list[str]], Coded]


def _index(raw: RawMask, masks: MaskParameters, classes: list[str]) -> Coded:
    """Values (or, in a file with a palette, indices) are class ids, or what `values` maps to classes."""
    table = {IGNORED: IGNORED}
    if masks.values:
        table |= {value: classes.index(name) for value, name in masks.values.items()}
    else:
        table |= {value: value for value in range(len(classes))}
    codes = raw.pixels if raw.palette is not None else _grey(raw)
    return codes, (table | dict.fromkeys(masks.ignore, IGNORED)).get, str


def _palette(raw: RawMask, masks: MaskParameters, classes: list[str]) -> Coded:
    """As `index`, for files that must have a palette."""
    if raw.palette is None:
        kind = "colours" if raw.pixels.ndim == 3 else "grey values"
        raise EncodingError("no_palette", f"holds {kind}, not palette indices", _listed(raw))
    return _index(raw, masks, classes)


def _threshold(raw: RawMask, masks: MaskParameters, _: list[str]) -> Coded:
    """Grey values above the threshold are class 1, the others class 0."""
    return _grey(raw), lambda value: IGNORED if value in masks.ignore else int(value > masks.threshold), str


def _colors(raw: RawMask, masks: MaskParameters, classes: list[str]) -> Coded:
    """Each class has one colour."""
    table = {_code(colour): IGNORED for colour in masks.ignore_colors}
    table |= {_code(colour): classes.index(name) for name, colour in masks.colors.items()}
    return _codes(_coloured(raw)), table.get, _colour_name


ENCODINGS: dict[str, Encoding] = {"index": _index, "palette": _palette, "threshold": _threshold, "colors": _colors}


def _unique(codes: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """As ``np.unique`` with inverse and counts, without sorting where codes are small."""
    if codes.dtype.itemsize > 2:
        found, positions, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return found, positions.reshape(codes.shape), counts
    counts = np.bincount(codes.ravel())
    found = np.flatnonzero(counts)
    places = np.zeros(len(counts), np.intp)
    places[found] = np.arange(len(found))
    return found, places[codes], counts[found]


def _grey(raw: RawMask) -> NDArray:
    """Grey values: palettes are looked up; colours only where their three channels are equal."""
    pixels = raw.pixels if raw.palette is None else _coloured(raw)
    if pixels.ndim == 2:
        return pixels
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        return pixels[..., 0]
    if raw.palette is not None:
        return ((pixels @ LUMINANCE + 500) // 1000).astype(np.uint8)
    raise EncodingError("coloured_mask", "holds colours, not grey values", _listed(raw))


def _coloured(raw: RawMask) -> NDArray:
    """(height, width, 3) colours."""
    if raw.palette is not None:
        colours = np.zeros((256, 3), np.uint8)  # indices beyond the palette's end are black, as viewers show them
        colours[: len(raw.palette)] = raw.palette
        return colours[raw.pixels]
    return raw.pixels if raw.pixels.ndim == 3 else np.stack([raw.pixels] * 3, axis=2)


def _codes(colours: NDArray) -> NDArray[np.int32]:
    channels = colours.astype(np.int32)
    return (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]


def _code(colour: tuple[int, int, int]) -> int:
    red, green, blue = colour
    return (red << 16) | (green << 8) | blue


def _colour_name(code: int) -> str:
    return f"{code >> 16},{code >> 8 & 255},{code & 255}"


def _listed(raw: RawMask) -> dict[str, int]:
    """Pixels by value or colour, most frequent first."""
    coloured = raw.pixels.ndim == 3
    found, counts = np.unique(_codes(raw.pixels) if coloured else raw.pixels, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_COLOURS]
    return {(_colour_name if coloured else str)(int(found[place])): int(counts[place]) for place in order}
