"""Official splits, and groups, that the publisher says in lists of names or in a table."""

from __future__ import annotations

import csv
import difflib
import io
import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.layout.layout import Sample, compile_glob, some
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.source import TableParameters

logger = logging.getLogger(__name__)

Unlisted = Literal["exclude", "train"]

SYNONYMS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SHOWN = 3  # names that a message shows
SEVERAL = -1  # in place of a position


class Names:
    """Finds samples by what lists and tables call them: by their ids, or by the names of their files.

    The ending of a name is left out of account, and so are its folders, as lists carry the paths of other machines; but
    folders that belong to an id must be in the name, unless it has none at all and only one sample can be meant.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._ids: dict[str, int] = {}
        self._ends: dict[str, int] = {}  # by the last component of ids that have folders
        self._files: dict[str, int] = {}  # by paths without their endings, whole and cut
        for at, sample in enumerate(samples):
            _enter(self._ids, sample.id, at)
            folders, _, end = sample.id.rpartition("/")
            if folders:
                _enter(self._ends, end, at)
            path = _stem(_normal(sample.path))
            own = f"{folders}/{_last(path)}" if folders else _last(path)
            for text in {path, "/".join(path.split("/")[-2:]), own}:
                _enter(self._files, text, at)
        self._depths = sorted({name.count("/") for name in self._ids}, reverse=True)

    def find(self, name: str, where: str) -> int | None:
        """Return the position of the sample that a name (an id or a path) in a list or table means; None for none.

        Raises:
            DataError: it can mean several.
        """
        path = _normal(name.replace("\\", "/"))
        *folders, end = path.split("/")
        index = self._by_id(folders, end)
        if index is None and not folders:
            index = _first(self._ends, (end, _stem(end)))
        if index is None:
            return self._by_file(folders, end)
        if index == SEVERAL:
            raise DataError(f"{name!r} in {where} can mean several samples. Write the whole id, with its folders.")
        return index

    def find_line(self, line: str, where: str) -> int | None:
        """Find the sample that a line of a list names: by the whole line, else by its first word."""
        line = line.strip()
        whole = _normal(line)
        is_name = any(text in texts for text in (whole, _stem(whole)) for texts in (self._ids, self._files))
        # In "images/my cell.png" the line as a whole is a path; in "images/1.png masks/1.png" it is none.
        index = self.find(line, where) if is_name or not re.search(r"[\s,]", line.rpartition("/")[0]) else None
        return index if index is not None else self.find(first_word(line), where)

    def _by_file(self, folders: list[str], end: str) -> int | None:
        """Find a file whose path ends like the name, or of which the name is a path on another machine."""
        for start in range(len(folders) + 1):
            text = "/".join([*folders[start:], end])
            index = _first(self._files, (text, _stem(text)))
            if index not in {None, SEVERAL}:
                return index
        return None

    def _by_id(self, folders: list[str], end: str) -> int | None:
        """Find an id among the name's last component and as many folders in a row as ids have."""
        for depth in self._depths:
            starts = range(len(folders) - depth, -1, -1) if depth else [0]
            for start in starts:
                text = "/".join([*folders[start : start + depth], end])
                index = _first(self._ids, (text, _stem(text)))
                if index is not None:
                    return index
        return None


def find_file(paths: Iterable[str], glob: str, key: str, where: str) -> str:
    """Find the one file that a glob (a parameter called ``key``) names.

    Raises:
        DataError: no file matches, or several do.
    """
    paths = list(paths)
    pattern = compile_glob(glob)
    matches = [path for path in paths if pattern.fullmatch(path)]
    if not matches:
        raise DataError(f"No file in {where} matches {key} {glob!r}. {_near(glob, paths)}")
    if len(matches) > 1:
        raise DataError(f"{key} {glob!r} matches several files in {where}: {some(matches)}. Make it match one.")
    return matches[0]


def read_text(storage: FileStore, path: str) -> str:
    """Read a text file of the data set, in UTF-8 or in what Windows calls Unicode (UTF-16 with a byte order mark).

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        content = storage.read(path)
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} in {storage} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8: save it as UTF-8.") from None
    if "\0" in text:
        raise DataError(f"{path} is no text file.")
    return text


def first_word(line: str) -> str:
    """Return what is before the first space, tab or comma; a word in quotes may hold them."""
    match = re.match(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s,]*))""", line)
    return next((word for word in match.groups() if word is not None), "") if match else ""


def split_by_lists(
    samples: list[Sample], lists: Mapping[str, Sequence[str]], unlisted: Unlisted, where: Mapping[str, str]
) -> list[Sample]:
    """Return the samples with the splits whose lists name them.

    Args:
        samples: without a split.
        lists: by split, lines that name a sample each; blank ones and those that begin with ``#`` are skipped.
        unlisted: what becomes of samples on no list.
        where: what to call each list in a message, by split.

    Raises:
        DataError: none of the names on a list is there, one is ambiguous, or a sample is on two lists.
    """
    names = Names(samples)
    splits: dict[int, str] = {}
    for split, lines in lists.items():
        missing, listed = [], 0
        for line in filter(str.strip, lines):
            at = names.find_line(line, where[split])
            if at is None:
                if not line.lstrip().startswith("#"):
                    missing.append(first_word(line))
                continue
            listed += 1
            if splits.setdefault(at, split) != split:
                raise DataError(
                    f"{samples[at].path} is on two lists: {where[splits[at]]} and {where[split]}. Take it off one."
                )
        _report_missing(missing, listed, samples, where[split])
    return _with_splits(samples, splits, unlisted, "on no list")


def apply_table(samples: list[Sample], text: str, table: TableParameters, unlisted: Unlisted) -> list[Sample]:
    """Return the samples with the splits and groups that a table says.

    Args:
        samples: without a split (where the table has one) or a group.
        text: CSV; with tabs, if the table's file is a TSV. Every cell is read as text.
        table: which columns say what.
        unlisted: what becomes of samples without a split in the table.

    Raises:
        DataError: a column is missing, a value is unknown, none of the names is there, or a sample has two values.
    """
    rows = _rows(text, table)
    names = Names(samples)
    entries: dict[int, tuple[str, str]] = {}
    missing = []
    for row in rows:
        name = row[table.id]
        at = names.find(name, table.file)
        if at is None:
            missing.append(name)
            continue
        values = (row[table.split] if table.split else "", row[table.group] if table.group else "")
        if entries.setdefault(at, values) != values:
            raise DataError(f"{name!r} stands twice in {table.file}, with different values: remove one of the rows.")
    _report_missing(missing, len(entries), samples, table.file)
    if table.group:
        samples = _with_groups(samples, {at: group for at, (_, group) in entries.items() if group}, table)
    if table.split:
        meaning = _meaning([row[table.split] for row in rows], table)
        splits = {at: meaning[split] for at, (split, _) in entries.items() if split}
        samples = _with_splits(samples, splits, unlisted, f"without a split in {table.file}")
    return samples


def _with_splits(samples: list[Sample], splits: Mapping[int, str], unlisted: Unlisted, state: str) -> list[Sample]:
    count = len(samples) - len(splits)
    if count:
        logger.info("%d samples %s: %s", count, state, "left out" if unlisted == "exclude" else "used for training")
    rest = None if unlisted == "exclude" else "train"
    placed = ((sample, splits.get(at, rest)) for at, sample in enumerate(samples))
    return [replace(sample, split=split) for sample, split in placed if split is not None]


def _with_groups(samples: list[Sample], groups: Mapping[int, str], table: TableParameters) -> list[Sample]:
    """Set the groups; a sample without one gets a group of its own."""
    alone = [sample.id for at, sample in enumerate(samples) if at not in groups]
    if alone:
        logger.warning("%d samples have no group in %s, so each is its own: %s", len(alone), table.file, some(alone))
    used = set(groups.values())
    result = []
    for at, sample in enumerate(samples):
        group = groups.get(at)
        if group is None:
            group = sample.id if sample.split is None else f"{sample.split}-{sample.id}"
            while group in used:
                group += "'"
            used.add(group)
        result.append(replace(sample, group=group))
    return result


def _rows(text: str, table: TableParameters) -> list[dict[str, str]]:
    """Read a table as text; cells are stripped, and those that a short row lacks are empty."""
    header = text.partition("\n")[0]
    separator = "\t" if table.file.lower().endswith((".tsv", ".tab")) else ","
    if separator not in header and ";" in header:  # as spreadsheets write CSV where the comma is for decimals
        separator = ";"
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        lines = [[cell.strip() for cell in line] for line in reader]
    except csv.Error as error:
        raise DataError(f"{table.file} is no table: {error}.") from error
    lines = [line for line in lines if any(line)]
    columns = lines[0] if lines else []
    for key, column in (("id", table.id), ("split", table.split), ("group", table.group)):
        if column is not None and column not in columns:
            near = difflib.get_close_matches(column, columns, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"{table.file} has no column {column!r} (source.split_table.{key}). "
                f"Columns there: {', '.join(columns)}.{hint}"
            )
    padding = [""] * len(columns)
    return [dict(zip(columns, line + padding, strict=False)) for line in lines[1:]]


def _meaning(values: Iterable[str], table: TableParameters) -> dict[str, str]:
    """Return the split that each value of the split column means."""
    present = sorted(set(values) - {""})
    declared = {value: str(split) for split, value in table.splits.items()}
    meaning = {}
    for value in present:
        split = declared.get(value) if declared else SYNONYMS.get(value.lower())
        if split is None:
            raise DataError(
                f"The column {table.split!r} of {table.file} holds {value!r}, which names no split. Values there: "
                f"{some(present, 10)}. Declare their meaning: "
                "source.split_table.splits: {train: ..., validation: ..., test: ...}."
            )
        meaning[value] = split
    return meaning


def _report_missing(missing: list[str], matched: int, samples: Sequence[Sample], where: str) -> None:
    if not matched:
        ids = some([sample.id for sample in samples], SHOWN)
        names = f"none of its names is there. It names {some(missing, SHOWN)}" if missing else "it names nothing"
        raise DataError(f"{where} fits no sample: {names}. The ids of the samples: {ids}.")
    if missing:
        logger.warning("%d names in %s fit no sample: %s", len(missing), where, some(missing, SHOWN))


def _near(glob: str, paths: list[str]) -> str:
    """Return files that may have been meant: of the same name, else of the same extension, the most similar first."""
    last, ending = _last(glob).lower(), _last(glob).lower().rpartition(".")[2]
    same = [path for path in paths if _last(path).lower() == last]
    alike = same or [path for path in paths if path.lower().endswith(f".{ending}")][:1000]
    near = difflib.get_close_matches(glob, alike, n=SHOWN, cutoff=0.0)
    if near:
        return f"Files like it: {', '.join(near)}."
    return f"Files there: {some(paths)}." if paths else "There is no file at all."


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    """Return a path without its extension, but for a name that is nothing else."""
    return re.sub(r"(?<=[^/])\.[A-Za-z0-9]{1,8}$", "", path)


def _enter(positions: dict[str, int], text: str, at: int) -> None:
    if positions.setdefault(text, at) != at:
        positions[text] = SEVERAL


def _first(positions: Mapping[str, int], texts: Iterable[str]) -> int | None:
    return next((positions[text] for text in texts if text in positions), None)
