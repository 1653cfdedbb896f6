"""Find predefined splits in lists or tables next to the images, by trying which files fit the samples."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.layout.layout import Sample
from unet_segmentation.data.layout.predefined_splits import SYNONYMS, Names, apply_table, read_text, split_by_lists
from unet_segmentation.data.onboarding.file_types import LISTS, ending, spread
from unet_segmentation.data.onboarding.name_keywords import split_name, split_words
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.source import TableParameters

LARGEST = 32 * 2**20  # bytes of a list
ENOUGH = 0.5  # share of a list's names that must be there
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "usage", "phase")


@dataclass
class Official:
    """A predefined split."""

    samples: list[Sample]  # those that have a split, with it
    left_out: int  # labeled samples that are on no list
    lists: dict[str, str] = field(default_factory=dict)  # path by the project's name for the split
    unlisted: str = "exclude"  # what becomes of samples on no list
    table: TableParameters | None = None


def find_official(storage: FileStore, paths: Sequence[str], samples: Sequence[Sample]) -> Official | None:
    """Find lists or a table that split the samples; of several, those that name most labeled samples."""
    files = [path for path in paths if ending(path) in LISTS]
    splits = [*_by_lists(storage, files, samples), *_by_table(storage, files, samples)]
    return max(splits, key=_rank, default=None)


def _rank(official: Official) -> tuple[int, int, int]:
    """Order: most labeled samples, fewest unlabeled, most splits."""
    count = _labeled(official.samples)
    return count, count - len(official.samples), len({sample.split for sample in official.samples})


def _labeled(samples: Sequence[Sample]) -> int:
    return sum(bool(sample.masks) for sample in samples)


def _by_lists(storage: FileStore, files: Sequence[str], samples: Sequence[Sample]) -> Iterator[Official]:
    groups: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for path in files:
        folder, _, name = path.rpartition("/")
        stem = PurePosixPath(name).stem
        for before, word, after in split_words(stem):
            groups[folder, before, after].setdefault(split_name(word), path)
        if stem.lower() in {"trainval", "trainvaltest"}:
            groups[folder, "", ""].setdefault("trainval", path)
    for lists in groups.values():
        whole = lists.pop("trainval", None)
        if whole is not None and "train" not in lists and "validation" not in lists:
            lists["train"] = whole  # Oxford pets: trainval.txt and test.txt
        official = _apply_lists(storage, lists, samples)
        if official is not None:
            yield official


def _apply_lists(storage: FileStore, lists: Mapping[str, str], samples: Sequence[Sample]) -> Official | None:
    """Apply lists; None where they do not name the samples."""
    try:
        lines = {split: _lines(storage, path) for split, path in lists.items()}
        names = Names(samples)
        for split, some in lines.items():
            tried = spread(some, 200)
            matched = sum(names.find_line(line, lists[split]) is not None for line in tried)
            if not tried or matched < ENOUGH * len(tried):
                return None
        unlisted = "exclude" if "train" in lines else "train"
        result = split_by_lists(list(samples), lines, unlisted, lists)  # type: ignore[arg-type]
    except (DataError, OSError):
        return None
    if len({sample.split for sample in result}) < 2 and "train" in lines:
        return None  # one list of everything splits nothing
    ordered = {split: lists[split] for split in ("train", "validation", "test") if split in lists}
    used = {sample.image for sample in result}
    left_out = _labeled([sample for sample in samples if sample.image and sample.image not in used])
    return Official(result, left_out, ordered, unlisted)


def _lines(storage: FileStore, path: str) -> list[str]:
    if storage.size(path) > LARGEST:
        raise DataError(f"{path} is too large for a list.")
    return [line for line in read_text(storage, path).splitlines() if line.strip()]


def _by_table(storage: FileStore, files: Sequence[str], samples: Sequence[Sample]) -> Iterator[Official]:
    for path in files:
        if not path.lower().endswith((".csv", ".tsv")):
            continue
        try:
            lines = _lines(storage, path)
            table = _find_columns(path, lines, samples)
            result = apply_table(list(samples), "\n".join(lines), table, "exclude") if table is not None else []
        except (DataError, OSError):
            continue
        if len({sample.split for sample in result}) > 1:
            yield Official(result, max(0, _labeled(samples) - _labeled(result)), table=table)


def _find_columns(path: str, lines: Sequence[str], samples: Sequence[Sample]) -> TableParameters | None:
    """Find the columns of a table that name the sample and its split."""
    separator = "\t" if path.lower().endswith(".tsv") else ";" if lines and ";" in lines[0] else ","
    rows = list(csv.DictReader(lines, delimiter=separator))[:200]
    columns = [column for column in (rows[0] if rows else {}) if column]
    splits = [
        column
        for column in columns
        if column.strip().lower() in SPLIT_COLUMNS
        and all((row[column] or "").strip().lower() in {*SYNONYMS, ""} for row in rows)
    ]
    if not splits:
        return None
    names = Names(samples)
    for column in columns:
        matched = sum(names.find(row[column] or "", path) is not None for row in rows if row[column])
        if column != splits[0] and matched >= ENOUGH * len(rows):
            return TableParameters(file=path, id=column.strip(), split=splits[0].strip())
    return None
