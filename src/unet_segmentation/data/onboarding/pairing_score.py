"""Score candidates for a layout: by counts and names for all of them, by pixels for the best.

The score of names is the dot product of the features and weights in `FEATURES`; `explain` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.data.io.image_decoders import UnreadableError
from unet_segmentation.data.io.image_reader import colored
from unet_segmentation.data.onboarding.file_types import spread
from unet_segmentation.data.onboarding.filename_patterns import SLOT
from unet_segmentation.data.onboarding.mask_detection import PixelProbe, read_values
from unet_segmentation.data.onboarding.name_keywords import image_words, mask_words, preference, says_roi
from unet_segmentation.data.onboarding.pairing_candidates import PairCandidate, holds_many_images

MAX_WORDS = 2  # of a name that count
SAME_THING = 0.6  # overlap of two masks of an image, from which on they are two opinions and not two classes
SECOND_OPINION = re.compile(r"(?i)2nd|second|manual_?2|observer_?2|rater_?2|annotator_?2")

# What pixels add to the score of a candidate.
NO_PAIR = -2.0  # no image has a mask to compare it with
UNREADABLE = -0.5  # no image, or no mask, can be read
PICTURES = 0.6  # times the likeness of the images to pictures
MASKS = 0.8  # times the likeness of the masks to masks
ANNOTATED = 0.3  # annotation files are no pictures that could be taken for masks
ANNOTATED_PICTURES = 0.3  # times the likeness of annotated images to pictures
NO_MASKS = -2.0  # the masks look like pictures
NO_MASKS_BUT_NAMED_SO = -0.8
OTHER_SIZE = -0.5  # image and mask differ in size; times their share
SEVERAL_CLASSES = -1.0  # an image has several masks, of which each holds several classes
SEVERAL_OPINIONS = -1.0  # an image has the masks of several observers


@dataclass(frozen=True)
class Feature:
    """Something that speaks for a candidate, or against it."""

    name: str
    weight: float  # what a value of 1 adds to the score
    why: str  # it matters
    value: Callable[[PairCandidate, int], float]  # of a candidate, in a folder of that many pictures


def _coverage(candidate: PairCandidate, pictures: int) -> float:
    used = candidate.used if candidate.kind == "picture" else candidate.paired
    return min(1.0, (candidate.paired + used) / pictures)


def _completeness(candidate: PairCandidate, _: int) -> float:
    return candidate.paired / max(1, candidate.paired + candidate.unpaired)


def _words(candidate: PairCandidate, _: int) -> float:
    image, mask = candidate.images.family.text, candidate.masks.family.text
    words = len(mask_words(mask) - mask_words(image)) - len(mask_words(image) - mask_words(mask))
    words += len(image_words(image) - image_words(mask))
    return max(-MAX_WORDS, min(MAX_WORDS, words))


def _folder_in_id(candidate: PairCandidate, _: int) -> float:
    image = candidate.images
    return image.has_folder and not all(name.startswith(folder) for _, folder, name in image.keys)


def _is_often_boxes(candidate: PairCandidate, _: int) -> float:
    return candidate.kind in ANNOTATION_FORMATS and ANNOTATION_FORMATS[candidate.kind].often_boxes


def _wildcards(candidate: PairCandidate, _: int) -> float:
    return sum(side.glob.count("*") + side.glob.count("{folder}") for side in (candidate.images, candidate.masks))


def _affix_length(candidate: PairCandidate, _: int) -> float:
    """Count literal text next to slots."""
    parts = candidate.images.family.parts + candidate.masks.family.parts
    return sum(len(part) - 1 for part in parts if SLOT in part)


FEATURES = (
    Feature("coverage", 2.0, "few pictures of the folder are left over", _coverage),
    Feature("completeness", 1.0, "images have a mask, and masks an image", _completeness),
    Feature("words", 0.25, "names say which are images and which masks", _words),
    Feature(
        "preference",
        0.06,
        "of several kinds of masks, those named like the main ones",
        lambda candidate, _: preference(candidate.masks.family.text),
    ),
    Feature("split of images", 0.1, "a predefined split is used", lambda candidate, _: candidate.images.has_split),
    Feature("split of masks", 0.1, "masks are in the same split", lambda candidate, _: candidate.masks.has_split),
    Feature("class in path", 0.05, "a text that tells classes is used", lambda c, _: "{class}" in c.masks.glob),
    Feature("folder in id", 0.03, "folders tell samples apart whose names do not", _folder_in_id),
    Feature("wildcards", -0.02, "simple globs first", _wildcards),
    Feature("affixes", -0.001, "as much of a name as possible is the id", _affix_length),
    Feature("often boxes", -0.3, "masks are more exact than boxes", _is_often_boxes),
    Feature("annotations", -0.05, "masks need no drawing", lambda candidate, _: candidate.kind in ANNOTATION_FORMATS),
    Feature("region of interest", -0.5, "it is no mask of classes", lambda c, _: says_roi(c.masks.family.text)),
)


def score_names(candidate: PairCandidate, pictures: int) -> float:
    """Score a candidate by counts and names."""
    return sum(feature.weight * feature.value(candidate, pictures) for feature in FEATURES)


def explain(candidate: PairCandidate, pictures: int) -> str:
    """Format what adds to the score of a candidate, or takes from it: a line per feature."""
    values = [(feature, feature.value(candidate, pictures)) for feature in FEATURES]
    lines = [f"{candidate.images.glob} with {candidate.masks.glob}: {score_names(candidate, pictures):.3f}"]
    lines += [f"  {feature.weight * value:+.3f}  {feature.name}: {feature.why}" for feature, value in values if value]
    return "\n".join(lines)


def score_pixels(candidate: PairCandidate, probe: PixelProbe) -> float:
    """Score a candidate by pixels: masks should look like masks, images should not, and both should have one size."""
    pairs = sample_pairs(candidate)
    if not pairs:
        return 0.0 if holds_many_images(candidate.kind) else NO_PAIR
    images = [image for path, _ in pairs if (image := probe.score_mask(path)).size is not None]
    picture = 1 - sum(image.score for image in images) / max(1, len(images))
    if candidate.kind in ANNOTATION_FORMATS:
        return ANNOTATED + ANNOTATED_PICTURES * picture
    paths = [path for _, paths in pairs for path in paths[:2]]
    masks = [mask for path in paths if (mask := probe.score_mask(path)).size is not None]
    if not masks or not images:
        return UNREADABLE
    score = PICTURES * picture
    likeness = sum(mask.score for mask in masks) / len(masks)
    if likeness < 0.5:
        score += NO_MASKS_BUT_NAMED_SO if mask_words(candidate.masks.family.text) else NO_MASKS
    score += MASKS * likeness
    for path, paths in pairs:
        if any(_differ_in_size(path, mask, probe) for mask in paths[:2]):
            score += OTHER_SIZE / len(pairs)
    if any(len(paths) > 1 for _, paths in pairs):
        if not all(mask.has_two_values for mask in masks):
            score += SEVERAL_CLASSES
        if _are_opinions(pairs, probe):
            score += SEVERAL_OPINIONS
    return score


def sample_pairs(candidate: PairCandidate) -> list[tuple[str, list[str]]]:
    """Return a few images, each with its masks: some of those with several, as these are less certain."""
    masks = candidate.masks
    if holds_many_images(candidate.kind):
        return [(paths[0], []) for paths in list(candidate.images.keys.values())[:1]]
    by_id = masks.keys if masks.has_split else {("", *key[1:]): paths for key, paths in masks.keys.items()}
    matched = {}
    for key, (image,) in candidate.images.keys.items():
        mask_key = key if masks.has_split else ("", *key[1:])
        if mask_key in by_id:
            matched[image] = by_id[mask_key]
    several = spread(sorted(image for image, paths in matched.items() if len(paths) > 1), 2)
    return [(image, matched[image]) for image in dict.fromkeys([*spread(sorted(matched), 3), *several])]


def _differ_in_size(image: str, mask: str, probe: PixelProbe) -> bool:
    """Return whether both can be read and differ in size, be it that one is turned."""
    one, other = probe.score_mask(image).size, probe.score_mask(mask).size
    return one is not None and other is not None and other not in {one, one[::-1]}


def _are_opinions(pairs: Sequence[tuple[str, list[str]]], probe: PixelProbe) -> bool:
    """Return whether several masks of an image are those of several observers, and not of several things."""
    for _, paths in pairs:
        if len(paths) < 2:
            continue
        if any(SECOND_OPINION.search(path) for path in paths):
            return True
        try:
            one, other = (np.asarray(colored(read_values(probe.storage, path)) != 0) for path in paths[:2])
        except UnreadableError:
            continue
        if one.shape == other.shape and (one & other).sum() > SAME_THING * max(1, min(one.sum(), other.sum())):
            return True
    return False
