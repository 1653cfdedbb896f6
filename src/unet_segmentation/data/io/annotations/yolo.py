"""YOLO: a `.txt` for each image, a line per object: its class and x, y, x, y, ... as shares of width and height."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, Annotation, AnnotationFormat
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError, read_bytes
from unet_segmentation.data.io.shapes import Shape, Size, box_shape, polygon_shape

SLACK = 0.01  # by which coordinates may lie outside 0..1
_LINE = re.compile(r"\d+(?:\s+[-+0-9.eE]+){4,}\s*")
_NAME_FILES = {"classes.txt", "obj.names", "labels.txt"}


class YoloFormat(AnnotationFormat):
    """The label is the number of the class among the objects. A line of five numbers is a box (center, size)."""

    title = "YOLO"
    extensions = frozenset({"txt", "csv"})
    often_boxes = True
    numbers_labels = True

    def detect(self, text: str) -> bool:
        """Return whether the first lines are numbers of classes and shares."""
        lines = [line for line in text.splitlines()[:50] if line.strip()]
        return all(map(_LINE.fullmatch, lines)) and _are_shares(lines)

    def read(self, storage: FileStore, path: str, image: str, size: Size) -> Annotation:
        """Read the objects of the image; an empty file has none."""
        data = read_bytes(storage, path, may_be_empty=True)
        lines = enumerate(data.decode("utf-8-sig").splitlines(), start=1)
        shapes = [_shape(number, line, size) for number, line in lines if line.strip()]
        return Annotation(shapes, None, hashlib.sha256(data).hexdigest())

    def default_class_id(self, label: str, classes: Sequence[str]) -> int | None:
        """Return the number of the object's class plus 1: class 0 is what is around the objects."""
        return int(label) + 1 if label.isdigit() and int(label) + 1 < len(classes) else None

    def sort_labels(self, labels: Iterable[str]) -> list[str]:
        """Return labels by number."""
        return sorted(labels, key=int)

    def class_names(self, storage: FileStore, annotations: Sequence[str], others: Sequence[str]) -> list[str]:
        """Return the names of the classes: of `classes.txt`, `obj.names` or the `names` of a YAML file."""
        import yaml

        for path in others:
            file = PurePosixPath(path).name.lower()
            try:
                if file in _NAME_FILES:
                    lines = storage.read(path).decode("utf-8-sig").splitlines()
                    return [line.strip() for line in lines if line.strip()]
                if file.endswith((".yaml", ".yml")):
                    names = (yaml.safe_load(storage.read(path)) or {}).get("names")
                    if names:
                        names = [names[key] for key in sorted(names)] if isinstance(names, dict) else names
                        return [str(name) for name in names]
            except (OSError, ValueError, AttributeError, yaml.YAMLError):
                continue
        return []


def _shape(number: int, line: str, size: Size) -> Shape:
    label, *rest = line.split()
    try:
        shares = np.array([float(text) for text in rest])
        if not label.isdigit() or len(shares) < 4 or len(shares) % 2:
            raise ValueError
    except ValueError:
        raise UnreadableError(f"is malformed: line {number} is not a class and x, y, x, y, ...") from None
    if not ((shares >= -SLACK) & (shares <= 1 + SLACK)).all():
        raise UnreadableError(f"is malformed: line {number} has coordinates that are not shares from 0 to 1")
    if len(shares) > 4:
        return polygon_shape(label, [shares.reshape(-1, 2) * [size[1], size[0]]], size)
    x, y, width, height = shares * [size[1], size[0], size[1], size[0]]
    return box_shape(label, x - width / 2, y - height / 2, x + width / 2, y + height / 2, size)


def _are_shares(lines: Iterable[str]) -> bool:
    """Return whether the numbers after the first of each line lie from 0 to 1, and are not all whole."""
    try:
        numbers = [float(word) for line in lines for word in line.split()[1:]]
    except ValueError:
        return False
    return all(-SLACK <= number <= 1 + SLACK for number in numbers) and any(number % 1 for number in numbers)


ANNOTATION_FORMATS.register("yolo")(YoloFormat())
