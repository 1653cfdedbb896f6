"""COCO: one JSON file annotates many images, with polygons and run-length encoded masks."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, Annotation, AnnotationFormat, parse_errors
from unet_segmentation.data.io.filesystem import FileStore, split_page
from unet_segmentation.data.io.image_decoders import UnreadableError, read_bytes
from unet_segmentation.data.io.shapes import Shape, Size, mask_shape, polygon_shape

Json = dict[str, object]
MAX_OPEN_FILES = 4
WRONG_RUNS = "holds a run-length encoded mask whose runs do not add up to the image's size"


class CocoFormat(AnnotationFormat):
    """Categories are labels. Crowd regions are drawn first, so that single objects lie above them."""

    title = "COCO"
    extensions = frozenset({"json"})
    holds_many_images = True

    def detect(self, text: str) -> bool:
        """Return whether the file lists images and what is in them."""
        return '"shapes"' not in text and '"images"' in text and ('"annotations"' in text or '"categories"' in text)

    def read(self, storage: FileStore, path: str, image: str, size: Size) -> Annotation:
        """Read the annotations of one image."""
        file = _open(storage, path)
        entry = file.find_image(split_page(image)[0])
        annotations = file.annotations(entry.id)
        shapes = [file.shape(annotation, size) for annotation in annotations]
        shapes.sort(key=lambda shape: not shape.crowd)
        content = [
            (file.categories[annotation["category_id"]], bool(annotation.get("iscrowd")), annotation["segmentation"])
            for annotation in annotations
        ]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return Annotation(shapes, entry.size, hashlib.sha256(canonical.encode()).hexdigest())

    def sort_labels(self, labels: Iterable[str]) -> list[str]:
        """Return labels in the order of the categories."""
        return list(labels)

    def class_names(self, storage: FileStore, annotations: Sequence[str], others: Sequence[str]) -> list[str]:
        """Return the names of the categories that occur."""
        return [name for path in annotations for name in _summary(str(storage), path, storage.stamp(path))[1]]

    def image_names(self, storage: FileStore, path: str) -> frozenset[str]:
        """Return the names of the images that the file lists."""
        return _summary(str(storage), path, storage.stamp(path))[0]


@lru_cache(maxsize=16)
def _summary(root: str, path: str, _stamp: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of images and of the categories that occur; nothing for a file that is no COCO file."""
    try:
        content = json.loads(read_bytes(FileStore(root), path).decode("utf-8-sig"))
        names = frozenset(PurePosixPath(entry["file_name"].replace("\\", "/")).name for entry in content["images"])
        used = {entry["category_id"] for entry in content.get("annotations", ())}
        categories = [entry for entry in content.get("categories", ()) if entry["id"] in used]
        return names, tuple(str(entry["name"]) for entry in categories)
    except (UnreadableError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset(), ()


@dataclass(frozen=True)
class CocoImage:
    """An image that a file lists."""

    parts: tuple[str, ...]  # of its path
    id: object
    size: Size | None  # where the file says it


class CocoFile:
    """A file of annotations, cut up by image; annotations are kept compressed and parsed when they are asked for."""

    def __init__(self, text: str) -> None:
        """Walk over the file once; no more than one annotation is parsed at a time."""
        self.categories: dict[object, str] = {}  # name by id
        self._images: dict[str, list[CocoImage]] = defaultdict(list)
        spans: dict[object, list[tuple[int, int]]] = defaultdict(list)
        sections = set()
        for section, value, start, end in _json_members(text):
            sections.add(section)
            if section == "categories":
                self.categories[value["id"]] = str(value["name"])
            elif section == "images":
                height, width = value.get("height"), value.get("width")
                size = (int(str(height)), int(str(width))) if height and width else None
                image = CocoImage(_path_parts(str(value["file_name"])), value.get("id"), size)
                self._images[image.parts[-1]].append(image)
            elif section == "annotations":
                spans[value["image_id"]].append((start, end))
        if "images" not in sections:
            raise UnreadableError("is no COCO file: it lists no images")
        self._annotations = {
            image_id: zlib.compress(f"[{','.join(text[start:end] for start, end in own)}]".encode(), level=1)
            for image_id, own in spans.items()
        }

    def find_image(self, path: str) -> CocoImage:
        """Return the entry of an image: folders must agree as far as both paths have them."""
        parts = _path_parts(path)
        matches = defaultdict(list)
        for image in self._images.get(parts[-1], []):
            length = min(len(image.parts), len(parts))
            if image.parts[-length:] == parts[-length:]:
                matches[length].append(image)
        best = matches[max(matches, default=0)]
        if len(best) == 1:
            return best[0]
        if best:
            raise UnreadableError(f"lists {len(best)} images that could be {path}: their file_name needs folders")
        first = next(iter(self._images.values()), None)
        example = f"such as {'/'.join(first[0].parts)}" if first else "none at all"
        count = sum(map(len, self._images.values()))
        raise UnreadableError(f"does not list the image {path} (it lists {count}, {example})", "missing_mask")

    def annotations(self, image_id: object) -> list[Json]:
        """Return the annotations of an image."""
        compressed = self._annotations.get(image_id)
        return json.loads(zlib.decompress(compressed)) if compressed else []  # type: ignore[no-any-return]

    def shape(self, annotation: Json, size: Size) -> Shape:
        """Draw one annotation."""
        name = f"annotation {annotation.get('id', '(without id)')}"
        category = annotation.get("category_id")
        if category not in self.categories:
            raise UnreadableError(f"is malformed: {name} has category {category}, which is not among the categories")
        segmentation = annotation.get("segmentation")
        if not segmentation:
            raise UnreadableError(f"has only a box, no segmentation, in {name}")
        label, crowd = self.categories[category], bool(annotation.get("iscrowd"))
        if isinstance(segmentation, dict):
            return mask_shape(label, decode_run_lengths(segmentation, size), crowd=crowd)
        try:
            polygons = [np.array(flat, np.float64).reshape(-1, 2) for flat in segmentation]  # type: ignore[attr-defined]
        except (ValueError, TypeError):
            raise UnreadableError(f"is malformed: {name} holds a polygon that is no list x, y, x, y, ...") from None
        return polygon_shape(label, polygons, size, crowd=crowd)


def decode_run_lengths(segmentation: Json, size: Size) -> NDArray[np.bool_]:
    """Decode a mask of runs of 0 and 1 in turn, down the columns; `counts` are numbers or their compressed text."""
    declared, counts = segmentation.get("size", []), segmentation.get("counts")
    if list(declared) != list(size):  # type: ignore[call-overload]
        raise UnreadableError(f"holds a mask of size {declared} for an image of size {list(size)}")
    if isinstance(counts, str):
        return _decode_compressed(counts, size)
    runs = np.array(counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise UnreadableError(WRONG_RUNS)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")


def _decode_compressed(counts: str, size: Size) -> NDArray[np.bool_]:
    from pycocotools import mask as run_lengths

    encoded = {"size": list(size), "counts": counts.encode("ascii")}
    mask = run_lengths.decode(encoded)
    # Where the runs end too early, pycocotools leaves the rest of the mask as the memory was. Merged with itself, an
    # encoding loses its empty runs, so that it is the text that encoding its own mask gives, unless it is too short.
    if run_lengths.merge([encoded, encoded])["counts"] != run_lengths.encode(mask)["counts"]:
        raise UnreadableError(WRONG_RUNS)
    return mask.astype(bool)


def _path_parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in {"", "."}) or ("",)


_SPACE = re.compile(r"[ \t\r\n]*")


def _json_members(text: str) -> Iterator[tuple[str, dict[str, object], int, int]]:
    """Yield every member of a JSON object, of lists every element, with its start and end; nothing else is built."""
    decode = json.JSONDecoder().raw_decode
    position = _after(text, _skip_space(text, 0), "{")
    while text[position : position + 1] != "}":
        key, position = decode(text, position)
        position = _after(text, _skip_space(text, position), ":")
        if text[position : position + 1] == "[":
            position = _skip_space(text, position + 1)
            while text[position : position + 1] != "]":
                value, end = decode(text, position)
                yield key, value, position, end
                position = _next(text, end, "]")
            position += 1
        else:
            value, end = decode(text, position)
            yield key, value, position, end
            position = end
        position = _next(text, position, "}")


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _after(text: str, position: int, sign: str) -> int:
    if text[position : position + 1] != sign:
        raise json.JSONDecodeError(f"Expecting '{sign}'", text, position)
    return _skip_space(text, position + 1)


def _next(text: str, position: int, end: str) -> int:
    """Skip a comma, or stay at the end of a list or an object."""
    position = _skip_space(text, position)
    return position if text[position : position + 1] == end else _after(text, position, ",")


_OPEN_FILES: OrderedDict[tuple[str, ...], CocoFile | UnreadableError] = OrderedDict()  # those read last
_LOCK = threading.Lock()


def _open(storage: FileStore, path: str) -> CocoFile:
    """Return a file, parsed once (or refused once) however many threads ask for it."""
    stamp = storage.stamp(path) if storage.is_local else ""  # at a URL it would be a request for each image
    key = (str(storage), path, stamp)
    with _LOCK:
        if key not in _OPEN_FILES:
            while len(_OPEN_FILES) >= MAX_OPEN_FILES:
                _OPEN_FILES.popitem(last=False)
            try:
                with parse_errors():
                    _OPEN_FILES[key] = CocoFile(read_bytes(storage, path).decode("utf-8-sig"))
            except UnreadableError as error:
                _OPEN_FILES[key] = error
        _OPEN_FILES.move_to_end(key)
        file = _OPEN_FILES[key]
    if isinstance(file, UnreadableError):
        raise UnreadableError(str(file))
    return file


ANNOTATION_FORMATS.register("coco")(CocoFormat())
