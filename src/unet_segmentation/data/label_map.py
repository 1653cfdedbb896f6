"""The classes of a problem: their names, ids, colours and slugs, and the value of ignored pixels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from unet_segmentation.utils.ignore_index import IGNORE_INDEX
from unet_segmentation.utils.strict_model import StrictModel


class LabelMap(StrictModel):
    """What the values of a mask mean, how they are drawn and how metric names spell them.

    Attributes:
        names: of the classes, in the order of their ids.
        colors: RGB of each class.
        slugs: of each class, the last part of a metric's name.
        ignore_index: the value of pixels that belong to no class.
    """

    names: tuple[str, ...] = Field(min_length=2)
    colors: tuple[tuple[int, int, int], ...]
    slugs: tuple[str, ...]
    ignore_index: Literal[255] = IGNORE_INDEX

    @classmethod
    def from_names(cls, names: Sequence[str]) -> Self:
        """Build the label map of these classes, with the colours in which every picture shows them."""
        from unet_segmentation.visualization import class_colours  # OpenCV and Pillow: not for every command

        colors = tuple((red, green, blue) for red, green, blue in class_colours(len(names)).tolist())
        return cls(names=tuple(names), colors=colors, slugs=tuple(class_slugs(names)))

    @property
    def ids(self) -> range:
        """Class ids, from 0."""
        return range(len(self.names))

    def id_of(self, name: str) -> int:
        """Return the id of a class.

        Raises:
            ValueError: there is no such class.
        """
        return self.names.index(name)


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
