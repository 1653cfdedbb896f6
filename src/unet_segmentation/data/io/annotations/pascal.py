"""Pascal VOC: an `.xml` for each image, with the polygon of each object or, where it has none, its box."""

from __future__ import annotations

import hashlib
from xml.etree import ElementTree

import numpy as np

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, Annotation, AnnotationFormat
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError, read_bytes
from unet_segmentation.data.io.shapes import Polygon, Shape, Size, box_shape, polygon_shape


class PascalFormat(AnnotationFormat):
    """Labels are the names of the objects."""

    title = "Pascal VOC"
    extensions = frozenset({"xml"})
    often_boxes = True

    def detect(self, text: str) -> bool:
        """Return whether the file annotates objects."""
        return "<object" in text or "<annotation" in text

    def read(self, storage: FileStore, path: str, image: str, size: Size) -> Annotation:
        """Read the objects of the image."""
        data = read_bytes(storage, path)
        if b"<!ENTITY" in data.replace(b"\0", b""):  # zero bytes: of UTF-16
            raise UnreadableError("declares XML entities, which are refused: they can be made to fill the memory")
        root = ElementTree.fromstring(data)
        objects = [entry for entry in root.iter("object") if (entry.findtext("deleted") or "0").strip() != "1"]
        shapes = [_shape(number, entry, size) for number, entry in enumerate(objects)]
        width, height = root.findtext("size/width"), root.findtext("size/height")
        declared = (int(float(height)), int(float(width))) if height and width else (0, 0)
        return Annotation(shapes, declared if all(declared) else None, hashlib.sha256(data).hexdigest())


def _shape(number: int, entry: ElementTree.Element, size: Size) -> Shape:
    label = (entry.findtext("name") or "").strip()
    if not label:
        raise UnreadableError(f"is malformed: object {number} (from 0) has no name")
    polygons = [_corners(polygon) for polygon in entry.findall("polygon")]
    if polygons:
        return polygon_shape(label, polygons, size)
    sides = [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    if any(side is None for side in sides):
        raise UnreadableError(f"is malformed: object {number} (from 0, {label}) has neither polygon nor bndbox")
    left, top, right, bottom = (float(side or "") for side in sides)
    return box_shape(label, left, top, right, bottom, size)


def _corners(polygon: ElementTree.Element) -> Polygon:
    """Parse `<pt><x/><y/></pt>...` (LabelMe's old XML) or `<x1/><y1/><x2/><y2/>...` (Roboflow)."""
    points = [(point.findtext("x"), point.findtext("y")) for point in polygon.findall("pt")]
    if not points:
        count = sum(child.tag.startswith("x") for child in polygon)
        points = [(polygon.findtext(f"x{n}"), polygon.findtext(f"y{n}")) for n in range(1, count + 1)]
    return np.array([(float(x or ""), float(y or "")) for x, y in points], np.float64).reshape(-1, 2)


ANNOTATION_FORMATS.register("pascal")(PascalFormat())
