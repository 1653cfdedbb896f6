"""Mask encodings: from mask files and annotation files to class ids.

An encoding of pixels is one function in `ENCODINGS`. It takes what a file holds and the declaration, and gives codes
(one whole number per pixel), a lookup from code to class id (None: undeclared) and a way to write a code for people.
An encoding of shapes is one reader in `polygons.READERS`: labels and where they are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.annotation_formats import Shape, read_annotation
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import Note, Raster, UnreadableError, read_raster
from unet_segmentation.data.io.image_reader import coloured
from unet_segmentation.data.store.packed_arrays import IGNORED
from unet_segmentation.parameters.data import POLYGONS, MaskParameters

LUMINANCE = np.array([299, 587, 114])  # ITU-R BT.601, as everywhere a colour becomes grey
MOST_VALUES = 256  # of one file that are reported
GHOSTS = 3  # different values at least
GHOST_SHARE = 0.7  # of the pixels at most; more of them, and it is no mask but a photograph
GHOST_CORES = 0.2  # share of ghosts at most whose four neighbours have the same value
EXACT_COUNTS = 2**24  # OpenCV counts in single precision


class EncodingError(Exception):
    """A mask file is not of the declared kind.

    Attributes:
        kind: of the finding.
        values: pixels by value, as in `DecodedMask.values`.
    """

    def __init__(self, kind: str, message: str, values: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.values = values or {}


@dataclass(frozen=True)
class DecodedMask:
    """Class ids and what they were read from.

    Attributes:
        ids: (height, width) uint8; 255 where ignored or undeclared.
        values: pixels by value in the files; `"128"`, `"64,0,128"` for a colour, or a label. The most frequent ones.
        undeclared: the part of `values` that the declaration does not name.
        sha256: of everything that was read for this mask.
        notes: (kind, message): as of images, and `lossy_mask`, `overlapping_masks`.
        undeclared_kind: of the finding about `undeclared`: `undeclared_values`, `ghost_values`, `undeclared_colours`,
            `undeclared_labels`; empty where everything is declared.
        counts: (256,) pixels by class id, where they were counted on the way; `count_values(ids)` gives the same.
    """

    ids: NDArray[np.uint8]
    values: dict[str, int]
    undeclared: dict[str, int]
    sha256: str = ""
    notes: tuple[Note, ...] = ()
    undeclared_kind: str = ""
    counts: NDArray[np.int64] | None = None


def decode_masks(
    storage: FileStore,
    paths: Sequence[str],
    labels: Sequence[str | None],
    masks: MaskParameters,
    classes: list[str],
    image: str,
    size: tuple[int, int],
) -> DecodedMask:
    """Read all mask files of one sample and lay them over each other.

    Args:
        storage: where the files are.
        paths: of the files, from the lowest to the uppermost.
        labels: what each file shows, where there is one mask per class; else None.
        masks: the declaration.
        classes: names, in the order of their ids.
        image: path of the sample's image; annotation files for many images name it.
        size: height and width of the image as it was decoded.

    Raises:
        UnreadableError: a file is missing or damaged (`unreadable_mask`), or knows no such image (`missing_mask`).
        EncodingError: a file is not of the declared kind (`coloured_mask`, `no_palette`), there is none
            (`missing_mask`), there are several without a declaration that says what that means (`several_masks`), or
            sizes differ (`size_mismatch`, `turned_mask`).
    """
    if not paths:
        raise EncodingError("missing_mask", "has no mask")
    several = masks.merge or masks.encoding == "instances" or any(label is not None for label in labels)
    if len(paths) > 1 and not several:
        raise EncodingError("several_masks", f"has {len(paths)} masks")
    layers = (
        _layer(storage, path, label, masks, classes, image, size, several=len(paths) > 1)
        for path, label in zip(paths, labels, strict=True)
    )
    decoded = next(layers)
    if len(paths) == 1:
        return decoded
    return _joined(decoded, layers, paths, classes)


def _layer(
    storage: FileStore,
    path: str,
    label: str | None,
    masks: MaskParameters,
    classes: list[str],
    image: str,
    size: tuple[int, int],
    *,
    several: bool,
) -> DecodedMask:
    """Decode one file; where there are several, errors say which."""
    with _named(path if several else ""):
        if masks.encoding in POLYGONS:
            return _drawn(storage, path, masks, classes, image, size)
        raster = read_raster(storage, path, masks.variable)
        decoded = decode_raster(raster, masks, classes, label)
        lossy = (("lossy_mask", f"is a {raster.format} file"),) if raster.lossy else ()
        return replace(decoded, sha256=raster.sha256, notes=raster.notes + lossy)


@contextmanager
def _named(path: str) -> Iterator[None]:
    prefix = f"{path}: " if path else ""
    try:
        yield
    except UnreadableError as error:
        kind = "unreadable_mask" if error.kind == "unreadable_image" else error.kind
        raise UnreadableError(f"{prefix}{error}", kind) from None
    except EncodingError as error:
        raise EncodingError(error.kind, f"{prefix}{error}", error.values) from None


def _joined(
    lowest: DecodedMask, others: Iterator[DecodedMask], paths: Sequence[str], classes: list[str]
) -> DecodedMask:
    """Lay masks over each other, one at a time: class 0 covers nothing."""
    ids = lowest.ids.copy()
    values, undeclared = Counter(lowest.values), Counter(lowest.undeclared)
    kind, notes, hashes = lowest.undeclared_kind, dict.fromkeys(lowest.notes), [lowest.sha256]
    overlap = _Overlap(classes)
    for path, layer in zip(paths[1:], others, strict=True):
        if layer.ids.shape != ids.shape:
            sizes = " and ".join(f"{width} x {height}" for height, width in (layer.ids.shape, ids.shape))
            raise EncodingError("size_mismatch", f"{path} and {paths[0]} are masks of different sizes, {sizes}")
        covers = layer.ids != 0
        overlap.add(ids[covers], layer.ids[covers])
        np.copyto(ids, layer.ids, where=covers)
        values.update(layer.values)
        undeclared.update(layer.undeclared)
        kind, hashes = kind or layer.undeclared_kind, [*hashes, layer.sha256]
        notes |= dict.fromkeys(layer.notes)
    digest = hashlib.sha256(json.dumps(sorted(zip(paths, hashes, strict=True))).encode()).hexdigest()
    return DecodedMask(
        ids, _most(values), _most(undeclared), digest, tuple(notes) + overlap.notes(), kind if undeclared else ""
    )


class _Overlap:
    """Counts pixels that one class but class 0 takes from another."""

    def __init__(self, classes: list[str]) -> None:
        self._classes = classes
        self._pairs: Counter[tuple[int, int]] = Counter()

    def add(self, below: NDArray[np.uint8], above: NDArray[np.uint8]) -> None:
        """Take the ids of the pixels that are covered, and of what covers them."""
        meets = (below != above) & (below != 0) & (below != IGNORED) & (above != 0) & (above != IGNORED)
        if meets.any():
            pairs, counts = np.unique(np.stack([below[meets], above[meets]], axis=1), axis=0, return_counts=True)
            self._pairs.update(dict(zip(map(tuple, pairs.tolist()), counts.tolist(), strict=True)))

    def notes(self) -> tuple[Note, ...]:
        parts = [
            f"{self._classes[above]} covers {count} pixels of {self._classes[below]}"
            for (below, above), count in self._pairs.most_common(4)
        ]
        return (("overlapping_masks", ", ".join(parts)),) if parts else ()


# --- shapes ---


def _drawn(
    storage: FileStore, path: str, masks: MaskParameters, classes: list[str], image: str, size: tuple[int, int]
) -> DecodedMask:
    """Draw the shapes of an annotation file, the later over the earlier. A crowd is ignored."""
    annotation = read_annotation(masks.encoding, storage, path, image, size)
    if annotation.size not in {None, size}:
        height, width = annotation.size or size
        kind = "turned_mask" if (width, height) == size else "size_mismatch"
        raise EncodingError(kind, f"annotates an image of {width} x {height}; {image} is {size[1]} x {size[0]}")
    ids = np.zeros(size, np.uint8)
    values: Counter[str] = Counter()
    undeclared: Counter[str] = Counter()
    overlap = _Overlap(classes)
    for shape in annotation.shapes:
        pixels = int(shape.inside.sum())
        values[shape.label] += pixels
        class_id = _label_id(shape.label, masks, classes)
        if class_id is None:
            undeclared[shape.label] += pixels
        class_id = IGNORED if class_id is None or shape.crowd else class_id
        _draw(ids, shape, class_id, overlap)
    kind = "undeclared_labels" if undeclared else ""
    return DecodedMask(ids, _most(values), _most(undeclared), annotation.sha256, overlap.notes(), kind)


def _draw(ids: NDArray[np.uint8], shape: Shape, class_id: int, overlap: _Overlap) -> None:
    place = ids[shape.rows, shape.columns]
    below = place[shape.inside]
    overlap.add(below, np.full_like(below, class_id))
    place[shape.inside] = class_id


def _label_id(label: str, masks: MaskParameters, classes: list[str]) -> int | None:
    """Return the class of a label; None where it is undeclared."""
    if label in masks.labels:
        return classes.index(masks.labels[label])
    if label in masks.ignore_labels:
        return IGNORED
    if label in classes:
        return classes.index(label)
    if masks.encoding == "yolo" and not masks.labels and label.isdigit() and int(label) + 1 < len(classes):
        return int(label) + 1  # YOLO numbers objects; class 0 is what is around them
    return None


# --- pixels ---


def decode_raster(raster: Raster, masks: MaskParameters, classes: list[str], label: str | None = None) -> DecodedMask:
    """Apply the declared encoding to what one file holds.

    Args:
        raster: what a file holds.
        masks: the declaration.
        classes: names, in the order of their ids.
        label: what the file shows, where there is one mask per class.

    Raises:
        EncodingError: the file is not of the declared kind.
        UnreadableError: it holds no mask at all.
    """
    encode = ENCODINGS[masks.encoding]
    codes, lookup, name = encode(raster, masks, classes) if label is None else _labelled(raster, masks, classes, label)
    ids, found = _looked_up(codes, lookup)
    values = Counter({name(code): count for code, (count, _) in found.items() if name(code)})
    unknown = {code: count for code, (count, class_id) in found.items() if class_id is None}
    undeclared = Counter({name(code): count for code, count in unknown.items()})
    kind = ""
    if unknown and label is not None:
        kind = "undeclared_labels"
    elif unknown and has_interpolation_artifacts(codes, unknown):
        kind = "ghost_values"
    elif unknown:
        kind = "undeclared_colours" if masks.encoding == "colors" else "undeclared_values"
    counts = np.zeros(256, np.int64)
    for count, class_id in found.values():
        counts[IGNORED if class_id is None else class_id] += count
    return DecodedMask(ids, _most(values), _most(undeclared), undeclared_kind=kind, counts=counts)


def has_interpolation_artifacts(codes: NDArray, unknown: dict[int, int]) -> bool:
    """Tell in-between values (a mask that was saved as JPEG or resized with interpolation) from a forgotten class.

    Ghosts are several values, few pixels, and lie along the borders of classes: hardly one of them is surrounded by
    its own value, as the inner pixels of a real region are.

    Args:
        codes: (height, width) values or packed colours.
        unknown: pixels by undeclared code.
    """
    pixels = sum(unknown.values())
    if len(unknown) < GHOSTS or pixels > GHOST_SHARE * codes.size:
        return False
    core = np.isin(codes, list(unknown))
    for axis in (0, 1):
        same = np.diff(codes.astype(np.int64), axis=axis) == 0
        first, last = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        first[axis], last[axis] = (1, 0), (0, 1)
        core &= np.pad(same, first, constant_values=True) & np.pad(same, last, constant_values=True)
    return int(core.sum()) < GHOST_CORES * pixels


Coded = tuple[NDArray, Callable[[int], int | None], Callable[[int], str]]
Encoding = Callable[[Raster, MaskParameters, list[str]], Coded]


def _index(raster: Raster, masks: MaskParameters, classes: list[str]) -> Coded:
    """Values (or, in a file with a palette, indices) are class ids, or what `values` maps to classes."""
    table = {IGNORED: IGNORED}
    if masks.values:
        table |= {value: classes.index(name) for value, name in masks.values.items()}
    else:
        table |= {class_id + masks.offset: class_id for class_id in range(len(classes))}
    codes = _indices(raster) if _has_palette(raster) else _grey(raster)
    return codes, (table | dict.fromkeys(masks.ignore, IGNORED)).get, str


def _palette(raster: Raster, masks: MaskParameters, classes: list[str]) -> Coded:
    """As `index`, for files that must have a palette."""
    if not _has_palette(raster):
        pixels = _plain(raster)
        raise EncodingError(
            "no_palette",
            f"holds {'colours' if pixels.ndim == 3 else 'grey values'}, not palette indices",
            _listed(pixels),
        )
    return _index(raster, masks, classes)


def _threshold(raster: Raster, masks: MaskParameters, _: list[str]) -> Coded:
    """Grey values above the threshold are class 1, the others class 0."""
    return _grey(raster), lambda value: IGNORED if value in masks.ignore else int(value > masks.threshold), str


def _colors(raster: Raster, masks: MaskParameters, classes: list[str]) -> Coded:
    """Each class has a colour, or several."""
    table = {_code(colour): IGNORED for colour in masks.ignore_colors}
    table |= {_code(colour): classes.index(name) for name, colour in masks.named_colors}
    pixels = _plain(raster)
    if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 255):
        raise UnreadableError("holds numbers outside 0..255, which are no colours")
    return _codes(pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)), table.get, _colour_name


def _instances(raster: Raster, masks: MaskParameters, classes: list[str]) -> Coded:
    """Every value but 0 is an instance; all instances are of one class."""
    instance = 1 if masks.instance_class is None else classes.index(masks.instance_class)
    pixels = _indices(raster) if _has_palette(raster) else _plain(raster)
    names = {0: "0", 1: "instances", IGNORED: "ignored"}
    return _marked(pixels, masks.ignore), {0: 0, 1: instance, IGNORED: IGNORED}.get, names.__getitem__


def _labelled(raster: Raster, masks: MaskParameters, classes: list[str], label: str) -> Coded:
    """One mask per class: what is not 0 (with `threshold`: what lies above it) is the class of the label."""
    pixels = _grey(raster) > masks.threshold if masks.encoding == "threshold" else _plain(raster)
    table = {0: 0, 1: _label_id(label, masks, classes), IGNORED: IGNORED}
    return _marked(pixels, masks.ignore), table.get, {0: "", 1: label, IGNORED: "ignored"}.__getitem__


ENCODINGS: dict[str, Encoding] = {
    "index": _index,
    "palette": _palette,
    "threshold": _threshold,
    "colors": _colors,
    "instances": _instances,
}


def _marked(pixels: NDArray, ignore: list[int]) -> NDArray[np.uint8]:
    """Return 1 where a file is not 0 (or not black), 255 at values that are ignored."""
    if pixels.ndim == 3:
        return (pixels != 0).any(axis=2).astype(np.uint8)
    marked = (pixels != 0).astype(np.uint8)
    if ignore:
        marked[np.isin(pixels, ignore)] = IGNORED
    return marked


def _looked_up(
    codes: NDArray, lookup: Callable[[int], int | None]
) -> tuple[NDArray[np.uint8], dict[int, tuple[int, int | None]]]:
    """Return the class id of every pixel, and by code that occurs the number of pixels and the class id."""
    if codes.dtype == np.uint8:
        import cv2

        counts = count_values(codes)
        found = np.flatnonzero(counts)
        table, entries = _table(found, counts[found], lookup)
        if np.array_equal(table, found):  # class ids as they are
            return codes, entries
        whole_table = np.zeros(256, np.uint8)
        whole_table[found] = table
        ids: NDArray[np.uint8] = cv2.LUT(codes, whole_table)  # type: ignore[assignment]
        return ids, entries
    found, positions, counts = _unique(codes)
    table, entries = _table(found, counts, lookup)
    return table[positions], entries


def _table(
    found: NDArray, counts: NDArray, lookup: Callable[[int], int | None]
) -> tuple[NDArray[np.uint8], dict[int, tuple[int, int | None]]]:
    ids = [lookup(code) for code in found.tolist()]
    table = np.array([IGNORED if class_id is None else class_id for class_id in ids], np.uint8)
    return table, dict(zip(found.tolist(), zip(counts.tolist(), ids, strict=True), strict=True))


def _unique(codes: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """As ``np.unique`` with inverse and counts, without sorting where codes lie close together."""
    low, high = int(codes.min()), int(codes.max())
    if high - low > 65535:
        found, positions, counts = np.unique(codes, return_inverse=True, return_counts=True)
        return found, positions.reshape(codes.shape), counts
    shifted = codes.astype(np.int64) - low
    counts = np.bincount(shifted.ravel())
    found = np.flatnonzero(counts)
    places = np.zeros(len(counts), np.intp)
    places[found] = np.arange(len(found))
    return found + low, places[shifted], counts[found]


def count_values(plane: NDArray) -> NDArray[np.int64]:
    """Count how often each value from 0 occurs, as `np.bincount`; five times as fast for uint8.

    Args:
        plane: (height, width) uint8 or uint16.
    """
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


def _indices(raster: Raster) -> NDArray:
    """Palette indices; one bit is 0 and 1."""
    return raster.pixels.astype(np.uint8) if raster.pixels.dtype == bool else raster.pixels


def _plain(raster: Raster) -> NDArray:
    """(height, width) whole numbers or (height, width, 3) colours; palettes are looked up, transparency is dropped."""
    pixels = coloured(raster)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise UnreadableError(f"has {pixels.shape[2]} bands: a mask has one, or three for colours")
    if pixels.ndim == 3 and pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 1:
        raise UnreadableError("is a colour image of 16 bits per channel, which no mask encoding knows")
    if pixels.dtype.kind == "f":
        whole = np.rint(pixels)
        if not (np.isfinite(pixels).all() and (whole == pixels).all() and np.abs(whole).max() < 2**53):
            raise UnreadableError("holds fractions or NaN: the values of a mask are whole numbers")
        return whole.astype(np.int64)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _grey(raster: Raster) -> NDArray:
    """Grey values; colours only where their three channels are equal, or where a palette holds them."""
    pixels = _plain(raster)
    if pixels.ndim == 2:
        return pixels
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        return np.ascontiguousarray(pixels[..., 0])
    if raster.palette is not None:
        return ((pixels @ LUMINANCE + 500) // 1000).astype(np.uint8)
    raise EncodingError("coloured_mask", "holds colours, not grey values", _listed(pixels))


def _codes(colours: NDArray) -> NDArray[np.int32]:
    channels = colours.astype(np.int32)
    return (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]


def _code(colour: tuple[int, int, int]) -> int:
    red, green, blue = colour
    return (red << 16) | (green << 8) | blue


def _colour_name(code: int) -> str:
    return f"{code >> 16},{code >> 8 & 255},{code & 255}"


def _listed(pixels: NDArray) -> dict[str, int]:
    """Pixels by value or colour."""
    is_coloured = pixels.ndim == 3
    found, counts = np.unique(_codes(pixels) if is_coloured else pixels, return_counts=True)
    name = _colour_name if is_coloured else str
    return _most(Counter({name(code): count for code, count in zip(found.tolist(), counts.tolist(), strict=True)}))


def _most(values: Counter[str]) -> dict[str, int]:
    """Keep the most frequent: a photograph that was taken for a mask has thousands of values."""
    return dict(values) if len(values) <= MOST_VALUES else dict(values.most_common(MOST_VALUES))
