"""Checks of the whole data set: depths and channels that differ, copies, near-duplicates, rare classes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.audit.findings import Finding, finding, listing, most_frequent
from unet_segmentation.data.audit.near_duplicates import find_mismatched_masks, find_near_duplicates
from unet_segmentation.data.io.image_decoders import pixel_sha256
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import InspectionParameters

TALLIED_VALUES = 1024  # of the whole data set
IMAGE_FIELDS = ("grey", "colour", "height", "width")  # of a signature: what hangs on the image alone


def dataset_findings(
    inspected: pd.DataFrame, classes: Sequence[str], inspection: InspectionParameters, tally: Counter[str]
) -> list[Finding]:
    """Find what only the whole data set shows; grey images among colour images become colour images (in the table).

    Args:
        inspected: a row per sample; changed in place.
        classes: names, in the order of their ids.
        inspection: which class counts as rare.
        tally: pixels by mask value, over all files.
    """
    if inspected.empty:
        return [finding("no_samples", "there is no sample")]
    findings: list[Finding] = []
    readable = inspected[inspected["height"] > 0]
    depths = readable["dtype"].value_counts()
    if len(depths) > 1:
        message = ", ".join(f"{count} images of {dtype}" for dtype, count in depths.items())
        findings.append(finding("mixed_depths", message))
    findings += _compare_channels(inspected, readable["channels"].value_counts())
    findings += _same_pixels(inspected[inspected["pixel_key"] != ""])
    findings.append(finding("mask_values", listing(tally), values=most_frequent(tally, TALLIED_VALUES)))
    pixels = np.zeros(len(classes), np.int64)
    for counts in inspected["class_pixels"]:
        pixels += np.asarray(counts)
    for name, count in zip(classes, pixels.tolist(), strict=True):
        share = count / max(1, pixels.sum())
        if count == 0:
            findings.append(finding("absent_class", name))
        elif share < inspection.rare_class_fraction:
            message = f"{name}: {share:.3%} of the labelled pixels ({count} pixels)"
            findings.append(finding("rare_class", message))
    return findings


def _compare_channels(inspected: pd.DataFrame, channels: pd.Series) -> Iterator[Finding]:
    if set(channels.index) == {1, 3}:
        grey = inspected["channels"] == 1
        yield finding("grey_among_colour", f"{grey.sum()} of {len(inspected)} images are grey: used as RGB")
        inspected["channels"] = inspected["channels"].where(~grey, 3)
        for column in ("channel_mean", "channel_std"):
            inspected[column] = [
                list(v) * 3 if is_grey else v for v, is_grey in zip(inspected[column], grey, strict=True)
            ]
    elif len(channels) > 1:
        yield finding("mixed_channels", ", ".join(f"{n} images with {count} channels" for count, n in channels.items()))


def _same_pixels(usable: pd.DataFrame) -> Iterator[Finding]:
    copies = usable[usable["pixel_key"].duplicated(keep=False)]
    if copies.empty:
        return
    yield finding("same_pixels", f"{len(copies)} images occur more than once: each in one group")
    for _, same in copies.groupby("pixel_key"):
        first = same.iloc[0]
        for _, other in same[same["mask_sha256"] != first["mask_sha256"]].iterrows():
            yield finding(
                "same_image_other_mask",
                f"shows the same as {first['image']}, with another mask",
                sample_id=str(other["sample_id"]),
                file=str(other["image"]),
                other=str(first["sample_id"]),
            )


def pixel_keys(packed: PackedSamples, signatures: NDArray) -> dict[str, str]:
    """Return a key for the pixels of every image: equal where they are equal.

    The same pixels have the same signature. So only images that share theirs with another one are read (from where
    they are packed, not decoded) and hashed; hashing all of them would take half as long as decoding them.

    Args:
        packed: the samples.
        signatures: of them, in their order.
    """
    names = [_image_key(record) for record in signatures]
    times = Counter(names)
    keys = {}
    for sample_id, name in zip(packed.sample_ids, names, strict=True):
        keys[sample_id] = name if times[name] == 1 else pixel_sha256(packed.image(sample_id))
    return keys


def _image_key(signature: np.void) -> str:
    parts = (signature[name].tobytes() for name in IMAGE_FIELDS)
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


def duplicate_findings(
    packed: PackedSamples, inspected: pd.DataFrame, signatures: NDArray, inspection: InspectionParameters
) -> list[Finding]:
    """Find near-identical images, and masks that fit another image better than their own.

    Args:
        packed: the samples that `signatures` belong to, in their order.
        inspected: a row per sample.
        signatures: (samples,) of `SIGNATURE`.
        inspection: from which correlation on images are near-identical.
    """
    ids = packed.sample_ids
    table = inspected.set_index("sample_id")
    files = table["image"].reindex(ids).tolist()
    masks = table["masks"].reindex(ids)
    pixels = pd.factorize(table["pixel_key"].reindex(ids))[0]
    everything = np.arange(len(signatures))
    findings = [
        finding(
            "near_identical",
            f"looks like {files[second]} (correlation {similarity:.3f})",
            sample_id=ids[first],
            file=files[first],
            other=ids[second],
        )
        for first, second, similarity in find_near_duplicates(
            signatures, everything, inspection.near_duplicate_threshold, pixels
        )
    ]
    return findings + [
        finding(
            "better_fit",
            f"fits {files[second]} better ({other:.2f}) than its own image {files[first]} ({own:.2f})",
            sample_id=ids[first],
            file=str(masks.iloc[first][0]),
            other=ids[second],
        )
        for first, second, own, other in find_mismatched_masks(signatures, everything)
    ]


def add_values(tally: Counter[str], values: dict[str, int]) -> None:
    """Add pixels by value, of a limited number of different values."""
    for value, count in values.items():
        if value in tally or len(tally) < TALLIED_VALUES:
            tally[value] += count
