"""The borders of regions as closed lines along the pixels' edges, traced for all regions of a mask at once."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.backends.base import Mask

RIGHT, DOWN, LEFT, UP = range(4)

Ring = NDArray[np.intp]  # (N, 2) x and y of its corners, the first again at the end


class Corners(NamedTuple):
    """Where borders turn, row by row; a point at which several do is there for each of them."""

    places: NDArray[np.intp]  # (N, 2) x and y, in pixels' edges
    parts: NDArray[np.intp]  # (N,) that the borders are of
    arriving: NDArray[np.intp]  # (N,) direction that a border comes in, with its part on the right
    leaving: NDArray[np.intp]  # (N,) direction that it leaves in


def corner_points(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the points between four pixels of a mask (height, width) where borders of classes turn, end or touch.

    Returns:
        (N,) flat indices into (height + 1, width + 1), increasing; and (4, N) flat indices into the mask of the pixels
        around each, clockwise from the upper left one, -1 for class 0 and outside the image.
    """
    width = mask.shape[1]
    around = np.pad(mask, 1)
    equal_right, equal_below = around[:, :-1] == around[:, 1:], around[:-1] == around[1:]
    straight = (equal_right[:-1] & equal_right[1:]) | (equal_below[:, :-1] & equal_below[:, 1:])
    points = np.flatnonzero(~straight)
    y, x = np.divmod(points, width + 1)
    rows, columns = y + np.array([[0], [0], [1], [1]]), x + np.array([[0], [1], [1], [0]])
    pixels = np.where(around[rows, columns] > 0, (rows - 1) * width + columns - 1, -1)
    return points, pixels


def trace_contours(points: NDArray[np.intp], parts: NDArray[np.intp], width: int) -> dict[int, list[Ring]]:
    """Follow the borders of parts, which are pixels connected by their sides, from corner to corner.

    Args:
        points: see `corner_points`.
        parts: (4, N) numbers of the parts that the pixels around each point belong to, -1 for none.
        width: of the mask, in pixels.

    Returns:
        Of each part the line around it, clockwise as seen, then those around its holes, the other way round. No line
        passes a point twice.
    """
    corners = _corners(points, parts, width)
    following = _following(corners)
    after = following[following].tolist()  # pieces lie and stand by turns: it is enough to go from one that lies
    seen = bytearray(len(after))
    path: list[int] = []
    ends = [0]
    for first in np.flatnonzero(corners.leaving % 2 == RIGHT).tolist():  # a part's first one lies on the line around it
        if seen[first]:
            continue
        corner = first
        while not seen[corner]:
            seen[corner] = 1
            path.append(corner)
            corner = after[corner]
        path.append(first)
        ends.append(len(path))
    lying = np.array(path, np.intp)
    both = np.stack([lying, following[lying]], axis=1).ravel()
    along, owners = corners.places[both], corners.parts[lying].tolist()
    rings: dict[int, list[Ring]] = {}
    for begin, end in pairwise(ends):
        rings.setdefault(owners[begin], []).append(along[2 * begin : 2 * end - 1])
    return rings


def _corners(points: NDArray[np.intp], parts: NDArray[np.intp], width: int) -> Corners:
    """Find how borders turn at the points.

    Three cases of the four pixels around a point, and their rotations (x: pixels of the border's part)::

        x .    x .    x x
        . .    . x    x .

    A border turns right around a pixel alone, and left around the middle one of three. Where a part touches itself
    across the point, what lies between is a hole: borders turn left there, and so leave holes apart from each other and
    from the outside.
    """
    alike = parts == np.roll(parts, -1, axis=0)  # each pixel and the next one clockwise
    corners = []
    for number in range(4):
        before, after, across = alike[number - 1], alike[number], parts[number] == parts[number - 2]
        one, three = ~before & ~after, before & after & ~across
        for turns, arriving, leaving in (
            (one & ~across, number + 1, number + 2),
            (one & across, number + 1, number),
            (three, number + 2, number + 1),
        ):
            where = np.flatnonzero(turns & (parts[number] >= 0))
            directions = np.full((2, len(where)), [[arriving % 4], [leaving % 4]])
            corners.append(np.stack([points[where], parts[number, where], *directions]))
    place, part, arriving, leaving = np.concatenate(corners, axis=1)
    order = np.argsort(place, kind="stable")
    y, x = np.divmod(place[order], width + 1)
    return Corners(np.stack([x, y], axis=1), part[order], arriving[order], leaving[order])


def _following(corners: Corners) -> NDArray[np.intp]:
    """Return the next corner of each.

    Straight pieces of one direction never overlap on their line, so the first that begins there is the first to end.
    """
    by_row = np.arange(len(corners.places))
    by_column = np.argsort(corners.places[:, 0], kind="stable")
    following = np.empty(len(by_row), np.intp)
    for direction, order in ((RIGHT, by_row), (LEFT, by_row), (DOWN, by_column), (UP, by_column)):
        begins, ends = corners.leaving[order] == direction, corners.arriving[order] == direction
        following[order[begins]] = order[ends]
    return following
