"""The classes of a problem: their names, ids, colors and slugs, and the value of ignored pixels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from unet_segmentation.utils.ignore_index import IGNORE_INDEX
from unet_segmentation.utils.strict_model import StrictModel


class LabelMap(StrictModel):
    """What the values of a mask mean, how they are drawn and how metric names spell them."""

    names: tuple[str, ...] = Field(min_length=2)  # in the order of the ids
    colors: tuple[tuple[int, int, int], ...]  # RGB
    slugs: tuple[str, ...]  # the last part of a metric's name
    ignore_index: Literal[255] = IGNORE_INDEX  # the value of pixels that belong to no class

    @classmethod
    def from_names(cls, names: Sequence[str]) -> Self:
        """Build the label map of these classes, with the colors in which every picture shows them."""
        from unet_segmentation.visualization import class_colors  # OpenCV and Pillow: not for every command

        colors = tuple((red, green, blue) for red, green, blue in class_colors(len(names)).tolist())
        return cls(names=tuple(names), colors=colors, slugs=tuple(class_slugs(names)))

    @property
    def ids(self) -> range:
        """Class ids, from 0."""
        return range(len(self.names))


def class_slugs(names: Sequence[str]) -> list[str]:
    """Return the last part of metric names for each class: lower case, digits and underscores, each unique."""
    slugs: list[str] = []
    for number, name in enumerate(names):
        ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "_", ascii_name).strip("_") or f"class_{number}"
        while slug in slugs:
            slug += f"_{number}"
        slugs.append(slug)
    return slugs
