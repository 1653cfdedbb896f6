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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from unet_segmentation.data.io.filesystem import is_data, split_page
from unet_segmentation.data.layout.glob_patterns import PAGE, compile_glob, literal_text
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.source import SourceParameters

logger = logging.getLogger(__name__)

COLUMNS = ["sample_id", "image", "masks", "roi", "group", "split"]
SHOWN = 5  # paths that a message names

Role = Literal["image", "mask", "roi"]
Key = tuple[str | None, str]  # a sample's split and id


@dataclass(frozen=True, slots=True)
class Match:
    """The role of a path.

    Attributes:
        role: image, mask or region of interest.
        id: of the sample, with the folders that belong to it. Of a file with pages, what the ids of all its pages have
            in common; that, and the id of an annotation file, may be empty.
        split: the project's name for the split; None where the path does not tell it.
        label: what ``{class}`` stands for.
        paged: every page of the file is a sample.
    """

    role: Role
    id: str
    split: str | None = None
    label: str | None = None
    paged: bool = False

    @property
    def holds_many(self) -> bool:
        """Return whether it is an annotation file, which belongs to many images."""
        return not self.id and not self.paged


@dataclass(slots=True)
class Sample:
    """An image with what belongs to it; or, with an empty ``image``, masks that have none.

    Attributes:
        id: as the globs matched it, with ``/``.
        split: the project's name for it; None where there is no official one.
        image: path, relative to the root; ``#3`` at its end is a page.
        masks: paths.
        roi: path of the region of interest; empty where there is none.
        group: of samples that must not be split apart; None where there is none.
    """

    id: str
    split: str | None
    image: str
    masks: list[str]
    roi: str = ""
    group: str | None = None

    @property
    def path(self) -> str:
        """Path for messages."""
        return self.image or self.masks[0]


class Layout:
    """Which files are images, masks and regions of interest, and of which sample.

    Args:
        images: glob of the images.
        masks: glob of the masks; None where nothing is labelled.
        splits: the values of ``{split}``, by the project's name for the split.
        group: pattern with one group, searched in the sample's id.
        roi: glob of the regions of interest.
        tables: globs of the lists and tables that say splits and groups: files that are used, but no samples.
    """

    def __init__(
        self,
        images: str,
        masks: str | None = None,
        splits: Mapping[str, str] | None = None,
        group: str | None = None,
        roi: str | None = None,
        tables: Iterable[str] = (),
    ) -> None:
        self.images, self.masks, self.splits, self.group, self.roi = images, masks, dict(splits or {}), group, roi
        self._split_names = {value: name for name, value in self.splits.items()}
        globs: list[tuple[Role, str | None]] = [("image", images), ("mask", masks), ("roi", roi)]
        self._globs = [
            (role, compile_glob(glob, self._split_names), len(literal_text(glob)), glob.endswith(PAGE))
            for role, glob in globs
            if glob is not None
        ]
        self._tables = [compile_glob(glob) for glob in tables]

    @classmethod
    def of(cls, source: SourceParameters) -> Layout:
        """Build the layout of a source."""
        tables = [names for names in source.split_lists.values() if isinstance(names, str)]
        if source.split_table is not None:
            tables.append(source.split_table.file)
        return cls(source.images, source.masks, source.splits, source.group, source.roi, tables)  # type: ignore[arg-type]

    def match(self, path: str) -> Match | None:
        """Return the role of a path; None for a file that is no image, mask or region of interest.

        Args:
            path: relative to the root, with forward slashes, without a page.
        """
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
        return best if best is not None and _is_data(path) else None

    def uses(self, path: str) -> bool:
        """Return whether a path is needed: an image, mask, annotation file, region of interest, list or table."""
        if self.match(path) is not None:
            return True
        return any(pattern.fullmatch(path) for pattern in self._tables) and _is_data(path)

    def label(self, mask: str) -> str | None:
        """Return which class a mask shows: the text of ``{class}``; None where the layout has none.

        Args:
            mask: a path of the index, with its page if it has one.
        """
        if self.masks is None or "{class}" not in self.masks:
            return None
        match = self.match(split_page(mask)[0] if self.masks.endswith(PAGE) else mask)
        return match.label if match is not None else None


def index_samples(
    paths: Iterable[str], layout: Layout, where: str, pages: Callable[[str], int] | None = None
) -> pd.DataFrame:
    """Pair the files and lay the samples out as a table: `find_samples`, then `samples_table`."""
    return samples_table(find_samples(paths, layout, where, pages), layout.group, where)


def find_samples(
    paths: Iterable[str], layout: Layout, where: str, pages: Callable[[str], int] | None = None
) -> list[Sample]:
    """Pair images, masks and regions of interest.

    Args:
        paths: files relative to the root, with forward slashes.
        layout: which of them are what.
        where: what to call the root in a message.
        pages: says of a path how many pages it has; needed where the layout has ``#{page}``.

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
        if match.holds_many:
            annotations.setdefault(match.split, []).append(path)
            continue
        for name, file in _files(path, match, pages):
            files = matched[match.role].setdefault((match.split, name), [])
            if files and match.role != "mask":
                raise DataError(_claimed_twice(match.role, name, files[0], file, layout, where))
            files.append(file)
    images, masks, rois = matched["image"], matched["mask"], matched["roi"]
    _check_matches(paths, images, layout, where)
    if layout.masks is not None and not annotations:
        _check_partners("mask", paths, images, masks, layout, where)
    if layout.roi is not None:
        _check_partners("roi", paths, images, rois, layout, where)
    return _paired(images, masks, rois, annotations, layout)


def samples_table(samples: Iterable[Sample], group: str | None, where: str) -> pd.DataFrame:
    """Build a table of samples, with unique names.

    Args:
        samples: of `find_samples`.
        group: pattern with one group, searched in the ids of samples without a group.
        where: what to call the root in a message.

    Returns:
        One row per sample: ``sample_id`` (unique, usable as a file name: ``__`` for ``/``, and the split before it
        where ids of different splits are the same), ``image``, ``masks`` (list, empty where there is none), ``roi``
        (empty where there is none), ``group`` (the sample's own name where nothing says one), ``split`` (None where
        there is no official one).

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
        own_group = sample.group or (name if group is None else _group(group, sample.id))
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


def _paired(
    images: Mapping[Key, list[str]],
    masks: Mapping[Key, list[str]],
    rois: Mapping[Key, list[str]],
    annotations: Mapping[str | None, list[str]],
    layout: Layout,
) -> list[Sample]:
    """Join by split and id, or by id alone where a glob does not tell the split."""
    masks_split, roi_split = _tells_split(layout.masks), _tells_split(layout.roi)
    shared = {split: sorted(paths) for split, paths in annotations.items()}
    samples = []
    for (split, name), (image,) in sorted(images.items(), key=lambda item: _order(item[1][0])):
        masks_key = split if masks_split else None
        own = sorted(masks.get((masks_key, name), [])) or shared.get(masks_key, [])
        roi = rois.get((split if roi_split else None, name), [""])
        samples.append(Sample(name, split, image, own, roi[0]))
    with_image = {(sample.split if masks_split else None, sample.id) for sample in samples}
    orphans = [
        Sample(name, split, "", sorted(paths))
        for (split, name), paths in masks.items()
        if (split, name) not in with_image
    ]
    return samples + sorted(orphans, key=lambda sample: _order(sample.path))


def _order(path: str) -> tuple[str, int]:
    file, page = split_page(path)
    return file, page or 0


def _tells_split(glob: str | None) -> bool:
    return glob is not None and "{split}" in glob


def _is_data(path: str) -> bool:
    return all(map(is_data, path.split("/")))


def _group(pattern: str, name: str) -> str:
    match = re.search(pattern, name)
    if match is None or match.group(1) is None:
        raise DataError(
            f"source.group {pattern!r} finds nothing in the id {name!r}. Every sample needs a group: widen it."
        )
    return match.group(1)


def _check_name(path: str, match: Match, where: str) -> None:
    """Refuse names that no table or path of the index could carry."""
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"The name of the file {path.encode('utf-8', 'backslashreplace').decode()} (in {where}) is not UTF-8: "
                "rename it."
            ) from None
    if not match.paged and split_page(path)[1] is not None:
        raise DataError(
            f"The name of {path} (in {where}) ends like the number of a page. Rename it; or, if its pages are samples, "
            "end the glob with #{page}."
        )


def _claimed_twice(role: Role, name: str, first: str, second: str, layout: Layout, where: str) -> str:
    kind, key = ("images", "images") if role == "image" else ("regions of interest", "roi")
    glob = getattr(layout, key)
    return (
        f"Two {kind} have the same id {name!r}: {first} and {second} (in {where}, by source.{key} {glob!r}). Make the "
        "glob narrower, or write **/{id}, or {folder} for the folder that tells them apart, so that it belongs to the "
        "id."
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
