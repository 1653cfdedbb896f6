"""What metrics are computed from: a table of counts per image, and the sums over images that scores are functions of.

A basis is one file: the columns of its table, how an image is measured, and how the table becomes sums per image. The
bases are listed in `definitions.BASES`; everything else (the tables of an evaluation, its scores and their intervals)
follows from that list.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.errors import DataError

Needs = Literal["masks", "probabilities"]


@dataclass(frozen=True)
class EvaluatedImage:
    """An image with its true mask and its prediction."""

    truth: NDArray[Any]  # (height, width) class ids, 255 where a pixel counts nowhere
    prediction: NDArray[Any]  # (height, width) class ids
    probabilities: NDArray[Any] | None = None  # (classes, height, width); None where only masks are at hand


@dataclass(frozen=True)
class EvaluationSettings:
    """What decides how images are measured."""

    n_classes: int
    boundary: tuple[str, ...] = ()  # the boundary metrics that are measured
    tolerance: float = 2.0  # of the surface Dice, in pixels
    threshold: float | None = None  # of the foreground in problems of two classes, chosen on another split


class Basis(ABC):
    """A table of counts per image.

    Attributes:
        name: of the table.
        needs: whether predicted masks are enough to measure an image.
        keys: columns of the table that index an image's array of counts: one for each axis but the last.
        columns: name and type of the other columns: what the last axis holds.
        shape: length of each key's axis.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = "masks"
    keys: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[Mapping[str, type]]
    shape: tuple[int, ...] = ()

    def __init__(self, settings: EvaluationSettings) -> None:
        self.settings = settings

    @property
    def applies(self) -> bool:
        """Return whether images are measured at all."""
        return True

    @abstractmethod
    def measure(self, image: EvaluatedImage) -> NDArray[Any]:
        """Measure one image: (*shape, columns)."""

    def unit_sums(self, table: pd.DataFrame, sample_ids: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return what each image adds to the sums, by the name that metrics know them by.

        Here the arrays as they were measured, (images, *shape, columns), by the basis's own name.
        """
        return {self.name: self.dense(table, sample_ids, list(self.columns))}

    def table_builder(self) -> CountTableBuilder:
        """Return what builds the table of the images that are added to it: sample id and `measure` of each."""
        return CountTableBuilder(self.keys, self.columns)

    def dense(self, table: pd.DataFrame, sample_ids: Sequence[str], columns: Sequence[str]) -> NDArray[Any]:
        """Return some columns as arrays (images, *shape, columns), zeros for images without a row."""
        index = image_index(table, sample_ids), *(table[key].to_numpy() for key in self.keys)
        return _add_up(table[list(columns)].to_numpy(), index, (len(sample_ids), *self.shape))

    def total(self, table: pd.DataFrame) -> NDArray[Any]:
        """Sum a table over its images: (*shape, columns), int64 where all values are whole numbers, else float64."""
        index = tuple(table[key].to_numpy() for key in self.keys)
        return _add_up(table[list(self.columns)].to_numpy(), index, self.shape)


class CountTableBuilder:
    """Collects the arrays of counts of images, one at a time, as a sparse table; see `Basis`."""

    def __init__(self, keys: Sequence[str], columns: Mapping[str, type]) -> None:
        self._keys, self._columns = keys, columns
        self._sample_ids: list[str] = []
        self._cells: list[NDArray[np.int64]] = [np.empty((0, len(keys)), np.int64)]
        self._values: list[NDArray[Any]] = []

    def add(self, sample_id: str, array: NDArray[Any]) -> None:
        """Add an image: a row for every cell that is not 0; the one row of an array without keys in any case."""
        filled = np.nonzero(array.any(axis=-1)) if self._keys else ()
        values = array[filled] if self._keys else array[None]
        self._sample_ids += [sample_id] * len(values)
        self._cells.append(np.stack(filled, axis=1) if filled else np.empty((1, 0), np.int64))
        self._values.append(values)

    def build(self) -> pd.DataFrame:
        """Build the table: sample_id (str), the keys (int64), the columns."""
        values = np.concatenate(self._values) if self._values else np.empty((0, len(self._columns)), np.int64)
        table = dict(zip(self._keys, np.concatenate(self._cells).T, strict=True))
        for (name, dtype), column in zip(self._columns.items(), values.T, strict=True):
            table[name] = column.astype(dtype)
        return pd.DataFrame({"sample_id": pd.Series(self._sample_ids, dtype="str"), **table})


def sparse_table(images: Iterable[tuple[str, NDArray[Any]]], basis: type[Basis]) -> pd.DataFrame:
    """Build the table of a basis from sample id and array of each image; see `CountTableBuilder`."""
    builder = CountTableBuilder(basis.keys, basis.columns)
    for sample_id, array in images:
        builder.add(sample_id, array)
    return builder.build()


def image_index(table: pd.DataFrame, sample_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return for each row of a table the position of its image in `sample_ids`.

    Raises:
        DataError: the table names an image that is not among them.
    """
    image = pd.Index(sample_ids).get_indexer(pd.Index(table["sample_id"].astype(str)))
    if (image < 0).any():
        raise DataError(f"The counts hold an image that is not asked for: {table['sample_id'][image < 0].iloc[0]}.")
    return image.astype(np.int64)


def divided(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def mean_of_defined(values: NDArray[Any]) -> NDArray[np.float64]:
    """Average what is not NaN over the last axis; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return divided(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))


def _add_up(rows: NDArray[Any], index: tuple[NDArray[Any], ...], shape: tuple[int, ...]) -> NDArray[Any]:
    sums = np.zeros((*shape, rows.shape[1]), rows.dtype)
    np.add.at(sums, index, rows)
    return sums
