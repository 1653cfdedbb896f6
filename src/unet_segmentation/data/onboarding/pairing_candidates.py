"""Candidates for a layout: globs for images, globs for masks, and how many files each combination pairs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.data.onboarding.filename_patterns import SLOT, FilenamePattern, Values
from unet_segmentation.data.onboarding.mask_detection import PixelProbe
from unet_segmentation.data.onboarding.name_keywords import image_words, is_role, says_roi, split_words

MAX_CLASSES = 30

Key = tuple[str, str, str]  # split, folder, id; empty where a glob does not tell


@dataclass
class GlobCandidate:
    """A glob for images or masks, and the files that it matches."""

    glob: str  # in the layout language
    keys: dict[Key, list[str]]  # paths
    family: FilenamePattern
    names: tuple[str, ...]  # placeholders of its slots
    paged: bool = False  # the files are stacks, of which each page counts

    @property
    def has_split(self) -> bool:
        """Return whether the glob has ``{split}``."""
        return self.family.has_split

    @property
    def has_folder(self) -> bool:
        """Return whether a folder belongs to the id."""
        return "{folder}" in self.glob

    @cached_property
    def id_lengths(self) -> dict[str, int]:
        """Length of the id by path."""
        return {path: len(key[1]) + len(key[2]) for key, paths in self.keys.items() for path in paths}

    @cached_property
    def files_by_id(self) -> Counter[tuple[str, str]]:
        """Number of files by folder and id, whatever the split."""
        counts: Counter[tuple[str, str]] = Counter()
        for (_, folder, name), paths in self.keys.items():
            counts[folder, name] += len(paths)
        return counts

    def without(self, paths: set[str]) -> GlobCandidate:
        """Return the candidate without these files."""
        remaining = {key: [path for path in files if path not in paths] for key, files in self.keys.items()}
        return replace(self, keys={key: files for key, files in remaining.items() if files})


@dataclass
class PairCandidate:
    """A combination of globs."""

    images: GlobCandidate
    masks: GlobCandidate
    kind: str  # of the masks
    paired: int  # images that have a mask
    unpaired: int  # images without a mask, and masks without an image
    used: int = 0  # masks that belong to an image
    score: float = 0.0  # the higher, the likelier


def image_candidates(family: FilenamePattern, probe: PixelProbe) -> Iterator[GlobCandidate]:
    """Yield globs for images: each with an id of its own."""
    in_name = family.parts[-1].count(SLOT)
    if in_name > 1:
        return
    options: list[list[str]] = [["*", "{folder}", "{id}"]] * family.slots
    if in_name:
        for slot in range(family.slots - 1):
            repeats_name = all(values[slot] == values[-1] for _, _, values in family.files)
            options[slot] = ["{id}"] if repeats_name else ["*", "{folder}"]
        options[-1] = ["{id}"]
    for names in product(*options):
        if not in_name and (_ids_are_roles(family, names) or (names and names.count("{id}") != 1)):
            continue
        if names.count("{folder}") <= 1:
            yield from _glob_candidates(family, names, probe, single=True)


def mask_candidates(family: FilenamePattern, probe: PixelProbe, kind: str) -> Iterator[GlobCandidate]:
    """Yield globs for masks."""
    if holds_many_images(kind):
        if not family.slots:
            yield GlobCandidate(family.glob(()), {}, family, ())
        return
    in_name = family.parts[-1].count(SLOT)
    for names in product(["{id}", "*", "{folder}", "{class}"], repeat=family.slots):
        if any(names.count(name) > 1 for name in ("{id}", "{folder}", "{class}")):
            continue
        if names and ("{id}" not in names or (not in_name and _ids_are_roles(family, names))):
            continue
        if in_name > 1 and names[-2:] != ("{id}", "{class}"):
            continue
        if "{class}" in names and (kind != "picture" or not _are_classes(family, names)):
            continue
        yield from _glob_candidates(family, names, probe, single=False)


def holds_many_images(kind: str) -> bool:
    """Return whether files of a kind annotate many images."""
    return kind in ANNOTATION_FORMATS and ANNOTATION_FORMATS[kind].holds_many_images


def _ids_are_roles(family: FilenamePattern, names: tuple[str, ...]) -> bool:
    """Return whether what would be ids are names like ``images`` and ``masks``."""
    return "{id}" in names and any(is_role(values[names.index("{id}")]) for _, _, values in family.files[:50])


def _are_classes(family: FilenamePattern, names: tuple[str, ...]) -> bool:
    """Return whether a slot may be the class: few texts, each often, that are words of their own; several of an id."""
    slot = names.index("{class}")
    texts = Counter(values[slot] for _, _, values in family.files)
    if not 2 <= len(texts) <= MAX_CLASSES or min(texts.values()) < 2:
        return False
    if not all(any(sign.isalpha() for sign in text) for text in texts) or any(map(_is_no_class, texts)):
        return False
    if family.parts[-1].count(SLOT) > 1:  # a_gt.png, a_mask.png: other kinds of masks
        if any(map(is_role, texts)):
            return False
    elif all(map(is_role, texts)) and not all("mask" in text.lower() for text in texts):  # leftMask, rightMask
        return False
    by_id: dict[Key, set[str]] = defaultdict(set)
    for _, split, values in family.files:
        by_id[_key(split, names, values)].add(values[slot])
    return sum(len(labels) > 1 for labels in by_id.values()) * 10 >= len(by_id)


def _is_no_class(text: str) -> bool:
    """Return whether a text names a split, images, a region of interest, or an observer."""
    observer = re.fullmatch(r"(?i)\d*(1st|2nd|3rd)\D*|.*observer.*", text)
    return bool(observer or split_words(text) or says_roi(text) or image_words(text))


def _glob_candidates(
    family: FilenamePattern, names: tuple[str, ...], probe: PixelProbe, *, single: bool
) -> Iterator[GlobCandidate]:
    """Yield a glob for whole files, or for the pages of stacks."""
    keys: dict[Key, list[str]] = defaultdict(list)
    for path, split, values in family.files:
        keys[_key(split, names, values)].append(path)
    if single and any(len(files) > 1 for files in keys.values()):
        return
    glob = family.glob(names)
    if probe.count_pages(family.files[0][0]) > 1:
        yield GlobCandidate(f"{glob}#{{page}}", dict(keys), family, names, paged=True)
    elif "{id}" in names:
        yield GlobCandidate(glob, dict(keys), family, names)


def _key(split: str, names: tuple[str, ...], values: Values) -> Key:
    parts = dict(zip(names, values, strict=True))
    return split, parts.get("{folder}", ""), parts.get("{id}", "")


# --- combinations ---


def match_candidates(
    images: Sequence[GlobCandidate], masks: Sequence[tuple[GlobCandidate, str]], probe: PixelProbe
) -> Iterator[PairCandidate]:
    """Yield the combinations in which any image has a mask."""
    overlaps: dict[tuple[int, int], bool] = {}
    for image, (mask, kind) in product(images, masks):
        if image.family is mask.family or (mask.has_split and not image.has_split) or image.paged != mask.paged:
            continue
        if holds_many_images(kind):
            candidate = _with_listed_images(image, mask, kind, probe)
        else:
            candidate = _with_masks(image, mask, kind)
            if candidate is not None and candidate.paired:
                key = (id(image.family), id(mask.family))
                if key not in overlaps:
                    overlaps[key] = not image.family.paths.isdisjoint(mask.family.paths)
                if overlaps[key]:
                    candidate = _with_masks(*_without_shared(image, mask), kind)
        if candidate is not None and candidate.paired:
            yield candidate


def _with_masks(image: GlobCandidate, mask: GlobCandidate, kind: str) -> PairCandidate | None:
    """Count the images that have a mask of the same name."""
    if image.has_folder != mask.has_folder:
        return None
    if mask.has_split:
        # The splits of the masks are among those of the images: test sets often have no masks.
        if not mask.family.splits.items() <= image.family.splits.items():
            return None
        own, others = image.keys.keys(), mask.keys.keys()
        used = sum(len(mask.keys[key]) for key in others & own)
        paired, orphans = len(own & others), len(others - own)
    else:
        ids, masks = image.files_by_id.keys(), mask.files_by_id
        if len(ids) < len(image.keys):
            return None
        used = sum(count for key, count in masks.items() if key in ids)
        paired, orphans = len(ids & masks.keys()), len(masks.keys() - ids)
    return PairCandidate(image, mask, kind, paired, len(image.keys) - paired + orphans, used)


def _without_shared(image: GlobCandidate, mask: GlobCandidate) -> tuple[GlobCandidate, GlobCandidate]:
    """Assign files that both globs match to the one with the shorter id, as the layout does."""
    shared = image.id_lengths.keys() & mask.id_lengths.keys()
    masks = {path for path in shared if mask.id_lengths[path] < image.id_lengths[path]}
    remaining = mask.without(shared - masks)
    if "{class}" in mask.names:
        slot = mask.names.index("{class}")
        left = remaining.id_lengths.keys()
        if len({values[slot] for path, _, values in mask.family.files if path in left}) < 2:
            remaining = mask.without(set(mask.id_lengths))
    return image.without(masks), remaining


def _with_listed_images(
    image: GlobCandidate, mask: GlobCandidate, kind: str, probe: PixelProbe
) -> PairCandidate | None:
    """Count the images that annotation files list."""
    if image.has_split and mask.has_split and image.family.splits != mask.family.splits:
        return None
    image_names = ANNOTATION_FORMATS[kind].image_names
    listed = {(split, name) for path, split, _ in mask.family.files for name in image_names(probe.storage, path)}
    paired = sum(
        ((key[0] if mask.has_split else ""), files[0].rpartition("/")[2]) in listed for key, files in image.keys.items()
    )
    return PairCandidate(image, mask, kind, paired, len(image.keys) - paired)
