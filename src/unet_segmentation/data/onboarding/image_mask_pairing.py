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
from unet_segmentation.data.io.image_reader import colored, read_roi
from unet_segmentation.data.layout.layout import Layout, Sample, find_samples
from unet_segmentation.data.onboarding.file_types import PICTURES, ending, kind_of_most, may_be_data
from unet_segmentation.data.onboarding.filename_patterns import find_families, subsample
from unet_segmentation.data.onboarding.mask_detection import PixelProbe
from unet_segmentation.data.onboarding.name_keywords import says_roi
from unet_segmentation.data.onboarding.pairing_candidates import (
    GlobCandidate,
    PairCandidate,
    image_candidates,
    mask_candidates,
    match_candidates,
)
from unet_segmentation.data.onboarding.pairing_score import explain, sample_pairs, score_names, score_pixels
from unet_segmentation.errors import DataError

MAX_FAMILIES = 150
SCORED_BY_PIXELS = 24  # candidates
TRIED = 8  # candidates that are run on all files
DARK = 0.25  # brightness outside of a region of interest, as a share of that inside

logger = logging.getLogger(__name__)


@dataclass
class Pairing:
    """A layout, and the samples that it finds."""

    images: str  # glob
    masks: str  # glob
    splits: dict[str, str]  # texts of ``{split}``, by the project's name for the split
    kind: str  # of the masks: ``picture``, ``grid``, ``matlab``, or an annotation format
    samples: list[Sample] = field(default_factory=list)
    roi: str | None = None  # glob of the regions of interest
    others: list[str] = field(default_factory=list)  # globs of other masks that fit the same images
    unused: list[str] = field(default_factory=list)  # files that may be data and that no glob matches
    dropped: list[str] = field(default_factory=list)  # splits that are not used, and why

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
    paths: Sequence[str], probe: PixelProbe, is_image: Callable[[str], bool], is_mask: Callable[[str], bool]
) -> Pairing | None:
    """Find the layout that pairs most files with fewest left over; None where nothing pairs.

    `is_image` and `is_mask` return whether a path may be one.
    """
    data = [path for path in paths if may_be_data(path) and (is_image(path) or is_mask(path))]
    images: list[GlobCandidate] = []
    masks: list[tuple[GlobCandidate, str]] = []
    families = sorted(find_families(subsample(data)), key=lambda family: (-len(family.files), family.parts))
    for family in families[:MAX_FAMILIES]:
        members = [path for path, _, _ in family.files]
        kind = kind_of_most(probe.storage, members)
        if kind == "picture" and all(map(is_image, members)):
            images += image_candidates(family, probe)
        if kind not in {"none", "text", "empty"} and all(map(is_mask, members)):
            masks += ((candidate, kind) for candidate in mask_candidates(family, probe, kind))
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
    pairing = _with_other_masks(pairing, candidate, _others_of_same_images(candidate, candidates), paths, probe)
    layout = pairing.layout
    pairing.unused = [path for path in data if ending(path) in PICTURES and layout.match(path) is None]
    return pairing


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
        if pairing is not None and (paired := len(pairing.pairs)):
            unpaired = len(pairing.without_mask) + len(pairing.without_image)
            results.append((candidate.score + paired / (paired + unpaired), pairing, candidate))
    return max(results, key=lambda result: result[0])[1:] if results else None


def _run(candidate: PairCandidate, paths: Sequence[str], probe: PixelProbe) -> Pairing | None:
    """Run a candidate on all files; a split without any mask is left out."""
    images, masks = candidate.images, candidate.masks
    texts = images.family.splits
    used = masks.family.splits if masks.has_split else texts
    splits: dict[str, str] = {n: texts[n] for n in ("train", "validation", "test") if n in texts and n in used}
    dropped = [f"the split {name} ({texts[name]}), of which there are no masks" for name in texts if name not in used]
    pairing = Pairing(images.glob, masks.glob, splits, candidate.kind, dropped=dropped)
    return _with_samples(pairing, paths, probe)


def _with_samples(pairing: Pairing, paths: Sequence[str], probe: PixelProbe) -> Pairing | None:
    """Find the samples of a layout; None where it cannot be used."""
    try:
        return replace(pairing, samples=find_samples(paths, pairing.layout, "the folder", probe.count_pages))
    except DataError:
        return None


# --- other masks of the same images ---


def _others_of_same_images(chosen: PairCandidate, candidates: Sequence[PairCandidate]) -> list[PairCandidate]:
    """Return candidates with other masks of the same images, the likeliest first."""
    others = [
        other
        for other in candidates
        if other.images.glob == chosen.images.glob
        and _files(other.masks).isdisjoint(_files(chosen.masks))
        and other.paired >= 0.95 * chosen.paired
    ]
    return sorted(others, key=lambda other: -other.score)


def _with_other_masks(
    pairing: Pairing, chosen: PairCandidate, others: Sequence[PairCandidate], paths: Sequence[str], probe: PixelProbe
) -> Pairing:
    """Add a region of interest, and other masks of the same images."""
    used = _files(chosen.masks)
    roi = next((other.masks for other in others if _is_roi(other, probe)), None)
    if roi is not None and (with_roi := _with_samples(replace(pairing, roi=roi.glob), paths, probe)):
        pairing = with_roi
        used |= _files(roi)
    for other in others:
        masks = [probe.score_mask(paths[0]) for _, paths in sample_pairs(other) if paths]
        if masks and all(mask.score > 0.5 for mask in masks) and used.isdisjoint(_files(other.masks)):
            pairing.others.append(other.masks.glob)
            used |= _files(other.masks)
    return pairing


def _files(candidate: GlobCandidate) -> set[str]:
    return {path for paths in candidate.keys.values() for path in paths} | candidate.family.paths


def _is_roi(candidate: PairCandidate, probe: PixelProbe) -> bool:
    """Return whether masks of two values are named like regions of interest, or images are dark outside of them."""
    pairs = sample_pairs(candidate)
    if candidate.kind != "picture" or not pairs:
        return False
    if any(len(paths) != 1 or not probe.score_mask(paths[0]).has_two_values for _, paths in pairs):
        return False
    return says_roi(candidate.masks.family.text) or all(
        _is_dark_outside(image, paths[0], probe) for image, paths in pairs
    )


def _is_dark_outside(image: str, mask: str, probe: PixelProbe) -> bool:
    try:
        pixels = colored(read_raster(probe.storage, image))
        inside = read_roi(probe.storage, mask)
    except UnreadableError:
        return False
    gray = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    if gray.shape != inside.shape or inside.all() or inside.mean() < 0.3:
        return False
    return float(gray[~inside].mean()) < DARK * float(gray[inside].mean())
