"""Labeled shapes, and how polygons and boxes become pixels.

Coordinates are continuous: the pixel in row r and column c covers [c, c + 1) x [r, r + 1), and belongs to a polygon if
its center lies inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.image_decoders import UnreadableError

Size = tuple[int, int]  # height and width
Polygon = NDArray[np.float64]  # (corners, 2): x and y


@dataclass(frozen=True)
class Shape:
    """A part of an image that has a label."""

    label: str  # as it stands in the file
    rows: slice
    columns: slice
    inside: NDArray[np.bool_]  # (rows, columns)
    crowd: bool = False  # many objects that were not annotated one by one


def polygon_shape(label: str, polygons: Iterable[Polygon], size: Size, *, crowd: bool = False) -> Shape:
    """Build the shape that polygons outline."""
    return Shape(label, *rasterize_polygons(polygons, size), crowd)


def box_shape(label: str, left: float, top: float, right: float, bottom: float, size: Size) -> Shape:
    """Build the shape of a box."""
    return polygon_shape(label, [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])], size)


def mask_shape(label: str, inside: NDArray[np.bool_], *, crowd: bool = False) -> Shape:
    """Build the shape of a mask that covers the image."""
    return Shape(label, slice(0, inside.shape[0]), slice(0, inside.shape[1]), inside, crowd)


def rasterize_polygons(polygons: Iterable[Polygon], size: Size) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Fill polygons: a pixel is inside if its center is inside one of them (of one that crosses itself: even-odd).

    Returns:
        Rows and columns of the bounding box within the image, and which of its pixels are inside.
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
        inside |= _scan_lines(polygon - (left, top), inside.shape)
    return slice(top, bottom), slice(left, right), inside


def _scan_lines(polygon: Polygon, size: Size) -> NDArray[np.bool_]:
    """Fill by scan lines: each edge toggles everything to its right, in the rows whose center line it crosses."""
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
