"""What metrics are computed from: a table of counts per image, and the sums over images that scores are functions of.

A basis is one file: the columns of its table, how an image is measured, and how the table becomes sums per image. The
bases are listed in `definitions.BASES`; everything else (the tables of an evaluation, its scores and their intervals)
follows from that list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.metrics.count_tables import CountTableBuilder, dense

Needs = Literal["masks", "probabilities"]


@dataclass(frozen=True)
class EvaluatedImage:
    """An image whose true mask and prediction are known.

    Attributes:
        truth: (height, width) class ids, 255 where a pixel counts nowhere.
        prediction: (height, width) class ids.
        probabilities: (classes, height, width); None where the predicted masks alone are at hand.
    """

    truth: NDArray[Any]
    prediction: NDArray[Any]
    probabilities: NDArray[Any] | None = None


@dataclass(frozen=True)
class EvaluationSettings:
    """What decides how images are measured.

    Attributes:
        n_classes: number of classes.
        boundary: the boundary metrics that are measured.
        tolerance: of the surface Dice, in pixels.
        threshold: of the foreground in problems of two classes, chosen on another split; None where there is none.
    """

    n_classes: int
    boundary: tuple[str, ...] = ()
    tolerance: float = 2.0
    threshold: float | None = None


class Basis(ABC):
    """A table of counts per image.

    Args:
        settings: how images are measured.

    Attributes:
        name: of the table.
        needs: whether predicted masks are enough to measure an image.
        keys: columns of the table that index an image's array of counts: one for each axis but the last.
        columns: name and type of the other columns: what the last axis holds.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = "masks"
    keys: ClassVar[tuple[str, ...]]
    columns: ClassVar[Mapping[str, type]]

    def __init__(self, settings: EvaluationSettings) -> None:
        self.settings = settings

    @property
    def applies(self) -> bool:
        """Return whether images are measured at all."""
        return True

    @abstractmethod
    def measure(self, image: EvaluatedImage) -> NDArray[Any]:
        """Measure one image: (*keys, columns)."""

    @abstractmethod
    def unit_sums(self, table: pd.DataFrame, sample_ids: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return what each image adds to the sums, (images, *shape), by the name that metrics know them by."""

    def table_builder(self) -> CountTableBuilder:
        """Return what builds the table of the images that are added to it: sample id and `measure` of each."""
        return CountTableBuilder(self.keys, self.columns)

    def dense_sums(self, table: pd.DataFrame, sample_ids: Sequence[str], *shape: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of the images as they were measured, by the basis's own name."""
        return {self.name: dense(table, sample_ids, self.keys, list(self.columns), shape)}
