"""The layout language: globs with ``{id}`` and ``{split}`` that find images and masks and pair them.

A glob is a path relative to the root, in which

* ``{id}`` stands for the sample's name: one or more characters of one path component, as many as possible. Directly
  after ``**/`` it takes the folders in with it, so that ``images/**/{id}.png`` tells ``p1/001`` from ``p2/001``.
* ``{split}`` stands for one of the declared values, and for nothing else.
* ``*`` is any text within a component, ``?`` one character, ``**`` any number of folders. All else is literal.

A name that stands twice in one glob means the same text twice: ``{id}/images/{id}.png``.
A file that both globs match belongs to the one whose ``{id}`` is shorter, as that one says more about its name:
beside ``{id}_mask.png``, ``{id}.png`` does not take masks for images.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from unet_segmentation.errors import DataError
from unet_segmentation.parameters.source import SourceParameters

COLUMNS = ["sample_id", "image", "masks", "group", "split"]
NOT_DATA = {"__MACOSX", "Thumbs.db", "desktop.ini"}
SHOWN = 5  # paths that a message names

Role = Literal["image", "mask"]
Key = tuple[str | None, str]  # a sample's split and id


@dataclass(frozen=True)
class Match:
    """What a path is: the image or a mask of a sample."""

    role: Role
    id: str
    split: str | None


class Layout:
    """Which files are images and which are masks, and of which sample.

    Args:
        images: glob of the images.
        masks: glob of the masks; None where nothing is labelled.
        splits: the values of ``{split}``, by the project's name for the split.
        group: pattern with one group, searched in the sample's id.
    """

    def __init__(
        self, images: str, masks: str | None = None, splits: Mapping[str, str] | None = None, group: str | None = None
    ) -> None:
        self.images, self.masks, self.splits, self.group = images, masks, dict(splits or {}), group
        self._split_names = {value: name for name, value in self.splits.items()}
        globs: dict[Role, str] = {"image": images} if masks is None else {"image": images, "mask": masks}
        self._globs = [
            (role, _compile(glob, list(self._split_names)), len(_literal(glob))) for role, glob in globs.items()
        ]

    @classmethod
    def of(cls, source: SourceParameters) -> Layout:
        """Take the layout out of a source's parameters."""
        return cls(source.images, source.masks, source.splits, source.group)  # type: ignore[arg-type]

    def match(self, path: str) -> Match | None:
        """Say what a path is; None for a file that the layout does not use.

        Args:
            path: relative to the root, with forward slashes.
        """
        best, rank = None, (0, 0)
        for role, pattern, literals in self._globs:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            parts = found.groupdict()
            # Of two globs that find the same id, the one with more literal text is the more definite.
            if best is None or (len(parts["id"]), -literals) < rank:
                best = Match(role, parts["id"], self._split_names.get(parts.get("split", "")))
                rank = (len(parts["id"]), -literals)
        return best if best is not None and is_data(path) else None

    def uses(self, path: str) -> bool:
        """Say whether a path is an image or a mask."""
        return self.match(path) is not None


def is_data(path: str) -> bool:
    """Leave out what file managers leave behind: hidden files, AppleDouble twins (``._x``), ``__MACOSX``."""
    return not any(part.startswith(".") or part in NOT_DATA for part in path.split("/"))


def walk(root: Path) -> Iterator[str]:
    """Yield the files under a folder as sorted relative paths with forward slashes, hidden ones left out.

    Links to folders are followed, but never in a circle.
    """
    yield from _walk(root, "", ())


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in ordered:
        if not is_data(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
        else:
            yield f"{prefix}{entry.name}"


def census(root: Path) -> dict[str, int]:
    """Count the files under a folder, and their bytes: enough to see that none was lost or cut."""
    sizes = [(root / path).lstat().st_size for path in walk(root)]
    return {"files": len(sizes), "bytes": sum(sizes)}


def index_samples(paths: Iterable[str], layout: Layout, where: str) -> pd.DataFrame:
    """Pair images and masks.

    Args:
        paths: files relative to the root, with forward slashes.
        layout: which of them are images and masks.
        where: what to call the root in a message.

    Returns:
        One row per sample, ordered by the image's path: ``sample_id`` (unique, usable as a file name), ``image``,
        ``masks`` (list, empty where there is none), ``group``, ``split`` (None where there is no official one).
        Masks that have no image come last, with an empty ``image``.

    Raises:
        DataError: a glob matches nothing, no image has a mask, or two images claim the same id.
    """
    paths = list(paths)
    images: dict[Key, str] = {}
    masks: dict[Key, list[str]] = defaultdict(list)
    for path in paths:
        match = layout.match(path)
        if match is None:
            continue
        key = (match.split, match.id)
        if match.role == "mask":
            masks[key].append(path)
        elif key in images:
            raise DataError(
                f"Two images have the same id {match.id!r}: {images[key]} and {path} (in {where}, by source.images "
                f"{layout.images!r}). Make the glob narrower, or write **/{{id}} so that the folders belong to the id."
            )
        else:
            images[key] = path
    _check_matches(paths, images, masks, layout, where)
    rows = _pair(images, masks, layout, where)
    return pd.DataFrame(_named(rows, layout, where), columns=COLUMNS)


def _pair(
    images: Mapping[Key, str], masks: Mapping[Key, list[str]], layout: Layout, where: str
) -> list[tuple[Key, str, list[str]]]:
    """Join images and masks by split and id, or by id alone where the masks' paths do not tell the split."""
    masks_split = layout.masks is not None and "{split}" in layout.masks
    if masks and not masks_split:
        times = Counter(name for _, name in images)
        twice = next((name for name, count in times.items() if count > 1), None)
        if twice is not None:
            raise DataError(
                f"The id {twice!r} stands in several splits, and source.masks {layout.masks!r} does not tell whose "
                f"mask it finds (in {where}). Put {{split}} into source.masks."
            )
    rows = []
    used = set()
    for key, image in sorted(images.items(), key=lambda item: item[1]):
        mask_key = key if masks_split else (None, key[1])
        used.add(mask_key)
        rows.append((key, image, sorted(masks.get(mask_key, []))))
    orphans = ((key, "", sorted(found)) for key, found in masks.items() if key not in used)
    return rows + sorted(orphans, key=lambda row: row[2])


def _named(rows: list[tuple[Key, str, list[str]]], layout: Layout, where: str) -> Iterator[dict[str, object]]:
    """Give each row its name: the id, with the split before it where ids of different splits are the same."""
    collide = any(count > 1 for count in Counter(name for (_, name), _, _ in rows).values())
    seen: dict[str, str] = {}
    for (split, name), image, masks in rows:
        sample_id = name.replace("/", "__")
        if collide and split is not None:
            sample_id = f"{split}-{sample_id}"
        path = image or masks[0]
        if sample_id in seen:
            raise DataError(
                f"{seen[sample_id]} and {path} (in {where}) would share the name {sample_id!r}: rename one."
            )
        seen[sample_id] = path
        group = sample_id if layout.group is None else _group(layout.group, name)
        yield {"sample_id": sample_id, "image": image, "masks": masks, "group": group, "split": split}


def _group(pattern: str, name: str) -> str:
    match = re.search(pattern, name)
    if match is None or match.group(1) is None:
        raise DataError(
            f"source.group {pattern!r} finds nothing in the id {name!r}. Every sample needs a group: widen the pattern."
        )
    return match.group(1)


def _check_matches(
    paths: list[str], images: Mapping[Key, str], masks: Mapping[Key, list[str]], layout: Layout, where: str
) -> None:
    there = f"Files there: {_some(paths)}." if paths else "There is no file at all."
    if not images:
        raise DataError(f"No image in {where} matches source.images {layout.images!r}. {there}")
    if layout.masks is not None and not masks:
        raise DataError(f"No mask in {where} matches source.masks {layout.masks!r}. {there}")
    for name, value in layout.splits.items():
        if not any(split == name for split, _ in images):
            raise DataError(
                f"No image in {where} matches source.images {layout.images!r} with {{split}} = {value!r} "
                f"(source.splits.{name}). {there}"
            )
    image_ids, mask_ids = [name for _, name in images], [name for _, name in masks]
    if masks and set(image_ids).isdisjoint(mask_ids):
        raise DataError(
            f"No image in {where} has a mask: the ids of the images ({_some(image_ids)}) are not those of the masks "
            f"({_some(mask_ids)}). {{id}} must stand for the same text in source.images {layout.images!r} and "
            f"source.masks {layout.masks!r}."
        )


def _some(texts: list[str]) -> str:
    """Name a few of many, spread over all of them, so that every folder has a chance to be seen."""
    step = max(1, len(texts) // SHOWN)
    more = ", ..." if len(texts) > SHOWN else ""
    return ", ".join(texts[::step][:SHOWN]) + more


def _components(glob: str) -> list[str]:
    return [component for component in glob.split("/") if component not in {"", "."}]


def _literal(glob: str) -> str:
    return re.sub(r"\{id\}|\{split\}|[*?]", "", glob)


def _compile(glob: str, splits: list[str]) -> re.Pattern[str]:
    """Translate a glob into a regular expression for whole paths."""
    components = _components(glob)
    seen: set[str] = set()
    parts = []
    folders_in_id = False
    for position, component in enumerate(components):
        last = position == len(components) - 1
        if component == "**" and not last:
            folders_in_id = components[position + 1].startswith("{id}") and "id" not in seen
            parts.append("" if folders_in_id else "(?:[^/]+/)*")
            continue
        parts.append(".+" if component == "**" else _component(component, splits, seen, folders_in_id))
        parts.append("" if last else "/")
        folders_in_id = False
    return re.compile("".join(parts), re.DOTALL)


def _component(component: str, splits: list[str], seen: set[str], folders_in_id: bool) -> str:
    translated = ""
    for token in re.split(r"(\{id\}|\{split\}|\*+|\?)", component):
        if token in {"{id}", "{split}"}:
            name = token[1:-1]
            if name in seen:
                translated += f"(?P={name})"
            elif name == "split":
                translated += f"(?P<split>{'|'.join(map(re.escape, splits))})"
            else:
                translated += f"(?P<id>{'(?:[^/]+/)*' if folders_in_id else ''}[^/]+)"
            seen.add(name)
        elif token == "?":
            translated += "[^/]"
        elif token and not token.strip("*"):
            translated += "[^/]*"
        else:
            translated += re.escape(token)
    return translated
