"""Checks of the whole data set: depths and channels that differ, copies, near-duplicates, rare classes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.audit.findings import TALLIED_VALUES, Finding, listing, most_frequent
from unet_segmentation.data.audit.near_duplicates import find_mismatched_masks, find_near_duplicates
from unet_segmentation.data.io.image_decoders import pixel_sha256
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import InspectionParameters

IMAGE_FIELDS = ("gray", "color", "height", "width")  # of a signature: what hangs on the image alone


def dataset_findings(
    inspected: pd.DataFrame, classes: Sequence[str], inspection: InspectionParameters, tally: Counter[str]
) -> list[Finding]:
    """Find what only the whole data set shows.

    Gray images among color images become color images in the table, which is changed in place. The tally has the
    pixels by mask value, over all files.
    """
    if inspected.empty:
        return [Finding("no_samples", "there is no sample")]
    findings: list[Finding] = []
    readable = inspected[inspected["height"] > 0]
    depths = readable["dtype"].value_counts()
    if len(depths) > 1:
        message = ", ".join(f"{count} images of {dtype}" for dtype, count in depths.items())
        findings.append(Finding("mixed_depths", message))
    findings += _compare_channels(inspected, readable["channels"].value_counts())
    findings += _same_pixels(inspected[inspected["pixel_key"] != ""])
    findings.append(Finding("mask_values", listing(tally), values=most_frequent(tally, TALLIED_VALUES)))
    pixels = np.array(inspected["class_pixels"].tolist(), np.int64).sum(axis=0)
    for name, count in zip(classes, pixels.tolist(), strict=True):
        share = count / max(1, pixels.sum())
        if count == 0:
            findings.append(Finding("absent_class", name))
        elif share < inspection.rare_class_fraction:
            message = f"{name}: {share:.3%} of the labeled pixels ({count} pixels)"
            findings.append(Finding("rare_class", message))
    return findings


def _compare_channels(inspected: pd.DataFrame, channels: pd.Series) -> Iterator[Finding]:
    if set(channels.index) == {1, 3}:
        gray = inspected["channels"] == 1
        yield Finding("gray_among_color", f"{gray.sum()} of {len(inspected)} images are gray: used as RGB")
        inspected["channels"] = inspected["channels"].where(~gray, 3)
        for column in ("channel_mean", "channel_std"):
            inspected[column] = [
                list(v) * 3 if is_gray else v for v, is_gray in zip(inspected[column], gray, strict=True)
            ]
    elif len(channels) > 1:
        yield Finding("mixed_channels", ", ".join(f"{n} images with {count} channels" for count, n in channels.items()))


def _same_pixels(usable: pd.DataFrame) -> Iterator[Finding]:
    copies = usable[usable["pixel_key"].duplicated(keep=False)]
    if copies.empty:
        return
    yield Finding("same_pixels", f"{len(copies)} images occur more than once: each in one group")
    for _, same in copies.groupby("pixel_key"):
        first = same.iloc[0]
        message = f"shows the same as {first['image']}, with another mask"
        for _, other in same[same["mask_sha256"] != first["mask_sha256"]].iterrows():
            about = (str(other["sample_id"]), str(other["image"]))
            yield Finding("same_image_other_mask", message, *about, other=str(first["sample_id"]))


def pixel_keys(packed: PackedSamples, signatures: NDArray[Any]) -> dict[str, str]:
    """Return a key for the pixels of every image: equal where they are equal.

    The same pixels have the same signature (`signatures` are in the order of the samples). So only images that share
    theirs with another one are read (from where they are packed, not decoded) and hashed; hashing all of them would
    take half as long as decoding them.
    """
    names = [
        hashlib.sha256(b"".join(record[name].tobytes() for name in IMAGE_FIELDS)).hexdigest()[:32]
        for record in signatures
    ]
    times = Counter(names)
    return {
        sample_id: name if times[name] == 1 else pixel_sha256(packed.image(sample_id))
        for sample_id, name in zip(packed.sample_ids, names, strict=True)
    }


def duplicate_findings(
    packed: PackedSamples, inspected: pd.DataFrame, signatures: NDArray[Any], inspection: InspectionParameters
) -> list[Finding]:
    """Find near-identical images, and masks that fit another image better than their own.

    The signatures, (samples,) of `SIGNATURE`, are those of the packed samples, in their order.
    """
    ids = packed.sample_ids
    table = inspected.set_index("sample_id").reindex(ids)
    files, masks = table["image"].tolist(), table["masks"].tolist()
    pixels = pd.factorize(table["pixel_key"])[0]
    rows = np.arange(len(signatures))
    pairs = find_near_duplicates(signatures, rows, inspection.near_duplicate_threshold, pixels)
    findings = []
    for first, second, similarity in pairs:
        message = f"looks like {files[second]} (correlation {similarity:.3f})"
        findings.append(Finding("near_identical", message, ids[first], files[first], other=ids[second]))
    for first, second, own, other in find_mismatched_masks(signatures, rows):
        message = f"fits {files[second]} better ({other:.2f}) than its own image {files[first]} ({own:.2f})"
        findings.append(Finding("better_fit", message, ids[first], str(masks[first][0]), other=ids[second]))
    return findings
