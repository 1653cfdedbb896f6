"""Mask encodings: from the pixels of a mask file to class ids.

An encoding is one function in `ENCODINGS`. It takes what a file holds and the declaration, and returns codes (one
whole number per pixel), a lookup from code to class id (None: undeclared) and the name of a code, for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.data.io.image_decoders import Note, Raster, UnreadableError
from unet_segmentation.data.io.image_reader import colored
from unet_segmentation.parameters.data import MaskParameters
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

LUMINANCE = np.array([299, 587, 114])  # ITU-R BT.601, as everywhere a color becomes gray
MAX_VALUES = 256  # of one file that are reported
MIN_ARTIFACTS = 3  # different values
MAX_ARTIFACT_SHARE = 0.7  # of the pixels; more of them, and it is no mask but a photograph
MAX_CORE_SHARE = 0.2  # of the artifacts whose four neighbors have the same value
EXACT_COUNTS = 2**24  # OpenCV counts in single precision


class EncodingError(UnreadableError):
    """A mask file is not of the declared kind; with pixels by value, as in `DecodedMask.values`."""

    def __init__(self, kind: str, message: str, values: dict[str, int] | None = None) -> None:
        super().__init__(message, kind)
        self.values = values or {}


@dataclass(frozen=True)
class DecodedMask:
    """Class ids and what they were read from."""

    ids: NDArray[np.uint8]  # (height, width); 255 where ignored or undeclared
    values: dict[str, int]  # pixels by value ("128", "64,0,128" for a color, or a label), the most frequent ones
    undeclared: dict[str, int]  # the part of them that the declaration does not name
    sha256: str = ""  # of everything that was read for this mask
    notes: tuple[Note, ...] = ()
    undeclared_kind: str = ""  # of the finding about `undeclared`
    counts: NDArray[np.int64] | None = None  # (256,) pixels by class id, where they were counted on the way


def decode_raster(
    raster: Raster, masks: MaskParameters, classes: Sequence[str], label: str | None = None
) -> DecodedMask:
    """Apply the declared encoding to what one file holds; ``label``: what it shows, where there is one mask per class.

    Raises:
        EncodingError: the file is not of the declared kind.
        UnreadableError: it holds no mask at all.
    """
    encode = ENCODINGS[masks.encoding]
    codes, lookup, name = encode(raster, masks, classes) if label is None else _labeled(raster, masks, classes, label)
    ids, entries = _look_up(codes, lookup)
    values = Counter({name(code): count for code, (count, _) in entries.items() if name(code)})
    unmapped = {code: count for code, (count, class_id) in entries.items() if class_id is None}
    undeclared = Counter({name(code): count for code, count in unmapped.items()})
    if not unmapped:
        kind = ""
    elif label is not None:
        kind = "undeclared_labels"
    elif has_interpolation_artifacts(codes, unmapped):
        kind = "ghost_values"
    else:
        kind = "undeclared_colors" if masks.encoding == "colors" else "undeclared_values"
    counts = np.zeros(256, np.int64)
    for count, class_id in entries.values():
        counts[IGNORE_INDEX if class_id is None else class_id] += count
    return DecodedMask(
        ids, most_frequent_values(values), most_frequent_values(undeclared), undeclared_kind=kind, counts=counts
    )


def label_class_id(label: str, masks: MaskParameters, classes: Sequence[str]) -> int | None:
    """Return the class id of a label; None where it is undeclared."""
    if label in masks.labels:
        return classes.index(masks.labels[label])
    if label in masks.ignore_labels:
        return IGNORE_INDEX
    if label in classes:
        return classes.index(label)
    if masks.encoding in ANNOTATION_FORMATS and not masks.labels:
        return ANNOTATION_FORMATS[masks.encoding].default_class_id(label, classes)
    return None


def has_interpolation_artifacts(codes: NDArray[np.integer], undeclared: Mapping[int, int]) -> bool:
    """Return whether undeclared values are artifacts of JPEG or of interpolation, and not a class that was forgotten.

    Artifacts are several values, few pixels, and lie along the borders of classes: hardly one of them is surrounded by
    its own value, as the inner pixels of a real region are. Codes are values or packed colors, (height, width).
    """
    pixels = sum(undeclared.values())
    if len(undeclared) < MIN_ARTIFACTS or pixels > MAX_ARTIFACT_SHARE * codes.size:
        return False
    core = np.isin(codes, list(undeclared))
    for plane, inside in ((codes, core), (codes.T, core.T)):  # views: all four neighbors have the same value
        same = plane[1:] == plane[:-1]
        inside[1:] &= same
        inside[:-1] &= same
    return int(core.sum()) < MAX_CORE_SHARE * pixels


Coded = tuple[NDArray[np.integer], Callable[[int], int | None], Callable[[int], str]]
Encoding = Callable[[Raster, MaskParameters, Sequence[str]], Coded]


def _index(raster: Raster, masks: MaskParameters, classes: Sequence[str]) -> Coded:
    """Values (or, in a file with a palette, indices) are class ids, or what `values` maps to classes."""
    if masks.values:
        declared = {value: classes.index(name) for value, name in masks.values.items()}
    else:
        declared = {class_id + masks.offset: class_id for class_id in range(len(classes))}
    table = {IGNORE_INDEX: IGNORE_INDEX} | declared | dict.fromkeys(masks.ignore, IGNORE_INDEX)
    return _indices(raster) if _has_palette(raster) else _gray(raster), table.get, str


def _palette(raster: Raster, masks: MaskParameters, classes: Sequence[str]) -> Coded:
    """As `index`, for files that must have a palette."""
    if not _has_palette(raster):
        pixels = _plain(raster)
        content = "colors" if pixels.ndim == 3 else "gray values"
        raise EncodingError("no_palette", f"holds {content}, not palette indices", _listed(pixels))
    return _index(raster, masks, classes)


def _threshold(raster: Raster, masks: MaskParameters, _: Sequence[str]) -> Coded:
    """Gray values above the threshold are class 1, the others class 0."""
    return _gray(raster), lambda value: IGNORE_INDEX if value in masks.ignore else int(value > masks.threshold), str


def _colors(raster: Raster, masks: MaskParameters, classes: Sequence[str]) -> Coded:
    """Each class has a color, or several."""
    colors = [(color, IGNORE_INDEX) for color in masks.ignore_colors]
    colors += [(color, classes.index(name)) for name, color in masks.named_colors]
    table = {int(_codes(np.array(color))): class_id for color, class_id in colors}
    pixels = _plain(raster)
    if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 255):
        raise UnreadableError("holds numbers outside 0..255, which are no colors")
    return _codes(pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)), table.get, _color_name


def _instances(raster: Raster, masks: MaskParameters, classes: Sequence[str]) -> Coded:
    """Every value but 0 is an instance; all instances are of one class."""
    instance = 1 if masks.instance_class is None else classes.index(masks.instance_class)
    pixels = _indices(raster) if _has_palette(raster) else _plain(raster)
    names = {0: "0", 1: "instances", IGNORE_INDEX: "ignored"}
    return _marked(pixels, masks.ignore), {0: 0, 1: instance, IGNORE_INDEX: IGNORE_INDEX}.get, names.__getitem__


def _labeled(raster: Raster, masks: MaskParameters, classes: Sequence[str], label: str) -> Coded:
    """Read one mask per class: what is not 0 (with `threshold`: what lies above it) is the class of the label."""
    pixels = _gray(raster) > masks.threshold if masks.encoding == "threshold" else _plain(raster)
    table = {0: 0, 1: label_class_id(label, masks, classes), IGNORE_INDEX: IGNORE_INDEX}
    return _marked(pixels, masks.ignore), table.get, {0: "", 1: label, IGNORE_INDEX: "ignored"}.__getitem__


ENCODINGS: dict[str, Encoding] = {
    "index": _index,
    "palette": _palette,
    "threshold": _threshold,
    "colors": _colors,
    "instances": _instances,
}


def _marked(pixels: NDArray[Any], ignore: list[int]) -> NDArray[np.uint8]:
    """Return 1 where a file is not 0 (or not black), 255 at values that are ignored."""
    if pixels.ndim == 3:
        return (pixels != 0).any(axis=2).astype(np.uint8)
    marked = (pixels != 0).astype(np.uint8)
    if ignore:
        marked[np.isin(pixels, ignore)] = IGNORE_INDEX
    return marked


def _look_up(
    codes: NDArray[Any], lookup: Callable[[int], int | None]
) -> tuple[NDArray[np.uint8], dict[int, tuple[int, int | None]]]:
    """Return the class id of every pixel, and by code that occurs the number of pixels and the class id."""
    if codes.dtype == np.uint8:
        counts = count_values(codes)
        values, positions = np.flatnonzero(counts), None
        counts = counts[values]
    else:
        values, positions, counts = _unique(codes)
    class_ids = [lookup(code) for code in values.tolist()]
    entries = dict(zip(values.tolist(), zip(counts.tolist(), class_ids, strict=True), strict=True))
    table = np.array([IGNORE_INDEX if class_id is None else class_id for class_id in class_ids], np.uint8)
    if positions is not None:
        return table[positions], entries
    if np.array_equal(table, values):  # class ids as they are
        return codes, entries
    import cv2

    whole_table = np.zeros(256, np.uint8)
    whole_table[values] = table
    ids: NDArray[np.uint8] = cv2.LUT(codes, whole_table)  # type: ignore[assignment]
    return ids, entries


def _unique(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """As ``np.unique`` with inverse and counts, without sorting where codes lie close together."""
    low, high = int(codes.min()), int(codes.max())
    if high - low > 65535:
        values, positions, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return values, positions.reshape(codes.shape), counts
    shifted = codes.astype(np.int64) - low
    counts = np.bincount(shifted.ravel())
    values = np.flatnonzero(counts)
    positions = np.zeros(len(counts), np.intp)
    positions[values] = np.arange(len(values))
    return values + low, positions[shifted], counts[values]


def count_values(plane: NDArray[Any]) -> NDArray[np.int64]:
    """Count how often each value of uint8 or uint16 (height, width) occurs: as `np.bincount`, for uint8 faster."""
    if plane.dtype != np.uint8:
        return np.bincount(plane.ravel())
    import cv2

    rows = max(1, EXACT_COUNTS // max(1, plane.shape[1]))
    counts = np.zeros(256, np.int64)
    for start in range(0, plane.shape[0], rows):
        part = cv2.calcHist([plane[start : start + rows]], [0], None, [256], [0, 256])
        counts += part.ravel().astype(np.int64)
    return counts


def _has_palette(raster: Raster) -> bool:
    return raster.palette is not None or raster.pixels.dtype == bool


def _indices(raster: Raster) -> NDArray[Any]:
    """Palette indices; one bit is 0 and 1."""
    return raster.pixels.astype(np.uint8) if raster.pixels.dtype == bool else raster.pixels


def _plain(raster: Raster) -> NDArray[Any]:
    """(height, width) whole numbers or (height, width, 3) colors; palettes are looked up, transparency is dropped."""
    pixels = colored(raster)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise UnreadableError(f"has {pixels.shape[2]} bands: a mask has one, or three for colors")
    if pixels.ndim == 3 and pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 1:
        raise UnreadableError("is a color image of 16 bits per channel, for which there is no mask encoding")
    if pixels.dtype.kind == "f":
        whole = np.rint(pixels)
        if not (np.isfinite(pixels).all() and (whole == pixels).all() and np.abs(whole).max() < 2**53):
            raise UnreadableError("holds fractions or NaN: the values of a mask are whole numbers")
        return whole.astype(np.int64)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _gray(raster: Raster) -> NDArray[Any]:
    """Gray values; colors only where their three channels are equal, or where a palette holds them."""
    pixels = _plain(raster)
    if pixels.ndim == 2:
        return pixels
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        return np.ascontiguousarray(pixels[..., 0])
    if raster.palette is not None:
        return ((pixels @ LUMINANCE + 500) // 1000).astype(np.uint8)
    raise EncodingError("colored_mask", "holds colors, not gray values", _listed(pixels))


def _codes(colors: NDArray[Any]) -> NDArray[np.int32]:
    channels = colors.astype(np.int32)
    return (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]


def _color_name(code: int) -> str:
    return f"{code >> 16},{code >> 8 & 255},{code & 255}"


def _listed(pixels: NDArray[Any]) -> dict[str, int]:
    """Pixels by value or color."""
    is_colored = pixels.ndim == 3
    codes, counts = np.unique(_codes(pixels) if is_colored else pixels, return_counts=True)
    name = _color_name if is_colored else str
    return most_frequent_values(
        Counter({name(code): count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)})
    )


def most_frequent_values(values: Counter[str]) -> dict[str, int]:
    """Return the most frequent values: a photograph that was taken for a mask has thousands of them."""
    return dict(values) if len(values) <= MAX_VALUES else dict(values.most_common(MAX_VALUES))
