"""The layout language: globs with placeholders that find images, masks and regions of interest, and pair them.

A glob is a path relative to the root, in which

* ``{id}`` stands for the sample's name: one or more characters of one path component, as many as possible. Directly
  after ``**/`` it takes the folders in with it, so that ``images/**/{id}.png`` tells ``p1/001`` from ``p2/001``.
* ``{folder}`` stands for the name of a folder that belongs to the id: in ``{folder}/images/{id}.png`` the id of
  ``p1/images/001.png`` is ``p1/001``.
* ``{split}`` stands for one of the declared values, and for nothing else.
* ``{class}``, for masks that hold one class each, stands for the text that says which.
* ``#{page}`` at the end makes every page of a file a sample, named after its number: ``007``, or ``<id>-007``.
* ``*`` is any text within a component, ``?`` one character, ``**`` any number of folders. All else is literal.

A name that stands twice in one glob means the same text twice: ``{id}/images/{id}.png``.
A file that several globs match belongs to the one whose id is shorter, as that one says more about its name: next
to ``{id}_mask.png``, ``{id}.png`` does not take masks for images. Where the ids are the same, the one with more literal
text has it. A glob for masks with neither ``{id}`` nor ``#{page}`` finds annotation files, which hold many images.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import pandas as pd

from unet_segmentation.data.io.filesystem import is_data, split_page
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.source import SourceParameters

logger = logging.getLogger(__name__)

PAGE = "#{page}"  # ends a glob whose files hold many images
PLACEHOLDERS = ("id", "folder", "split", "class")

_PLACEHOLDER = "|".join(f"\\{{{name}\\}}" for name in PLACEHOLDERS)
COLUMNS = ["sample_id", "image", "masks", "roi", "group", "split"]
SHOWN = 5  # paths that a message names

Role = Literal["image", "mask", "roi"]
Key = tuple[str | None, str]  # a sample's split and id


def compile_glob(glob: str, splits: Collection[str] = ()) -> re.Pattern[str]:
    """Translate a glob into a regular expression for whole paths, with a group for each placeholder but `#{page}`.

    ``{split}`` stands for one of the splits.
    """
    glob = "/".join(component for component in glob.removesuffix(PAGE).split("/") if component not in {"", "."})
    end = ""
    if glob == "**" or glob.endswith("/**"):  # all that lies in the folder
        glob, end = glob.removesuffix("**"), ".+"
    meanings = dict.fromkeys(PLACEHOLDERS, "[^/]+") | {"split": "|".join(map(re.escape, splits))}
    seen: set[str] = set()
    pattern = ""
    for token in re.split(rf"((?<![^/])\*\*/(?:\{{id\}})?|{_PLACEHOLDER}|\*+|\?)", glob):
        text = token.removeprefix("**/")
        if token == "**/{id}" and "id" not in seen:  # the folders belong to the id
            meanings["id"] = "(?:[^/]+/)*[^/]+"
        elif text != token:
            pattern += "(?:[^/]+/)*"
        name = text[1:-1]
        if re.fullmatch(_PLACEHOLDER, text):
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{meanings[name]})"
            seen.add(name)
        elif text == "?":
            pattern += "[^/]"
        elif text and not text.strip("*"):
            pattern += "[^/]*"
        else:
            pattern += re.escape(text)
    return re.compile(pattern + end, re.DOTALL)


def literal_text(glob: str) -> str:
    """Return what is neither placeholder nor wildcard in a glob: the more of it, the more specific the glob."""
    return re.sub(f"{_PLACEHOLDER}|[*?]", "", glob.removesuffix(PAGE))


@dataclass(frozen=True, slots=True)
class Match:
    """The role of a path."""

    role: Role
    id: str  # of the sample; of a file with pages, the beginning of their ids; empty for an annotation file
    split: str | None = None  # the project's name for it; None where the path does not tell it
    label: str | None = None  # what ``{class}`` stands for
    paged: bool = False  # every page of the file is a sample


@dataclass(slots=True)
class Sample:
    """An image with what belongs to it; or, with an empty ``image``, masks that have none."""

    id: str  # as the globs matched it, with ``/``
    split: str | None  # the project's name for it; None where there is no official one
    image: str  # path, relative to the root; ``#3`` at its end is a page
    masks: list[str]
    roi: str = ""
    group: str | None = None  # of samples that must not be split apart

    @property
    def path(self) -> str:
        """Path for messages."""
        return self.image or self.masks[0]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which files are images, masks and regions of interest, and of which sample."""

    images: str  # globs
    masks: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)  # the values of ``{split}``, by the project's name for it
    group: str | None = None  # pattern with one group, searched in the sample's id
    roi: str | None = None
    tables: Sequence[str] = ()  # globs of lists and tables of splits and groups: files that are used, but no samples

    @classmethod
    def of(cls, source: SourceParameters) -> Layout:
        """Build the layout of a source."""
        tables = [names for names in source.split_lists.values() if isinstance(names, str)]
        if source.split_table is not None:
            tables.append(source.split_table.file)
        splits = {str(name): value for name, value in source.splits.items()}
        return cls(source.images, source.masks, splits, source.group, source.roi, tables)

    @cached_property
    def _split_names(self) -> dict[str, str]:
        return {value: name for name, value in self.splits.items()}

    @cached_property
    def _globs(self) -> list[tuple[Role, re.Pattern[str], int, bool]]:
        """Roles and patterns, how much literal text each has, and whether its files have pages."""
        globs: list[tuple[Role, str | None]] = [("image", self.images), ("mask", self.masks), ("roi", self.roi)]
        return [
            (role, compile_glob(glob, self._split_names), len(literal_text(glob)), glob.endswith(PAGE))
            for role, glob in globs
            if glob is not None
        ]

    @cached_property
    def _table_globs(self) -> list[re.Pattern[str]]:
        return [compile_glob(glob) for glob in self.tables]

    def match(self, path: str) -> Match | None:
        """Return the role of a path without a page; None for a file that is no image, mask or region of interest."""
        best, rank = None, (0, 0)
        for role, pattern, literals, paged in self._globs:
            matched = pattern.fullmatch(path)
            if matched is None:
                continue
            parts = matched.groupdict()
            name = "/".join(parts[part] for part in ("folder", "id") if part in parts)
            # Of two globs that find the same id, the one with more literal text is the more definite.
            if best is None or (len(name), -literals) < rank:
                split = self._split_names.get(parts.get("split", ""))
                # The same name can be written in two ways: macOS takes accents off their letters.
                best = Match(role, unicodedata.normalize("NFC", name), split, parts.get("class"), paged)
                rank = (len(name), -literals)
        return best if best is not None and is_data(path) else None

    def uses(self, path: str) -> bool:
        """Return whether a path is needed: an image, mask, annotation file, region of interest, list or table."""
        if self.match(path) is not None:
            return True
        return any(pattern.fullmatch(path) for pattern in self._table_globs) and is_data(path)

    def label(self, mask: str) -> str | None:
        """Return which class a mask of the index shows: the text of ``{class}``; None where the layout has none."""
        if self.masks is None or "{class}" not in self.masks:
            return None
        match = self.match(split_page(mask)[0] if self.masks.endswith(PAGE) else mask)
        return match.label if match is not None else None


def find_samples(
    paths: Iterable[str], layout: Layout, where: str, pages: Callable[[str], int] | None = None
) -> list[Sample]:
    """Pair images, masks and regions of interest.

    Args:
        paths: files relative to the root, with forward slashes.
        layout: which of them are what.
        where: what to call the root in a message.
        pages: returns how many pages a file has; needed where the layout has ``#{page}``.

    Returns:
        The samples, ordered by the image's path. Masks that have no image come last, with an empty ``image``.

    Raises:
        DataError: a glob matches nothing, no image has a mask, two images claim the same id, or a name cannot be used.
    """
    paths = list(paths)
    matched: dict[Role, dict[Key, list[str]]] = {"image": {}, "mask": {}, "roi": {}}
    annotations: dict[str | None, list[str]] = {}
    for path in paths:
        match = layout.match(path)
        if match is None:
            continue
        _check_name(path, match, where)
        if not match.id and not match.paged:
            annotations.setdefault(match.split, []).append(path)
            continue
        for name, file in _files(path, match, pages):
            files = matched[match.role].setdefault((match.split, name), [])
            if files and match.role != "mask":
                kind, glob = ("images", f"images {layout.images!r}")
                if match.role == "roi":
                    kind, glob = ("regions of interest", f"roi {layout.roi!r}")
                raise DataError(
                    f"Two {kind} have the same id {name!r}: {files[0]} and {file} (in {where}, by source.{glob}). Make "
                    "the glob narrower, or write **/{id}, or {folder} for the folder that tells them apart, so that it "
                    "belongs to the id."
                )
            files.append(file)
    images, masks, rois = matched["image"], matched["mask"], matched["roi"]
    _check_matches(paths, images, layout, where)
    if layout.masks is not None and not annotations:
        _check_partners("mask", paths, images, masks, layout, where)
    if layout.roi is not None:
        _check_partners("roi", paths, images, rois, layout, where)
    return _pair(matched, annotations, layout)


def samples_table(samples: Iterable[Sample], group: str | None, where: str) -> pd.DataFrame:
    """Build a table of samples, with unique names.

    Args:
        samples: of `find_samples`.
        group: pattern with one group, searched in the ids of samples without a group.
        where: what to call the root in a message.

    Returns:
        `COLUMNS`: ``sample_id`` is unique and usable as a file name (``__`` for ``/``, and the split before it where
        ids of different splits are the same); ``group`` is the sample's own name where nothing says one.

    Raises:
        DataError: two samples would share a name, or the pattern finds nothing in an id.
    """
    samples = list(samples)
    collide = len({sample.id for sample in samples}) < len(samples)
    seen: dict[str, Sample] = {}
    rows = []
    for sample in samples:
        name = sample.id.replace("/", "__")
        if collide and sample.split is not None:
            name = f"{sample.split}-{name}"
        other = seen.setdefault(name, sample)
        if other is not sample:
            raise DataError(f"{other.path} and {sample.path} (in {where}) would share the name {name!r}: rename one.")
        own_group = sample.group or (name if group is None else _search_group(group, sample.id))
        rows.append((name, sample.image, sample.masks, sample.roi, own_group, sample.split))
    return pd.DataFrame(rows, columns=COLUMNS)


def some(texts: list[str], shown: int = SHOWN) -> str:
    """List a few of many, spread over all of them, so that every folder may be among them."""
    step = max(1, len(texts) // shown)
    return ", ".join(texts[::step][:shown]) + (", ..." if len(texts) > shown else "")


def _files(path: str, match: Match, pages: Callable[[str], int] | None) -> Iterator[tuple[str, str]]:
    """Yield the ids and paths that a file stands for: its own, or one for each page."""
    if not match.paged:
        yield match.id, path
        return
    if pages is None:
        raise ValueError("a layout with #{page} needs to know how many pages a file has")
    before = f"{match.id}-" if match.id else ""
    for page in range(pages(path)):
        yield f"{before}{page:03d}", f"{path}#{page}"


def _pair(
    matched: Mapping[Role, Mapping[Key, list[str]]], annotations: Mapping[str | None, list[str]], layout: Layout
) -> list[Sample]:
    """Join by split and id, or by id alone where a glob does not tell the split."""
    masks, rois = matched["mask"], matched["roi"]
    samples, with_image = [], set()
    for (split, name), (image,) in matched["image"].items():
        masks_split = split if _tells_split(layout.masks) else None
        with_image.add((masks_split, name))
        own = sorted(masks.get((masks_split, name), [])) or sorted(annotations.get(masks_split, []))
        roi = rois.get((split if _tells_split(layout.roi) else None, name), [""])
        samples.append(Sample(name, split, image, own, roi[0]))
    for (split, name), paths in masks.items():
        if (split, name) not in with_image:
            samples.append(Sample(name, split, "", sorted(paths)))
    return sorted(samples, key=_order)


def _order(sample: Sample) -> tuple[bool, str, int]:
    """Order by image and page; masks without an image come last."""
    file, page = split_page(sample.path)
    return not sample.image, file, page or 0


def _tells_split(glob: str | None) -> bool:
    return glob is not None and "{split}" in glob


def _search_group(pattern: str, name: str) -> str:
    match = re.search(pattern, name)
    if match is None or match[1] is None:
        raise DataError(
            f"source.group {pattern!r} finds nothing in the id {name!r}. Every sample needs a group: widen it."
        )
    return match[1]


def _check_name(path: str, match: Match, where: str) -> None:
    """Refuse names that no table or path of the index could carry."""
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "backslashreplace").decode()
        raise DataError(f"The name of the file {shown} (in {where}) is not UTF-8: rename it.") from None
    if not match.paged and split_page(path)[1] is not None:
        raise DataError(
            f"The name of {path} (in {where}) ends like the number of a page. Rename it; or, if its pages are samples, "
            "end the glob with #{page}."
        )


def _check_matches(paths: list[str], images: Mapping[Key, list[str]], layout: Layout, where: str) -> None:
    """Check that there are images, and of every declared split."""
    if not images:
        raise DataError(f"No image in {where} matches source.images {layout.images!r}. {_there(paths)}")
    splits = {split for split, _ in images}
    for name, value in layout.splits.items():
        if name not in splits:
            raise DataError(
                f"No image in {where} matches source.images {layout.images!r} with {{split}} = {value!r} "
                f"(source.splits.{name}). {_there(paths)}"
            )


def _check_partners(
    role: Literal["mask", "roi"],
    paths: list[str],
    images: Mapping[Key, list[str]],
    partners: Mapping[Key, list[str]],
    layout: Layout,
    where: str,
) -> None:
    """Check that images and masks (or regions of interest) have common ids."""
    key, glob = ("masks", layout.masks) if role == "mask" else ("roi", layout.roi)
    noun = "mask" if role == "mask" else "region of interest"
    if not partners:
        raise DataError(f"No {noun} in {where} matches source.{key} {glob!r}. {_there(paths)}")
    if not _tells_split(glob):
        times = Counter(name for _, name in images)
        twice = next((name for name, count in times.items() if count > 1), None)
        if twice is not None:
            raise DataError(
                f"The id {twice!r} stands in several splits, and source.{key} {glob!r} does not tell whose {noun} it "
                f"finds (in {where}). Put {{split}} into source.{key}."
            )
    image_ids, partner_ids = [name for _, name in images], [name for _, name in partners]
    alone = set(partner_ids).difference(image_ids)
    if len(alone) == len(set(partner_ids)):
        raise DataError(
            f"No image in {where} has a {noun}: the ids of the images ({some(image_ids)}) are not those of "
            f"source.{key} ({some(partner_ids)}). {{id}} and {{folder}} must stand for the same text in source.images "
            f"{layout.images!r} and source.{key} {glob!r}."
        )
    if alone and role == "roi":  # a mask without an image is a row, which the inspection reports
        logger.warning("%d files of source.roi belong to no image: %s", len(alone), some(sorted(alone)))


def _there(paths: list[str]) -> str:
    return f"Files there: {some(paths)}." if paths else "There is no file at all."
