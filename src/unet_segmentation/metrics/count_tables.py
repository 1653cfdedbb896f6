"""Counts per image as a sparse table, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class CountTableBuilder:
    """Collects the arrays of counts of images, one at a time, as a sparse table.

    Args:
        keys: names of the axes of an image's array, but for the last.
        columns: name and type of the values of a cell: what the last axis holds.
    """

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


def sparse_table(
    images: Iterable[tuple[str, NDArray[Any]]], keys: Sequence[str], columns: Mapping[str, type]
) -> pd.DataFrame:
    """Build a sparse table of the arrays of images: sample id and array of each; see `CountTableBuilder`."""
    builder = CountTableBuilder(keys, columns)
    for sample_id, array in images:
        builder.add(sample_id, array)
    return builder.build()


def total(table: pd.DataFrame, keys: Sequence[str], values: Sequence[str], shape: Sequence[int]) -> NDArray[Any]:
    """Sum a sparse table over its images.

    Args:
        table: see `sparse_table`.
        keys: columns that say where a row belongs.
        values: columns that are summed.
        shape: length of each key's axis.

    Returns:
        (*shape, values), int64 where all values are whole numbers, else float64.
    """
    rows = table[list(values)].to_numpy()
    sums = np.zeros((*shape, len(values)), rows.dtype)
    np.add.at(sums, tuple(table[key].to_numpy() for key in keys), rows)
    return sums


def dense(
    table: pd.DataFrame, sample_ids: Sequence[str], keys: Sequence[str], values: Sequence[str], shape: Sequence[int]
) -> NDArray[Any]:
    """Return the arrays of all images of a sparse table.

    Args:
        table: see `sparse_table`.
        sample_ids: the images, in the order of the result; those without a row get zeros.
        keys: columns that say where a row belongs.
        values: columns of the cells.
        shape: length of each key's axis.

    Returns:
        (images, *shape, values), as `total`.
    """
    image = pd.Index(sample_ids).get_indexer(pd.Index(table["sample_id"].astype(str)))
    return total(table.assign(image=image), ["image", *keys], values, [len(sample_ids), *shape])


def divided(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    undefined = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def mean_of_defined(values: NDArray[Any], axis: int = -1) -> NDArray[np.float64]:
    """Average what is not NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return divided(np.where(defined, values, 0.0).sum(axis=axis), defined.sum(axis=axis))


def groups_of(samples: pd.DataFrame) -> dict[str, str]:
    """Return the group of each sample that has one.

    Args:
        samples: columns sample_id and group; null where a sample belongs to no other.
    """
    grouped = samples.dropna(subset="group")
    return dict(zip(grouped["sample_id"].astype(str), grouped["group"].astype(str), strict=True))
