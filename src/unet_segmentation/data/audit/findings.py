"""What inspection and split can find: every kind once, with its severity, its heading and how to fix it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    severity: Severity  # `error` stops the run (or sets the sample aside), `warning` is shown, `note` is kept
    heading: str  # for a list of such findings
    fix: str = ""  # what to do about it; empty where nothing needs to be done


@dataclass(frozen=True)
class Finding:
    """Something to know about a file or the data set."""

    kind: str  # a key of `KINDS`
    message: str  # what is wrong
    sample_id: str = ""  # empty where it concerns the data set
    file: str = ""  # relative to the root of the files
    values: Mapping[str, int] | None = None  # pixels by mask value, where it is about values
    other: str = ""  # the other sample, where it is about two

    @property
    def severity(self) -> Severity:
        """Severity of its kind."""
        return KINDS[self.kind].severity


TALLIED_VALUES = 1024  # of the whole data set
COLUMNS = ["severity", "kind", "sample_id", "file", "message", "values", "other"]


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Build a table of findings, with all columns even where it is empty; values are JSON, or empty."""
    rows = [
        vars(entry) | {"severity": entry.severity, "values": json.dumps(dict(entry.values)) if entry.values else ""}
        for entry in findings
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def add_values(tally: Counter[str], values: Mapping[str, int], limit: int = TALLIED_VALUES) -> None:
    """Add pixels by value, of a limited number of different values."""
    for value, count in values.items():
        if value in tally or len(tally) < limit:
            tally[value] += count


def most_frequent(values: Mapping[str, int], number: int) -> dict[str, int]:
    """Return the `number` values with most pixels, in descending order."""
    return dict(sorted(values.items(), key=lambda item: -item[1])[:number])


def listing(values: Mapping[str, int]) -> str:
    """Format pixels by value, most frequent first."""
    parts = [f"{value} ({count} pixels)" for value, count in most_frequent(values, 8).items()]
    return ", ".join(parts) + (f" and {len(values) - 8} other values" if len(values) > 8 else "")


_REPLACE = "Replace or remove these files (a truncated one: fetch it again)."
_NEAREST = "a resized mask needs nearest-neighbor sampling."

_ERRORS: dict[str, tuple[str, str]] = {  # kinds with heading and fix; what causes others comes first
    "no_samples": ("no samples", "Check source.images and source.masks against the names of the files."),
    "unreadable_image": ("images that cannot be read", _REPLACE),
    "unreadable_mask": ("masks that cannot be read", _REPLACE),
    "unreadable_roi": ("regions of interest that cannot be read", _REPLACE),
    "missing_mask": (
        "images without a mask",
        "Add the masks or remove the images; check that {id} in source.masks fits the masks' names.",
    ),
    "missing_image": (
        "masks without an image",
        "Add the images or remove the masks; check that {id} in source.images fits the images' names.",
    ),
    "missing_roi": (
        "images without a region of interest",
        "Add the files, or check {id} in source.roi against their names.",
    ),
    "several_masks": (
        "several masks for one image",
        "Say masks: {merge: true} to lay them over each other, or narrow source.masks so that each image has one.",
    ),
    "no_range": (
        "images whose numbers are no 8 or 16 bit values",
        "Declare which values become black and white, from what was found: images: {range: [low, high]}.",
    ),
    "not_finite": ("images with NaN or infinite pixels", "Replace these pixels, or the files."),
    "turned_mask": (
        "masks that lie on their side (width and height swapped)",
        "Turn the mask, or save the image without an EXIF orientation: it is applied to the image when that is read.",
    ),
    "size_mismatch": (
        "image and mask of different size (width x height)",
        f"Export the mask again at the image's size; {_NEAREST}",
    ),
    "mixed_depths": ("images of different depth in one data set", "Save all images with the same depth, 8 or 16 bits."),
    "mixed_channels": (
        "images with different numbers of channels in one data set",
        "Choose the bands that all have (images: {bands: [...]}), or keep the images apart.",
    ),
    "colored_mask": ("masks that hold colors, where the declared encoding reads gray values", ""),
    "no_palette": ("masks without a palette, where the declared encoding reads palette indices", ""),
    "ghost_values": (
        "masks with ghost values (in-between values at the borders of classes)",
        f"Such a mask was saved as JPEG or resized with interpolation. Export it again as PNG; {_NEAREST} "
        "Two classes far apart can be read with masks: {encoding: threshold}.",
    ),
    "undeclared_values": ("masks with undeclared values", ""),
    "undeclared_colors": ("masks with undeclared colors", ""),
    "undeclared_labels": (
        "annotations with undeclared labels",
        "Name their class in masks.labels, add the class to classes, or list them in masks.ignore_labels.",
    ),
    "absent_class": (
        "classes that occur in no mask",
        "Remove the class from classes, or correct the declaration of the masks.",
    ),
    "identical_across_splits": (
        "identical images in different official splits",
        "The test would be on images that were trained on. Remove one of each pair; or, where the official split is to "
        "be kept as it is, allow it: inspection: {allow: [identical_across_splits]}.",
    ),
    "too_few_samples": ("too few samples to split", "Add samples, or make the groups (source.group) smaller."),
    "absent_in_training": (
        "classes that do not occur in the training split",
        "What is not there cannot be learned: change split.seed, make the groups (source.group) smaller, add samples, "
        "or remove the class from classes.",
    ),
}
_WARNINGS = {
    "lossy_mask": (
        "masks in files that lose information (JPEG, lossy WebP)",
        "Their borders are blurred; masks as PNG are exact.",
    ),
    "wrong_extension": ("files of another format than their names say", "They are read by their content. Rename them."),
    "constant_image": ("images of one constant value", "Remove them if they show nothing."),
    "empty_mask": (
        "masks that hold class 0 alone",
        "Right where an image shows nothing else; else the mask was exported empty.",
    ),
    "ignored_mask": ("masks in which every pixel is ignored", "Nothing can be learned from them."),
    "void_share": ("masks in which most pixels are ignored", "Check masks.ignore and source.roi, if that surprises."),
    "several_pages": (
        "files with several pages or frames, of which only the first is used",
        "To make each page a sample, end the glob with #{page}.",
    ),
    "clipped_range": ("images with many values outside images.range", "Widen images.range."),
    "rare_class": ("rare classes", "Consider training.loss.class_weights: auto."),
    "rare_in_split": ("classes that are rare or absent in a split", "Their score there says little."),
    "same_image_other_mask": (
        "identical images with different masks",
        "One of the two masks is wrong, or they are two opinions.",
    ),
    "better_fit": ("masks that fit another image better", "Check them: masks may have been swapped or shifted by one."),
    "near_identical_across_splits": (
        "near-identical images in different splits",
        "The test may be on images much like those trained on. Keep them together with source.group.",
    ),
    "group_across_splits": (
        "groups that lie in more than one official split",
        "The test may be on what was trained on. Correct source.group or the official split; it is kept as it is.",
    ),
    "near_identical": ("near-identical images", "Frames of a video, or copies? source.group keeps them in one split."),
    "set_aside": ("samples that were set aside because of errors", ""),
}
_NOTES = {
    "alpha_dropped": "images with transparency, which is not used",
    "turned_by_exif": "images turned upright as the camera noted (EXIF)",
    "gray_among_color": "gray images among color images",
    "overlapping_masks": "masks of one image that overlap: the later lies above",
    "same_pixels": "images that occur more than once",
    "mask_values": "values in the masks",
}

KINDS: dict[str, Kind] = {  # in the order in which they are reported
    **{kind: Kind("error", *texts) for kind, texts in _ERRORS.items()},
    **{kind: Kind("warning", *texts) for kind, texts in _WARNINGS.items()},
    **{kind: Kind("note", heading) for kind, heading in _NOTES.items()},
}
