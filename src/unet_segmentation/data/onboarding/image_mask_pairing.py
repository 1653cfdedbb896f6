"""Pairing images and masks: every way to read the names is tried, and the one that pairs most files is taken.

Families of files give globs for images and globs for masks. All combinations are counted on a part of the files; the
best are run through the real `Layout` on all of them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product

from unet_segmentation.data.layout.layout import Layout, Sample, find_samples
from unet_segmentation.data.onboarding.file_types import PICTURES, ending, kind_of_most, may_be_data, spread
from unet_segmentation.data.onboarding.filename_patterns import SLOT, FilenamePattern, Values, find_families, subsample
from unet_segmentation.data.onboarding.mask_detection import PixelProbe
from unet_segmentation.data.onboarding.name_keywords import (
    image_words,
    is_role,
    mask_words,
    preference,
    says_roi,
    split_words,
)
from unet_segmentation.errors import DataError

MOST_FAMILIES = 150
LOOKED_AT = 24  # candidates whose pixels are looked at
TRIED = 8  # candidates that are run on all files
MOST_CLASSES = 30
POLYGONS = {"coco", "yolo", "labelme", "pascal"}
AGREE = 0.6  # overlap of two masks of an image, from which on they are two opinions and not two classes

SECOND_OPINION = re.compile(r"(?i)2nd|second|manual_?2|observer_?2|rater_?2|annotator_?2")

Key = tuple[str, str, str]  # split, folder, id; empty where a glob does not tell


@dataclass
class GlobCandidate:
    """A glob for images or masks, and what it finds.

    Attributes:
        glob: in the layout language.
        keys: paths by split, folder and id.
        family: of the files.
        names: what its slots stand for.
        paged: the files are stacks, of which each page counts.
    """

    glob: str
    keys: dict[Key, list[str]]
    family: FilenamePattern
    names: tuple[str, ...]
    paged: bool = False

    @property
    def has_split(self) -> bool:
        """Whether the glob has ``{split}``."""
        return self.family.has_split

    @property
    def has_folder(self) -> bool:
        """Whether a folder belongs to the id."""
        return "{folder}" in self.glob

    @property
    def wildcards(self) -> int:
        """How much of the glob says nothing of the sample."""
        return self.glob.count("*") + self.glob.count("{folder}")

    @cached_property
    def id_lengths(self) -> dict[str, int]:
        """Length of the id by path."""
        return {path: len(key[1]) + len(key[2]) for key, paths in self.keys.items() for path in paths}

    @cached_property
    def bare(self) -> Counter[tuple[str, str]]:
        """Number of files by folder and id, whatever the split."""
        counts: Counter[tuple[str, str]] = Counter()
        for (_, *rest), paths in self.keys.items():
            counts[tuple(rest)] += len(paths)  # type: ignore[index]
        return counts

    @property
    def labels(self) -> set[str]:
        """The texts of ``{class}``."""
        slot = self.names.index("{class}")
        paths = self.id_lengths
        return {values[slot] for path, _, values in self.family.files if path in paths}

    def without(self, paths: set[str]) -> GlobCandidate:
        """Leave files out."""
        left = {key: [path for path in found if path not in paths] for key, found in self.keys.items()}
        return replace(self, keys={key: found for key, found in left.items() if found})


@dataclass
class Pairing:
    """A layout that was found.

    Attributes:
        images: glob.
        masks: glob; None where there are none.
        splits: texts of ``{split}``, by the project's name for the split.
        kind: of the masks: ``picture``, ``grid``, ``matlab``, ``coco``, ``yolo``, ``labelme``, ``pascal``.
        roi: glob of the regions of interest.
        samples: as the real layout finds them.
        others: globs of other masks that fit the same images.
        unused: files that may be data and that no glob finds.
        dropped: what was left out, and why.
    """

    images: str
    masks: str | None
    splits: dict[str, str]
    kind: str
    samples: list[Sample]
    roi: str | None = None
    others: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    @property
    def pairs(self) -> list[Sample]:
        """The samples that have both an image and masks."""
        return [sample for sample in self.samples if sample.image and sample.masks]

    @property
    def without_mask(self) -> list[str]:
        """Images that have no mask."""
        return [sample.image for sample in self.samples if sample.image and not sample.masks]

    @property
    def without_image(self) -> list[str]:
        """Masks that have no image."""
        return [mask for sample in self.samples if not sample.image for mask in sample.masks]

    @property
    def layout(self) -> Layout:
        """What the globs find."""
        return Layout(self.images, self.masks, self.splits, roi=self.roi)


@dataclass
class _Candidate:
    images: GlobCandidate
    masks: GlobCandidate
    kind: str
    paired: int
    left: int
    used: int = 0  # masks
    score: float = 0.0


def find_pairing(
    paths: Sequence[str],
    looks: PixelProbe,
    is_image: Callable[[str], bool] = lambda _: True,
    is_mask: Callable[[str], bool] = lambda _: True,
) -> Pairing | None:
    """Find the layout that pairs most files with least left over.

    Args:
        paths: all files, relative to the root.
        looks: looks at files.
        is_image: whether a path may be an image, where that is known.
        is_mask: whether a path may be a mask, where that is known.

    Returns:
        None where nothing pairs.
    """
    data = [path for path in paths if may_be_data(path) and (is_image(path) or is_mask(path))]
    families = _chosen(find_families(subsample(data)))
    kinds = {id(family): kind_of_most(looks.storage, [path for path, _, _ in family.files]) for family in families}
    images = [
        side
        for family in families
        if kinds[id(family)] == "picture" and all(is_image(path) for path, _, _ in family.files)
        for side in _image_sides(family, looks)
    ]
    masks = [
        (side, kinds[id(family)])
        for family in families
        if kinds[id(family)] not in {"none", "text", "empty"} and all(is_mask(path) for path, _, _ in family.files)
        for side in _mask_sides(family, looks, kinds[id(family)])
    ]
    total = max(1, sum(ending(path) in PICTURES for path in data))
    candidates = list(_matched(images, masks, total, looks))
    candidates.sort(key=lambda candidate: -candidate.score)
    best = _various(candidates)[:LOOKED_AT]
    for candidate in best:
        candidate.score += _appearance(candidate, looks)
    best.sort(key=lambda candidate: -candidate.score)
    found = _tried([candidate for candidate in best if candidate.score > 0][:TRIED], paths, looks)
    if found is None:
        return None
    pairing, candidate = found
    return _completed(pairing, candidate, candidates, paths, data, looks)


def _various(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Take few candidates for the same files, so that none crowds out the others."""
    seen: Counter[tuple] = Counter()
    kept = []
    for candidate in candidates:
        families = (candidate.images.family, candidate.masks.family)
        files = tuple((family.files[0][0], family.files[-1][0], len(family.files)) for family in families)
        seen[files] += 1
        if seen[files] <= 2:
            kept.append(candidate)
    return kept


# --- candidates ---


def _chosen(families: list[FilenamePattern]) -> list[FilenamePattern]:
    """Leave out small families where there are very many."""
    return sorted(families, key=lambda family: (-len(family.files), family.parts))[:MOST_FAMILIES]


def _image_sides(family: FilenamePattern, looks: PixelProbe) -> Iterator[GlobCandidate]:
    """Yield globs for images: each with an id of its own."""
    *folders, last = [*_slots(family)] or [None]
    options: list[list[str]]
    if last is not None and family.name_slot:
        if family.parts[-1].count(SLOT) > 1:
            return
        same = [all(values[slot] == values[-1] for _, _, values in family.files) for slot in folders]
        options = [["{id}"] if equal else ["*", "{folder}"] for equal in same] + [["{id}"]]
    else:
        options = [["*", "{folder}", "{id}"]] * family.slots
    for names in product(*options):
        literal_name = not family.name_slot
        if literal_name and _ids_are_roles(family, names):
            continue
        if names.count("{folder}") > 1 or (literal_name and family.slots and names.count("{id}") != 1):
            continue
        yield from _sides(family, names, looks, single=True)


def _mask_sides(family: FilenamePattern, looks: PixelProbe, kind: str) -> Iterator[GlobCandidate]:
    """Yield globs for masks."""
    if kind == "coco":
        if not family.slots:
            yield GlobCandidate(family.glob(()), {}, family, ())
        return
    options = [["{id}", "*", "{folder}", "{class}"]] * family.slots
    for names in product(*options):
        if max((names.count(name) for name in ("{id}", "{folder}", "{class}")), default=0) > 1:
            continue
        if family.slots and ("{id}" not in names or (not family.name_slot and _ids_are_roles(family, names))):
            continue
        if family.name_slot and family.parts[-1].count(SLOT) > 1 and names[-2:] not in {("{id}", "{class}")}:
            continue
        if "{class}" in names and (kind != "picture" or not _are_classes(family, names)):
            continue
        yield from _sides(family, names, looks, single=False)


def _ids_are_roles(family: FilenamePattern, names: tuple[str, ...]) -> bool:
    """Whether what would be ids are names like ``images`` and ``masks``."""
    if "{id}" not in names:
        return False
    return any(is_role(text) for text in {values[names.index("{id}")] for _, _, values in family.files[:50]})


def _slots(family: FilenamePattern) -> range:
    return range(family.slots)


def _are_classes(family: FilenamePattern, names: tuple[str, ...]) -> bool:
    """Whether a slot may tell classes: few texts, each often, that are words and say nothing else; several of an id."""
    slot = names.index("{class}")
    texts = Counter(values[slot] for _, _, values in family.files)
    if not 2 <= len(texts) <= MOST_CLASSES or min(texts.values()) < 2:
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
    return sum(len(found) > 1 for found in by_id.values()) * 10 >= len(by_id)


def _is_no_class(text: str) -> bool:
    """Whether a text names a split, images, a region of interest, or who drew a mask."""
    observer = re.fullmatch(r"(?i)\d*(1st|2nd|3rd)\D*|.*observer.*", text)
    return bool(observer or split_words(text) or says_roi(text) or image_words(text))


def _sides(
    family: FilenamePattern, names: tuple[str, ...], looks: PixelProbe, *, single: bool
) -> Iterator[GlobCandidate]:
    """Yield a glob for whole files, or for the pages of stacks."""
    keys: dict[Key, list[str]] = defaultdict(list)
    for path, split, values in family.files:
        keys[_key(split, names, values)].append(path)
    if single and any(len(found) > 1 for found in keys.values()):
        return
    glob = family.glob(names)
    if looks.pages(family.files[0][0]) > 1:
        yield GlobCandidate(f"{glob}#{{page}}", dict(keys), family, names, paged=True)
    elif "{id}" in names:
        yield GlobCandidate(glob, dict(keys), family, names)


def _key(split: str, names: tuple[str, ...], values: Values) -> Key:
    parts = dict(zip(names, values, strict=True))
    return split, parts.get("{folder}", ""), parts.get("{id}", "")


def _matched(
    images: Sequence[GlobCandidate], masks: Sequence[tuple[GlobCandidate, str]], total: int, looks: PixelProbe
) -> Iterator[_Candidate]:
    """Yield the combinations of which any image has a mask."""
    known: dict[tuple[int, int], bool] = {}

    def overlap(one: FilenamePattern, other: FilenamePattern) -> bool:
        key = (id(one), id(other))
        if key not in known:
            known[key] = not one.paths.isdisjoint(other.paths)
        return known[key]

    for image, (mask, kind) in product(images, masks):
        if image.family is mask.family or (mask.has_split and not image.has_split) or image.paged != mask.paged:
            continue
        if kind == "coco":
            candidate = _with_coco(image, mask, looks)
        else:
            candidate = _with_masks(image, mask, kind)
            if candidate is not None and candidate.paired and overlap(image.family, mask.family):
                candidate = _with_masks(*_told_apart(image, mask), kind)
        if candidate is not None and candidate.paired:
            candidate.score = _score(candidate, total)
            yield candidate


def _with_masks(image: GlobCandidate, mask: GlobCandidate, kind: str) -> _Candidate | None:
    """Count the images that have a mask of the same name."""
    if image.has_folder != mask.has_folder:
        return None
    if mask.has_split:
        if not _same_splits(image, mask):
            return None
        own, others = image.keys.keys(), mask.keys.keys()
        used = sum(len(mask.keys[key]) for key in others & own)
        paired, orphans = len(own & others), len(others - own)
    else:
        bare, masks = image.bare, mask.bare
        if len(bare) < len(image.keys):
            return None
        paired, orphans = len(bare.keys() & masks.keys()), len(masks.keys() - bare.keys())
        used = sum(count for key, count in masks.items() if key in bare)
    return _Candidate(image, mask, kind, paired, len(image.keys) - paired + orphans, used)


def _told_apart(image: GlobCandidate, mask: GlobCandidate) -> tuple[GlobCandidate, GlobCandidate]:
    """Return files that both globs match to the one with the shorter id, as the layout does."""
    shared = image.id_lengths.keys() & mask.id_lengths.keys()
    masks = {path for path in shared if mask.id_lengths[path] < image.id_lengths[path]}
    left = mask.without(shared - masks)
    if "{class}" in mask.names and len(left.labels) < 2:
        left = mask.without(set(mask.id_lengths))
    return image.without(masks), left


def _same_splits(image: GlobCandidate, mask: GlobCandidate) -> bool:
    """Whether the splits of the masks are among those of the images (test sets often have no masks)."""
    return all(image.family.splits.get(name) == text for name, text in mask.family.splits.items())


def _with_coco(image: GlobCandidate, mask: GlobCandidate, looks: PixelProbe) -> _Candidate | None:
    """Count the images that annotation files know."""
    from unet_segmentation.data.onboarding.annotation_files import coco_names

    if image.has_split and mask.has_split and image.family.splits != mask.family.splits:
        return None
    known = {(split, name) for path, split, _ in mask.family.files for name in coco_names(looks.storage, path)}
    paired = sum(
        ((key[0] if mask.has_split else ""), found[0].rpartition("/")[2]) in known for key, found in image.keys.items()
    )
    return _Candidate(image, mask, "coco", paired, len(image.keys) - paired)


# --- scores ---


def _score(candidate: _Candidate, total: int) -> float:
    """Judge by counts and names: shares of files that pair, words, and simplicity."""
    image, mask = candidate.images, candidate.masks
    used = candidate.used if candidate.kind in {"picture"} else candidate.paired
    complete = candidate.paired / max(1, candidate.paired + candidate.left)
    coverage = min(1.0, (candidate.paired + used) / total)
    words = len(mask_words(mask.family.text) - mask_words(image.family.text))
    words -= len(mask_words(image.family.text) - mask_words(mask.family.text))
    words += len(image_words(image.family.text) - image_words(mask.family.text))
    score = 2 * coverage + complete + 0.25 * max(-2, min(2, words)) + 0.06 * preference(mask.family.text)
    score += 0.1 * image.has_split + 0.1 * mask.has_split + 0.05 * ("{class}" in mask.glob)
    score += 0.03 * (image.has_folder and not _begin_with_folder(image))
    score -= 0.02 * (image.wildcards + mask.wildcards) + 0.001 * (_affix_length(image) + _affix_length(mask))
    score -= 0.3 * (candidate.kind in {"pascal", "yolo"}) + 0.05 * (candidate.kind in POLYGONS)
    return score - 0.5 * says_roi(mask.family.text)


def _begin_with_folder(side: GlobCandidate) -> bool:
    """Whether ids say the folder's name themselves."""
    return all(name.startswith(folder) for _, folder, name in side.keys)


def _affix_length(side: GlobCandidate) -> int:
    """Count literal text beside slots: the less of it, the more of a name is in the id."""
    return sum(len(part) - 1 for part in side.family.parts if SLOT in part)


def _appearance(candidate: _Candidate, looks: PixelProbe) -> float:
    """Judge by pixels: masks should look like masks, images should not, and both have one size."""
    pairs = _some_pairs(candidate)
    if not pairs:
        return -2.0 if candidate.kind != "coco" else 0.0
    image_looks = [looks.at(image) for image, _ in pairs]
    readable = [look for look in image_looks if look.size is not None]
    picture = 1 - sum(look.mask for look in readable) / max(1, len(readable))
    if candidate.kind in POLYGONS:
        return 0.3 + 0.3 * picture
    score = 0.6 * picture
    mask_looks = [[looks.at(path) for path in paths[:2]] for _, paths in pairs]
    seen = [look for found in mask_looks for look in found if look.size is not None]
    if not seen or not readable:
        return -0.5
    likeness = sum(look.mask for look in seen) / len(seen)
    named = bool(mask_words(candidate.masks.family.text))
    if likeness < 0.5:
        score -= 0.8 if named else 2.0
    score += 0.8 * likeness
    for look, found in zip(image_looks, mask_looks, strict=True):
        if any(None not in (look.size, other.size) and not _same_size(look.size, other.size) for other in found):
            score -= 0.5 / len(pairs)
    several = any(len(paths) > 1 for _, paths in pairs)
    if several and not all(look.two for look in seen):
        score -= 1.0
    if several and _are_opinions(pairs, looks):
        score -= 1.0
    return score


def _same_size(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    return one == other or (one is not None and one[::-1] == other)


def _some_pairs(candidate: _Candidate) -> list[tuple[str, list[str]]]:
    """Return a few images, each with its masks: some of those with several, as these need the closer look."""
    masks = candidate.masks
    if candidate.kind == "coco":
        return [(paths[0], []) for paths in list(candidate.images.keys.values())[:1]]
    by_id = masks.keys if masks.has_split else {("", *key[1:]): paths for key, paths in masks.keys.items()}
    matched = {}
    for key, (image,) in candidate.images.keys.items():
        mask_key = key if masks.has_split else ("", *key[1:])
        if mask_key in by_id:
            matched[image] = by_id[mask_key]
    several = spread(sorted(image for image, found in matched.items() if len(found) > 1), 2)
    return [(image, matched[image]) for image in dict.fromkeys([*spread(sorted(matched), 3), *several])]


def _are_opinions(pairs: Sequence[tuple[str, list[str]]], looks: PixelProbe) -> bool:
    """Tell two observers' masks of the same thing from masks of two things: they overlap."""
    import numpy as np

    from unet_segmentation.data.io.image_decoders import UnreadableError
    from unet_segmentation.data.io.image_reader import coloured
    from unet_segmentation.data.onboarding.mask_detection import read_values

    for _, paths in pairs:
        if len(paths) < 2:
            continue
        if any(SECOND_OPINION.search(path) for path in paths):
            return True
        try:
            one, other = (np.asarray(coloured(read_values(looks.storage, path)) != 0) for path in paths[:2])
        except UnreadableError:
            continue
        if one.shape == other.shape and (one & other).sum() > AGREE * max(1, min(one.sum(), other.sum())):
            return True
    return False


# --- the real layout ---


def _tried(
    candidates: Sequence[_Candidate], paths: Sequence[str], looks: PixelProbe
) -> tuple[Pairing, _Candidate] | None:
    """Run the best candidates on all files: the first whose share of pairs is as good as the best."""
    results = []
    for candidate in candidates:
        pairing = _run(candidate, paths, looks)
        if pairing is not None and pairing.pairs:
            left = len(pairing.without_mask) + len(pairing.without_image)
            score = candidate.score + len(pairing.pairs) / (len(pairing.pairs) + left)
            results.append((score, pairing, candidate))
    if not results:
        return None
    _, pairing, candidate = max(results, key=lambda result: result[0])
    return pairing, candidate


def _run(candidate: _Candidate, paths: Sequence[str], looks: PixelProbe) -> Pairing | None:
    """Run a candidate on all files; a split without any mask is left out."""
    splits: dict[str, str] = dict(candidate.images.family.splits)
    dropped = []
    if candidate.masks.has_split:
        without = [name for name in splits if name not in candidate.masks.family.splits]
        dropped = [f"the split {name} ({splits[name]}), of which there are no masks" for name in without]
        splits = {name: text for name, text in splits.items() if name not in without}
    layout = Layout(candidate.images.glob, candidate.masks.glob, splits)  # type: ignore[arg-type]
    try:
        samples = find_samples(paths, layout, "the folder", looks.pages)
    except DataError:
        return None
    ordered: dict[str, str] = {name: splits[name] for name in ("train", "validation", "test") if name in splits}
    return Pairing(candidate.images.glob, candidate.masks.glob, ordered, candidate.kind, samples, dropped=dropped)


def _completed(
    pairing: Pairing,
    chosen: _Candidate,
    candidates: Sequence[_Candidate],
    paths: Sequence[str],
    data: Sequence[str],
    looks: PixelProbe,
) -> Pairing:
    """Find a region of interest and other masks of the same images, and what is left over."""
    same = [
        other
        for other in candidates
        if other.images.glob == chosen.images.glob
        and other.masks.family.files != chosen.masks.family.files
        and not _files(other.masks) & _files(chosen.masks)
        and other.paired >= 0.95 * chosen.paired
    ]
    same.sort(key=lambda other: -other.score)
    roi = next((other for other in same if _is_roi(other, looks)), None)
    if roi is not None:
        with_roi = replace(pairing, roi=roi.masks.glob)
        try:
            with_roi.samples = find_samples(paths, with_roi.layout, "the folder", looks.pages)
            pairing = with_roi
        except DataError:
            roi = None
    seen = _files(chosen.masks) | (_files(roi.masks) if roi is not None else set())
    for other in same:
        looked = [looks.at(path) for _, found in _some_pairs(other) for path in found[:1]]
        is_mask = bool(looked) and all(look.mask > 0.5 for look in looked)
        if is_mask and not _files(other.masks) & seen:
            pairing.others.append(other.masks.glob)
            seen |= _files(other.masks)
    layout = pairing.layout
    pairing.unused = [path for path in data if ending(path) in PICTURES and layout.match(path) is None]
    return pairing


def _files(side: GlobCandidate) -> set[str]:
    return {path for found in side.keys.values() for path in found} | {path for path, _, _ in side.family.files}


def _is_roi(candidate: _Candidate, looks: PixelProbe) -> bool:
    """A mask of two values that is named so, or outside of which the image is dark."""
    pairs = _some_pairs(candidate)
    if candidate.kind != "picture" or not pairs:
        return False
    if any(len(paths) != 1 or not looks.at(paths[0]).two for _, paths in pairs):
        return False
    return says_roi(candidate.masks.family.text) or all(
        _is_dark_outside(image, paths[0], looks) for image, paths in pairs
    )


def _is_dark_outside(image: str, mask: str, looks: PixelProbe) -> bool:
    from unet_segmentation.data.io.image_decoders import UnreadableError, read_raster
    from unet_segmentation.data.io.image_reader import coloured, read_roi

    try:
        pixels = coloured(read_raster(looks.storage, image))
        inside = read_roi(looks.storage, mask)
    except UnreadableError:
        return False
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    if grey.shape != inside.shape or inside.all() or inside.mean() < 0.3:
        return False
    return float(grey[~inside].mean()) < 0.25 * float(grey[inside].mean())
