"""LabelMe: a `.json` for each image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, Annotation, AnnotationFormat
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError, read_bytes
from unet_segmentation.data.io.shapes import Shape, Size, box_shape, mask_shape, polygon_shape

CIRCLE_CORNERS = 360  # a circle of radius 1000 is off by 0.04 pixels


class LabelMeFormat(AnnotationFormat):
    """Labels are those of the shapes. A line or a point has no area and is refused."""

    title = "LabelMe"
    extensions = frozenset({"json"})

    def detect(self, text: str) -> bool:
        """Return whether the file has shapes."""
        return '"shapes"' in text

    def read(self, storage: FileStore, path: str, image: str, size: Size) -> Annotation:
        """Read the shapes of the image."""
        data = read_bytes(storage, path)
        content = json.loads(data.decode("utf-8-sig"))
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise UnreadableError("is no LabelMe file: it has no shapes")
        shapes = [_shape(number, shape, size) for number, shape in enumerate(content["shapes"])]
        height, width = content.get("imageHeight"), content.get("imageWidth")
        annotated = (int(height), int(width)) if height and width else None
        return Annotation(shapes, annotated, hashlib.sha256(data).hexdigest())


def _shape(number: int, shape: Mapping[str, object], size: Size) -> Shape:
    label, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], np.float64).reshape(-1, 2)
    if kind == "polygon":
        return polygon_shape(label, [points], size)
    if kind == "rectangle" and len(points) in {2, 4}:
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return box_shape(label, left, top, right, bottom, size)
    if kind == "circle" and len(points) == 2:
        radius = np.linalg.norm(points[1] - points[0])
        angles = np.linspace(0, 2 * np.pi, CIRCLE_CORNERS, endpoint=False)
        circle = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return polygon_shape(label, [circle], size)
    if kind == "mask" and len(points):
        return _mask(label, str(shape["mask"]), points[0], size)
    raise UnreadableError(
        f"holds a {kind} in shape {number} (from 0, label {label}), which has no area: only polygon, rectangle, circle "
        "and mask do. Draw it as a polygon, or remove it"
    )


def _mask(label: str, encoded: str, corner: NDArray[np.float64], size: Size) -> Shape:
    """Decode a picture of the object's bounding box, whose upper left pixel is `corner`."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(encoded)), formats=["PNG"])
    inside = np.zeros(size, bool)
    left, top = (int(np.clip(value, 0, limit)) for value, limit in zip(corner, (size[1], size[0]), strict=True))
    mask = np.asarray(picture) != 0
    box = inside[top : top + mask.shape[0], left : left + mask.shape[1]]
    box |= mask[: box.shape[0], : box.shape[1]]
    return mask_shape(label, inside)


ANNOTATION_FORMATS.register("labelme")(LabelMeFormat())
