"""Pair images and masks: many globs are tried, and those that pair most files with least left over are proposed.

File name patterns give globs for images and globs for masks. All combinations are counted on a part of the files; the
best are run through the real `Layout` on all of them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from unet_segmentation.data.io.image_decoders import UnreadableError, read_raster
from unet_segmentation.data.io.image_reader import coloured, read_roi
from unet_segmentation.data.layout.layout import Layout, Sample, find_samples
from unet_segmentation.data.onboarding.file_types import PICTURES, ending, kind_of_most, may_be_data
from unet_segmentation.data.onboarding.filename_patterns import find_families, subsample
from unet_segmentation.data.onboarding.mask_detection import PixelProbe
from unet_segmentation.data.onboarding.name_keywords import says_roi
from unet_segmentation.data.onboarding.pairing_candidates import (
    GlobCandidate,
    PairCandidate,
    image_candidates,
    largest_families,
    mask_candidates,
    match_candidates,
)
from unet_segmentation.data.onboarding.pairing_score import explain, sample_pairs, score_names, score_pixels
from unet_segmentation.errors import DataError

SCORED_BY_PIXELS = 24  # candidates
TRIED = 8  # candidates that are run on all files
DARK = 0.25  # brightness outside of a region of interest, as a share of that inside

logger = logging.getLogger(__name__)


@dataclass
class Pairing:
    """A layout, and the samples that it finds.

    Attributes:
        images: glob.
        masks: glob; None where there are none.
        splits: texts of ``{split}``, by the project's name for the split.
        kind: of the masks: ``picture``, ``grid``, ``matlab``, or an annotation format.
        roi: glob of the regions of interest.
        samples: as the real layout finds them.
        others: globs of other masks that fit the same images.
        unused: files that may be data and that no glob matches.
        dropped: splits that are not used, and why.
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
        """Samples that have both an image and masks."""
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
        """Layout of these globs."""
        return Layout(self.images, self.masks, self.splits, roi=self.roi)


def find_pairing(
    paths: Sequence[str],
    probe: PixelProbe,
    is_image: Callable[[str], bool] = lambda _: True,
    is_mask: Callable[[str], bool] = lambda _: True,
) -> Pairing | None:
    """Find the layout that pairs most files with fewest left over.

    Args:
        paths: all files, relative to the root.
        probe: what pixels look like.
        is_image: returns whether a path may be an image.
        is_mask: returns whether a path may be a mask.

    Returns:
        None where nothing pairs.
    """
    data = [path for path in paths if may_be_data(path) and (is_image(path) or is_mask(path))]
    families = largest_families(find_families(subsample(data)))
    kinds = {id(family): kind_of_most(probe.storage, [path for path, _, _ in family.files]) for family in families}
    images = [
        candidate
        for family in families
        if kinds[id(family)] == "picture" and all(is_image(path) for path, _, _ in family.files)
        for candidate in image_candidates(family, probe)
    ]
    masks = [
        (candidate, kinds[id(family)])
        for family in families
        if kinds[id(family)] not in {"none", "text", "empty"} and all(is_mask(path) for path, _, _ in family.files)
        for candidate in mask_candidates(family, probe, kinds[id(family)])
    ]
    pictures = max(1, sum(ending(path) in PICTURES for path in data))
    candidates = list(match_candidates(images, masks, probe))
    for candidate in candidates:
        candidate.score = score_names(candidate, pictures)
    candidates.sort(key=lambda candidate: -candidate.score)
    best = _various(candidates)[:SCORED_BY_PIXELS]
    for candidate in best:
        logger.debug("%s", explain(candidate, pictures))
        candidate.score += score_pixels(candidate, probe)
    best.sort(key=lambda candidate: -candidate.score)
    result = _best_pairing([candidate for candidate in best if candidate.score > 0][:TRIED], paths, probe)
    if result is None:
        return None
    pairing, candidate = result
    others = _others_of_same_images(candidate, candidates)
    return _with_unused(_with_roi(pairing, candidate, others, paths, probe), data)


def _various(candidates: Sequence[PairCandidate]) -> list[PairCandidate]:
    """Return at most two candidates for the same files, so that none crowds out the others."""
    counts: Counter[object] = Counter()
    various = []
    for candidate in candidates:
        families = (candidate.images.family, candidate.masks.family)
        files = tuple((family.files[0][0], family.files[-1][0], len(family.files)) for family in families)
        counts[files] += 1
        if counts[files] <= 2:
            various.append(candidate)
    return various


def _best_pairing(
    candidates: Sequence[PairCandidate], paths: Sequence[str], probe: PixelProbe
) -> tuple[Pairing, PairCandidate] | None:
    """Run candidates on all files, and return the best."""
    results = []
    for candidate in candidates:
        pairing = _run(candidate, paths, probe)
        if pairing is not None and pairing.pairs:
            unpaired = len(pairing.without_mask) + len(pairing.without_image)
            score = candidate.score + len(pairing.pairs) / (len(pairing.pairs) + unpaired)
            results.append((score, pairing, candidate))
    if not results:
        return None
    _, pairing, candidate = max(results, key=lambda result: result[0])
    return pairing, candidate


def _run(candidate: PairCandidate, paths: Sequence[str], probe: PixelProbe) -> Pairing | None:
    """Run a candidate on all files; a split without any mask is left out."""
    splits: dict[str, str] = dict(candidate.images.family.splits)
    dropped = []
    if candidate.masks.has_split:
        without = [name for name in splits if name not in candidate.masks.family.splits]
        dropped = [f"the split {name} ({splits[name]}), of which there are no masks" for name in without]
        splits = {name: text for name, text in splits.items() if name not in without}
    layout = Layout(candidate.images.glob, candidate.masks.glob, splits)  # type: ignore[arg-type]
    try:
        samples = find_samples(paths, layout, "the folder", probe.pages)
    except DataError:
        return None
    ordered: dict[str, str] = {name: splits[name] for name in ("train", "validation", "test") if name in splits}
    return Pairing(candidate.images.glob, candidate.masks.glob, ordered, candidate.kind, samples, dropped=dropped)


def _others_of_same_images(chosen: PairCandidate, candidates: Sequence[PairCandidate]) -> list[PairCandidate]:
    """Return candidates with other masks of the same images, the likeliest first."""
    others = [
        other
        for other in candidates
        if other.images.glob == chosen.images.glob
        and other.masks.family.files != chosen.masks.family.files
        and not _files(other.masks) & _files(chosen.masks)
        and other.paired >= 0.95 * chosen.paired
    ]
    return sorted(others, key=lambda other: -other.score)


def _with_roi(
    pairing: Pairing, chosen: PairCandidate, others: Sequence[PairCandidate], paths: Sequence[str], probe: PixelProbe
) -> Pairing:
    """Add a region of interest, and other masks of the same images."""
    roi = next((other for other in others if _is_roi(other, probe)), None)
    if roi is not None:
        with_roi = replace(pairing, roi=roi.masks.glob)
        try:
            with_roi.samples = find_samples(paths, with_roi.layout, "the folder", probe.pages)
            pairing = with_roi
        except DataError:
            roi = None
    used = _files(chosen.masks) | (_files(roi.masks) if roi is not None else set())
    for other in others:
        mask_looks = [probe.at(path) for _, masks in sample_pairs(other) for path in masks[:1]]
        is_mask = bool(mask_looks) and all(look.mask > 0.5 for look in mask_looks)
        if is_mask and not _files(other.masks) & used:
            pairing.others.append(other.masks.glob)
            used |= _files(other.masks)
    return pairing


def _with_unused(pairing: Pairing, data: Sequence[str]) -> Pairing:
    layout = pairing.layout
    pairing.unused = [path for path in data if ending(path) in PICTURES and layout.match(path) is None]
    return pairing


def _files(candidate: GlobCandidate) -> set[str]:
    return {path for paths in candidate.keys.values() for path in paths} | {
        path for path, _, _ in candidate.family.files
    }


def _is_roi(candidate: PairCandidate, probe: PixelProbe) -> bool:
    """Return whether masks of two values are named like regions of interest, or images are dark outside of them."""
    pairs = sample_pairs(candidate)
    if candidate.kind != "picture" or not pairs:
        return False
    if any(len(paths) != 1 or not probe.at(paths[0]).two for _, paths in pairs):
        return False
    return says_roi(candidate.masks.family.text) or all(
        _is_dark_outside(image, paths[0], probe) for image, paths in pairs
    )


def _is_dark_outside(image: str, mask: str, probe: PixelProbe) -> bool:
    try:
        pixels = coloured(read_raster(probe.storage, image))
        inside = read_roi(probe.storage, mask)
    except UnreadableError:
        return False
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    if grey.shape != inside.shape or inside.all() or inside.mean() < 0.3:
        return False
    return float(grey[~inside].mean()) < DARK * float(grey[inside].mean())
