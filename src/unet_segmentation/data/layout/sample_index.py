"""The index of samples: a row per image, with its masks, its region of interest, its group and its predefined split."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import count_pages
from unet_segmentation.data.layout.layout import Layout, find_samples, samples_table
from unet_segmentation.data.layout.predefined_splits import apply_table, find_file, read_text, split_by_lists
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.source import SourceParameters

logger = logging.getLogger(__name__)


def index_files(root: str, source: SourceParameters, resolve: Callable[[Path], Path]) -> pd.DataFrame:
    """List the samples of a source.

    Args:
        root: folder or URL of the files.
        source: their layout, and lists or a table of a predefined split.
        resolve: makes a path of the user's absolute.

    Returns:
        See `samples_table`. A mask without an image has a row too, with an empty ``image``, for the inspection to
        report.

    Raises:
        DataError: the layout matches nothing, two images claim the same id, or a list or table does not fit.
    """
    storage = FileStore(root, source.storage_options)
    if storage.is_local and not Path(storage.root).is_dir():
        raise DataError(f"The folder {storage} is not there any more: run the node extract again.")
    paths = list(storage.walk())
    samples = find_samples(paths, Layout.of(source), str(storage), partial(count_pages, storage))
    if source.split_lists:
        lists, names = _read_lists(source, storage, paths)
        samples = split_by_lists(samples, lists, source.unlisted, names)
    if source.split_table is not None:
        file, text = _read_table(source.split_table.file, storage, paths, resolve)
        samples = apply_table(samples, text, source.split_table.model_copy(update={"file": file}), source.unlisted)
    table = samples_table(samples, source.group, str(storage))
    with_mask = sum(sample.image != "" and bool(sample.masks) for sample in samples)
    logger.info("%d images, %d with a mask", sum(sample.image != "" for sample in samples), with_mask)
    return table


def _read_lists(
    source: SourceParameters, storage: FileStore, paths: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the lines of the list of each split, and the name of the list in messages."""
    lists: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for split, entry in source.split_lists.items():
        if isinstance(entry, str):
            names[split] = find_file(paths, entry, f"source.split_lists.{split}", str(storage))
            lists[split] = read_text(storage, names[split]).splitlines()
        else:
            lists[split], names[split] = entry, f"source.split_lists.{split}"
    return lists, names


def _read_table(
    file: str, storage: FileStore, paths: Sequence[str], resolve: Callable[[Path], Path]
) -> tuple[str, str]:
    """Return path and text of the table: among the files of the data set, else in the project."""
    own = resolve(Path(file).expanduser())
    if own.is_file() and file not in paths:
        return str(own), read_text(FileStore(own.parent), own.name)
    path = find_file(paths, file, "source.split_table.file", str(storage))
    return path, read_text(storage, path)
