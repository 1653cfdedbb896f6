"""Counts of images as one sparse table, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def sparse_table(
    images: Iterable[tuple[str, NDArray]], keys: Sequence[str], values: Mapping[str, type]
) -> pd.DataFrame:
    """Write arrays of counts as a table: a row for every cell that is not 0.

    Args:
        images: sample id, and an array with an axis for each key and, last, the values of a cell.
        keys: names of the axes.
        values: name and type of the values of a cell.

    Returns:
        Columns sample_id (str), the keys (int64), the values.
    """
    ids: list[str] = []
    places: list[NDArray[np.int64]] = [np.empty((0, len(keys)), np.int64)]
    cells: list[NDArray[Any]] = []
    for sample_id, array in images:
        filled = np.nonzero(array.any(axis=-1))
        ids += [sample_id] * len(filled[0])
        places.append(np.stack(filled, axis=1))
        cells.append(array[filled])
    joined = np.concatenate(cells) if cells else np.empty((0, len(values)), np.int64)
    columns = dict(zip(keys, np.concatenate(places).T, strict=True))
    for (name, kind), column in zip(values.items(), joined.T, strict=True):
        columns[name] = column.astype(kind)
    return pd.DataFrame({"sample_id": pd.Series(ids, dtype="str"), **columns})


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
    """Make the arrays of all images of a sparse table again.

    Args:
        table: see `sparse_table`.
        sample_ids: the images, in the order wanted; those without a row get zeros.
        keys: columns that say where a row belongs.
        values: columns of the cells.
        shape: length of each key's axis.

    Returns:
        (images, *shape, values), as `total`.
    """
    image = pd.Index(sample_ids).get_indexer(pd.Index(table["sample_id"].astype(str)))
    return total(table.assign(image=image), ["image", *keys], values, [len(sample_ids), *shape])


def divided(above: NDArray, below: NDArray) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is 0."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)


def groups_of(samples: pd.DataFrame) -> dict[str, str]:
    """Return the group of each sample that has one.

    Args:
        samples: columns sample_id and group; null where a sample belongs to no other.
    """
    known = samples.dropna(subset="group")
    return dict(zip(known["sample_id"].astype(str), known["group"].astype(str), strict=True))
