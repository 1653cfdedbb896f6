"""Polygons and other shapes in annotation files: COCO, YOLO, LabelMe, Pascal VOC.

A reader in `READERS` gives the shapes of one image, in the order in which they are drawn. Coordinates are continuous:
the pixel in row r and column c covers [c, c + 1) x [r, r + 1), and belongs to a polygon if its centre lies inside.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.filesystem import FileStore, split_page
from unet_segmentation.data.io.image_decoders import UnreadableError, read_bytes

CIRCLE_CORNERS = 360  # a circle of radius 1000 is off by 0.04 pixels
SLACK = 0.01  # by which coordinates of YOLO may lie outside 0..1

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Shape:
    """A part of an image that has a label.

    Attributes:
        label: as the file says it.
        rows: of the image.
        columns: of the image.
        inside: (rows, columns), True inside the shape.
        crowd: many objects that nobody told apart.
    """

    label: str
    rows: slice
    columns: slice
    inside: NDArray[np.bool_]
    crowd: bool = False


@dataclass(frozen=True)
class Annotation:
    """The shapes of one image.

    Attributes:
        shapes: in the order in which they are drawn.
        size: of the image that was annotated; None where the file does not say it.
        sha256: of what was annotated in this image.
    """

    shapes: list[Shape]
    size: Size | None
    sha256: str


Reader = Callable[[FileStore, str, str, Size], Annotation]


def read_annotation(encoding: str, storage: FileStore, path: str, image: str, size: Size) -> Annotation:
    """Read the shapes of one image.

    Args:
        encoding: a key of `READERS`.
        storage: where the file is.
        path: of the annotation file.
        image: path of the image; files for many images name it.
        size: of the image.

    Raises:
        UnreadableError: the file is missing or malformed (the message says where), or does not know the image.
    """
    with _malformed():
        return READERS[encoding](storage, path, image, size)


@contextmanager
def _malformed() -> Iterator[None]:
    """Turn what parsers raise into `UnreadableError`; the message keeps the place."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except UnicodeDecodeError:
        raise UnreadableError("is malformed: it is no UTF-8 text") from None
    except KeyError as error:
        raise UnreadableError(f"is malformed: an entry lacks {error}") from None
    except Exception as error:
        raise UnreadableError(f"is malformed: {' '.join(str(error).split())[:200]}") from None


def rasterize_polygon(polygons: Iterable[NDArray[np.float64]], size: Size) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Fill polygons: a pixel is inside if its centre is inside one of them (of one that crosses itself: even-odd).

    Args:
        polygons: (corners, 2) x and y each.
        size: of the image; what lies outside is cut off.

    Returns:
        Rows and columns that hold everything, and which of these pixels are inside.
    """
    polygons = [polygon for polygon in polygons if len(polygon)]
    if not polygons:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    corners = np.concatenate(polygons)
    if not np.isfinite(corners).all():
        raise UnreadableError("holds coordinates that are no finite numbers")
    limits = np.array([size[1], size[0]])
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, limits).astype(int)
    inside = np.zeros((bottom - top, right - left), bool)
    for polygon in polygons:
        inside |= _filled(polygon - (left, top), inside.shape)
    return slice(top, bottom), slice(left, right), inside


def _filled(polygon: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """Fill by scan lines: each edge toggles everything to its right, in the rows whose centre line it crosses."""
    height, width = size
    start, end = polygon, np.roll(polygon, -1, axis=0)
    first, last = (
        np.clip(np.ceil(edge(start[:, 1], end[:, 1]) - 0.5), 0, height).astype(int) for edge in (np.minimum, np.maximum)
    )
    counts = last - first
    edges = np.repeat(np.arange(len(polygon)), counts)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    slopes = (end[edges, 0] - start[edges, 0]) / (end[edges, 1] - start[edges, 1])
    crossings = start[edges, 0] + (rows + 0.5 - start[edges, 1]) * slopes
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
    toggled = np.bincount(rows * (width + 1) + columns, minlength=height * (width + 1)) % 2 == 1
    return np.logical_xor.accumulate(toggled.reshape(height, width + 1), axis=1)[:, :width]


def _shape(label: str, polygons: Iterable[NDArray[np.float64]], size: Size) -> Shape:
    return Shape(label, *rasterize_polygon(polygons, size))


def _box(label: str, left: float, top: float, right: float, bottom: float, size: Size) -> Shape:
    return _shape(label, [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])], size)


# --- COCO: one file for many images ---


def read_coco(storage: FileStore, path: str, image: str, size: Size) -> Annotation:
    """Read the annotations of one image: polygons and run-length encoded masks; categories by name.

    Crowd regions come first, so that single objects lie above them.

    Raises:
        UnreadableError: the file is malformed (with the place), or does not know the image.
    """
    file = _COCO_FILES.get(storage, path)
    entry = file.find(split_page(image)[0])
    annotations = file.annotations(entry["id"])
    shapes = [file.shape(annotation, size) for annotation in annotations]
    shapes.sort(key=lambda shape: not shape.crowd)
    content = [
        (file.categories[annotation["category_id"]], bool(annotation.get("iscrowd")), annotation["segmentation"])
        for annotation in annotations
    ]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    height, width = entry["height"], entry["width"]
    annotated = (int(height), int(width)) if height and width else None
    return Annotation(shapes, annotated, hashlib.sha256(canonical.encode()).hexdigest())


class CocoFile:
    """A file of annotations, cut up by image; annotations are kept compressed and parsed when they are asked for.

    Attributes:
        categories: name by id.
    """

    def __init__(self, text: str) -> None:
        """Walk over the file once; no more than one annotation is parsed at a time."""
        self.categories: dict[Any, str] = {}
        self._images: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = defaultdict(list)
        places: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        sections = set()
        for section, value, start, end in _json_members(text):
            sections.add(section)
            if section == "categories":
                self.categories[value["id"]] = str(value["name"])
            elif section == "images":
                parts = _path_parts(value["file_name"])
                entry = {key: value.get(key) for key in ("id", "height", "width")}
                self._images[parts[-1]].append((parts, entry))
            elif section == "annotations":
                places[value["image_id"]].append((start, end))
        if "images" not in sections:
            raise UnreadableError("is no COCO file: it lists no images")
        self._annotations = {
            number: zlib.compress(f"[{','.join(text[start:end] for start, end in own)}]".encode(), level=1)
            for number, own in places.items()
        }

    def find(self, image: str) -> dict[str, Any]:
        """Return `id`, `height` and `width` of an image by its path: folders must agree as far as both say them."""
        wanted = _path_parts(image)
        found = []
        for parts, entry in self._images.get(wanted[-1], []):
            length = min(len(parts), len(wanted))
            if parts[-length:] == wanted[-length:]:
                found.append((length, entry))
        best = [entry for length, entry in found if length == max(length for length, _ in found)]
        if len(best) == 1:
            return best[0]
        if best:
            raise UnreadableError(f"lists {len(best)} images that could be {image}: their file_name needs folders")
        example = next(iter(self._images.values()), None)
        known = f"such as {'/'.join(example[0][0])}" if example else "none at all"
        count = sum(map(len, self._images.values()))
        raise UnreadableError(f"does not know the image {image} (it lists {count}, {known})", "missing_mask")

    def annotations(self, number: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        """Return the annotations of an image by its id."""
        packed = self._annotations.get(number)
        return json.loads(zlib.decompress(packed)) if packed else []

    def shape(self, annotation: dict[str, Any], size: Size) -> Shape:
        """Draw one annotation."""
        name = f"annotation {annotation.get('id', '(without id)')}"
        number = annotation.get("category_id")
        if number not in self.categories:
            raise UnreadableError(f"is malformed: {name} has category {number}, which is not among the categories")
        segmentation = annotation.get("segmentation")
        if not segmentation:
            raise UnreadableError(f"has only a box, no segmentation, in {name}")
        crowd = bool(annotation.get("iscrowd"))
        if isinstance(segmentation, dict):
            mask = run_lengths_decoded(segmentation, size)
            return Shape(self.categories[number], slice(0, size[0]), slice(0, size[1]), mask, crowd)
        try:
            polygons = [np.array(flat, np.float64).reshape(-1, 2) for flat in segmentation]
        except (ValueError, TypeError):
            raise UnreadableError(f"is malformed: {name} holds a polygon that is no list x, y, x, y, ...") from None
        return Shape(self.categories[number], *rasterize_polygon(polygons, size), crowd)


def run_lengths_decoded(segmentation: dict[str, Any], size: Size) -> NDArray[np.bool_]:
    """Decode a mask of COCO: lengths of runs of 0 and 1 in turn, down the columns.

    Args:
        segmentation: `size` (height, width) and `counts`: numbers, or their compressed text.
        size: of the image.
    """
    counts = segmentation.get("counts")
    if list(segmentation.get("size", [])) != list(size):
        raise UnreadableError(f"holds a mask of size {segmentation.get('size')} for an image of size {list(size)}")
    runs = np.array(_decompressed(counts) if isinstance(counts, str) else counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise UnreadableError("holds a run-length encoded mask whose runs do not add up to the image's size")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")


def _decompressed(text: str) -> list[int]:
    """Undo COCO's compression: five bits a character, low ones first; from the third on, differences to two before."""
    counts: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def _path_parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in {"", "."}) or ("",)


_SPACE = re.compile(r"[ \t\r\n]*")


def _json_members(text: str) -> Iterator[tuple[str, Any, int, int]]:
    """Walk over a JSON object without building it: yield every member, of lists every element, and where it stands."""
    decode = json.JSONDecoder().raw_decode
    place = _after(text, _spaced(text, 0), "{")
    while text[place : place + 1] != "}":
        key, place = decode(text, place)
        place = _after(text, _spaced(text, place), ":")
        if text[place : place + 1] == "[":
            place = _spaced(text, place + 1)
            while text[place : place + 1] != "]":
                value, end = decode(text, place)
                yield key, value, place, end
                place = _next(text, end, "]")
            place += 1
        else:
            value, end = decode(text, place)
            yield key, value, place, end
            place = end
        place = _next(text, place, "}")


def _spaced(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _after(text: str, place: int, sign: str) -> int:
    if text[place : place + 1] != sign:
        raise json.JSONDecodeError(f"Expecting '{sign}'", text, place)
    return _spaced(text, place + 1)


def _next(text: str, place: int, end: str) -> int:
    """Step over a comma, or stay at the end of a list or an object."""
    place = _spaced(text, place)
    return place if text[place : place + 1] == end else _after(text, place, ",")


class _CocoFiles:
    """The last few files, each parsed once (or found malformed once) however many threads ask for it."""

    MOST = 4

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[str, ...], CocoFile | UnreadableError] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, storage: FileStore, path: str) -> CocoFile:
        stamp = storage.stamp(path) if storage.is_local else ""  # at a URL it would be a request for each image
        key = (str(storage), path, stamp)
        with self._lock:
            if key not in self._files:
                while len(self._files) >= self.MOST:
                    self._files.popitem(last=False)
                self._files[key] = self._parsed(storage, path)
            self._files.move_to_end(key)
            file = self._files[key]
        if isinstance(file, UnreadableError):
            raise UnreadableError(str(file))
        return file

    @staticmethod
    def _parsed(storage: FileStore, path: str) -> CocoFile | UnreadableError:
        try:
            with _malformed():
                return CocoFile(read_bytes(storage, path).decode("utf-8-sig"))
        except UnreadableError as error:
            return error


_COCO_FILES = _CocoFiles()


# --- one file for each image ---


def read_yolo(storage: FileStore, path: str, _: str, size: Size) -> Annotation:
    """Read a `.txt` of YOLO: a line per object, its class and x, y, x, y, ... as shares of width and height.

    A line of five numbers is a box (centre, width, height). The label is the class's number.

    Raises:
        UnreadableError: a line is something else.
    """
    data = read_bytes(storage, path, may_be_empty=True)  # an image without objects
    shapes = []
    for number, line in enumerate(data.decode("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        label, *rest = line.split()
        try:
            numbers = np.array([float(text) for text in rest])
            if not label.isdigit() or len(numbers) < 4 or len(numbers) % 2:
                raise ValueError
        except ValueError:
            raise UnreadableError(f"is malformed: line {number} is not a class and x, y, x, y, ...") from None
        if not ((numbers >= -SLACK) & (numbers <= 1 + SLACK)).all():
            raise UnreadableError(f"is malformed: line {number} has coordinates that are not shares from 0 to 1")
        if len(numbers) == 4:
            x, y, width, height = numbers * [size[1], size[0], size[1], size[0]]
            shapes.append(_box(label, x - width / 2, y - height / 2, x + width / 2, y + height / 2, size))
        else:
            shapes.append(_shape(label, [numbers.reshape(-1, 2) * [size[1], size[0]]], size))
    return Annotation(shapes, None, hashlib.sha256(data).hexdigest())


def read_labelme(storage: FileStore, path: str, _: str, size: Size) -> Annotation:
    """Read a `.json` of LabelMe: polygons, rectangles, circles and masks.

    Raises:
        UnreadableError: the file is malformed, or holds a shape without an area (line, point).
    """
    data = read_bytes(storage, path)
    content = json.loads(data.decode("utf-8-sig"))
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise UnreadableError("is no LabelMe file: it has no shapes")
    shapes = [_labelme_shape(number, shape, size) for number, shape in enumerate(content["shapes"])]
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return Annotation(shapes, (int(height), int(width)) if height and width else None, hashlib.sha256(data).hexdigest())


def _labelme_shape(number: int, shape: dict[str, Any], size: Size) -> Shape:
    label, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], np.float64).reshape(-1, 2)
    if kind == "polygon":
        return _shape(label, [points], size)
    if kind == "rectangle" and len(points) in {2, 4}:
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return _box(label, left, top, right, bottom, size)
    if kind == "circle" and len(points) == 2:
        radius = np.linalg.norm(points[1] - points[0])
        angles = np.linspace(0, 2 * np.pi, CIRCLE_CORNERS, endpoint=False)
        return _shape(label, [points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)], size)
    if kind == "mask" and len(points):
        return _labelme_mask(label, shape["mask"], points[0], size)
    raise UnreadableError(
        f"holds a {kind} in shape {number} (from 0, label {label}), which has no area: only polygon, rectangle, circle "
        "and mask do. Draw it as a polygon, or remove it"
    )


def _labelme_mask(label: str, encoded: str, corner: NDArray[np.float64], size: Size) -> Shape:
    """A picture of the object's bounding box, whose upper left pixel is `corner`."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(encoded)), formats=["PNG"])
    inside = np.zeros(size, bool)
    left, top = (int(np.clip(value, 0, limit)) for value, limit in zip(corner, (size[1], size[0]), strict=True))
    mask = np.asarray(picture) != 0
    place = inside[top : top + mask.shape[0], left : left + mask.shape[1]]
    place |= mask[: place.shape[0], : place.shape[1]]
    return Shape(label, slice(0, size[0]), slice(0, size[1]), inside)


def read_pascal(storage: FileStore, path: str, _: str, size: Size) -> Annotation:
    """Read an `.xml` of Pascal VOC: the polygon of each object or, where it has none, its box.

    Raises:
        UnreadableError: the file is malformed, or declares entities.
    """
    data = read_bytes(storage, path)
    if b"<!ENTITY" in data.replace(b"\0", b""):  # zero bytes: of UTF-16
        raise UnreadableError("declares XML entities, which are refused: they can be made to fill the memory")
    root = ElementTree.fromstring(data)
    objects = [entry for entry in root.iter("object") if (entry.findtext("deleted") or "0").strip() != "1"]
    shapes = [_pascal_shape(number, entry, size) for number, entry in enumerate(objects)]
    width, height = root.findtext("size/width"), root.findtext("size/height")
    declared = (int(float(height)), int(float(width))) if height and width else (0, 0)
    return Annotation(shapes, declared if all(declared) else None, hashlib.sha256(data).hexdigest())


def _pascal_shape(number: int, entry: ElementTree.Element, size: Size) -> Shape:
    label = (entry.findtext("name") or "").strip()
    if not label:
        raise UnreadableError(f"is malformed: object {number} (from 0) has no name")
    polygons = [_pascal_corners(polygon) for polygon in entry.findall("polygon")]
    if polygons:
        return _shape(label, polygons, size)
    sides = [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    if any(side is None for side in sides):
        raise UnreadableError(f"is malformed: object {number} (from 0, {label}) has neither polygon nor bndbox")
    left, top, right, bottom = (float(side or "") for side in sides)
    return _box(label, left, top, right, bottom, size)


def _pascal_corners(polygon: ElementTree.Element) -> NDArray[np.float64]:
    """Read `<pt><x/><y/></pt>...` (LabelMe's old XML) or `<x1/><y1/><x2/><y2/>...` (Roboflow)."""
    points = [(point.findtext("x"), point.findtext("y")) for point in polygon.findall("pt")]
    if not points:
        count = sum(child.tag.startswith("x") for child in polygon)
        points = [(polygon.findtext(f"x{n}"), polygon.findtext(f"y{n}")) for n in range(1, count + 1)]
    return np.array([(float(x or ""), float(y or "")) for x, y in points], np.float64).reshape(-1, 2)


READERS: dict[str, Reader] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "labelme": read_labelme,
    "pascal": read_pascal,
}
