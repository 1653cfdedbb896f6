"""One sample: its files are read, decoded, checked and measured, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.audit.findings import Finding, finding, listing, most_frequent
from unet_segmentation.data.audit.thumbnails import signature
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_reader import UnreadableError, read_image, read_roi
from unet_segmentation.data.io.mask_encodings import DecodedMask, EncodingError, count_values, decode_masks
from unet_segmentation.data.layout.layout import Layout
from unet_segmentation.data.store.packed_arrays import IGNORED
from unet_segmentation.parameters import ImageParameters, MaskParameters

FORMAT = 5  # raise it when the same files and parameters would give other tables or arrays
LISTED_VALUES = 32  # of one file, in a finding
MOSTLY_VOID = 0.5  # share of ignored pixels that is worth a warning
INDEX_COLUMNS = ["sample_id", "image", "masks", "roi", "group", "split"]

cv2.setNumThreads(0)  # one image is too little work to share; the threads of inspection have the cores


@dataclass(frozen=True)
class DataSpec:
    """All that decides what is made of a file.

    Attributes:
        classes: names, in the order of their ids.
        images: how image values are taken.
        masks: how masks are encoded.
        layout: tells which class a mask shows, where there is one mask per class.
    """

    classes: list[str]
    images: ImageParameters
    masks: MaskParameters
    layout: Layout

    def digest(self) -> str:
        """Hash it, with the version of this module's format."""
        text = [self.classes, self.images.model_dump(mode="json"), self.masks.model_dump(mode="json")]
        return hashlib.sha256(json.dumps([FORMAT, *text, self.layout.masks]).encode()).hexdigest()


@dataclass(frozen=True)
class Inspected:
    """What came of one sample; image and ids are None where they could not be used."""

    row: dict[str, Any]
    findings: list[Finding]
    values: dict[str, int]
    image: NDArray | None = None
    ids: NDArray[np.uint8] | None = None
    signature: np.void | None = None


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Take a row of the index out of whatever a table made of it."""
    masks = row["masks"]
    return {
        "sample_id": str(row["sample_id"]),
        "image": row["image"] or "",
        "masks": [] if masks is None else [str(mask) for mask in masks],
        "roi": row["roi"] or "",
        "group": None if pd.isna(row["group"]) else str(row["group"]),
        "split": None if pd.isna(row["split"]) else str(row["split"]),
    }


def inspect_sample(sample: dict[str, Any], storage: FileStore, declaration: DataSpec) -> Inspected:
    """Read and measure one sample.

    Args:
        sample: a row of the index.
        storage: where its files lie.
        declaration: what is to be made of them.
    """
    findings: list[Finding] = []
    found = partial(_note, findings, sample["sample_id"])
    row = sample | _nothing(len(declaration.classes))
    image = _inspect_image(sample, storage, declaration.images, row, found)
    mask = _inspect_mask(sample, storage, declaration, row, found)
    if image is None or mask is None:
        return Inspected(row, findings, mask.values if mask else {})
    _compare_sizes(sample, image.shape[:2], mask.ids.shape, found)
    ids = mask.ids
    if declaration.layout.roi is not None:
        ids = _inside(sample, storage, ids, image.shape[:2], found)
    _measure_mask(sample, mask, ids, row, found)
    if any(entry.severity == "error" for entry in findings):
        return Inspected(row, findings, mask.values)
    return Inspected(row, findings, mask.values, image, ids, signature(image, ids))


def decode_for_display(
    sample: dict[str, Any], storage: FileStore, declaration: DataSpec
) -> tuple[NDArray | None, NDArray[np.uint8] | None]:
    """Read what can be read of a sample that was not packed, to show it: its image and the class ids of its mask.

    Args:
        sample: a row of the index.
        storage: where its files lie.
        declaration: what is to be made of them.
    """
    row = dict(sample) | _nothing(len(declaration.classes))

    def ignore(*_: object) -> None:  # it was said before
        pass

    image = _inspect_image(sample, storage, declaration.images, row, ignore)
    mask = _inspect_mask(sample, storage, declaration, row, ignore)
    return image, None if mask is None else mask.ids


def _inspect_image(
    sample: dict[str, Any], storage: FileStore, images: ImageParameters, row: dict[str, Any], found: Callable[..., None]
) -> NDArray | None:
    """Decode and measure the image; fill in the row, note what is found."""
    file = sample["image"]
    if not file:
        found("missing_image", sample["masks"][0] if sample["masks"] else "", "has no image")
        return None
    try:
        image = read_image(storage, file, images)
    except UnreadableError as error:
        found(error.kind, file, str(error))
        return None
    row.update(measure_image(image.pixels), image_sha256=image.sha256)
    for kind, message in image.notes:
        found(kind, file, message)
    if row["minimum"] == row["maximum"]:
        found("constant_image", file, f"every value is {row['minimum']}")
    return image.pixels


def _inspect_mask(
    sample: dict[str, Any],
    storage: FileStore,
    declaration: DataSpec,
    row: dict[str, Any],
    found: Callable[..., None],
) -> DecodedMask | None:
    """Decode the mask, or the masks; note what is found."""
    files = sample["masks"]
    if not files:
        found("missing_mask", sample["image"], "has no mask")
        return None
    labels = [declaration.layout.label(file) for file in files]
    size = (row["height"], row["width"])
    try:
        mask = decode_masks(storage, files, labels, declaration.masks, declaration.classes, sample["image"], size)
    except UnreadableError as error:
        found(error.kind, files[0], str(error))
        return None
    except EncodingError as error:
        values = f": {listing(error.values)}" if error.values else ""
        found(error.kind, files[0], f"{error}{values}", error.values)
        return None
    for kind, message in mask.notes:
        if kind != "lossy_mask" or declaration.masks.encoding != "threshold":  # which is declared for such files
            found(kind, files[0], message)
    if mask.undeclared:
        found(mask.undeclared_kind, files[0], listing(mask.undeclared), mask.undeclared)
    return mask


def _compare_sizes(
    sample: dict[str, Any], image: tuple[int, ...], mask: tuple[int, ...], found: Callable[..., None]
) -> None:
    if image != mask:
        kind = "turned_mask" if image == mask[::-1] else "size_mismatch"
        sizes = f"is {image[1]} x {image[0]}, its mask {sample['masks'][0]} {mask[1]} x {mask[0]}"
        found(kind, sample["image"], sizes)


def _inside(
    sample: dict[str, Any],
    storage: FileStore,
    ids: NDArray[np.uint8],
    size: tuple[int, ...],
    found: Callable[..., None],
) -> NDArray[np.uint8]:
    """Ignore what lies outside of the region of interest."""
    if not sample["roi"]:
        found("missing_roi", sample["image"], "has no region of interest")
        return ids
    try:
        region = read_roi(storage, sample["roi"])
    except UnreadableError as error:
        found("unreadable_roi", sample["roi"], str(error))
        return ids
    if region.shape != size or region.shape != ids.shape:
        sizes = f"is {region.shape[1]} x {region.shape[0]}, its image {size[1]} x {size[0]}"
        found("size_mismatch", sample["roi"], sizes)
        return ids
    return np.where(region, ids, np.uint8(IGNORED))


def _measure_mask(
    sample: dict[str, Any],
    mask: DecodedMask,
    ids: NDArray[np.uint8],
    row: dict[str, Any],
    found: Callable[..., None],
) -> None:
    classes = len(row["class_pixels"])
    counts = mask.counts if mask.counts is not None and ids is mask.ids else count_values(ids)
    ignored = int(counts[IGNORED])
    row.update(mask_sha256=mask.sha256, class_pixels=counts[:classes].tolist(), ignored_pixels=ignored)
    file = sample["masks"][0]
    if mask.undeclared:
        return
    if ignored == ids.size:
        found("ignored_mask", file, "every pixel is ignored")
    elif counts[0] + ignored == ids.size:
        found("empty_mask", file, "holds class 0 alone")
    if MOSTLY_VOID < ignored / ids.size < 1:
        found("void_share", file, f"{ignored / ids.size:.0%} of the pixels are ignored")


def measure_image(pixels: NDArray) -> dict[str, Any]:
    """Measure an image: size, depth, and by channel mean and (population) standard deviation in raw units.

    Args:
        pixels: (height, width, channels) uint8 or uint16.
    """
    height, width, channels = pixels.shape
    planes = pixels if channels <= 4 else pixels.reshape(height, width * channels)  # OpenCV's limit
    if channels <= 4:
        mean, deviation = (values.ravel().tolist() for values in cv2.meanStdDev(planes))
    else:
        mean = pixels.mean(axis=(0, 1), dtype=np.float64).tolist()
        deviation = pixels.std(axis=(0, 1), dtype=np.float64).tolist()
    low, high, _, _ = cv2.minMaxLoc(pixels.reshape(height, width * channels))
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "dtype": pixels.dtype.name,
        "channel_mean": mean,
        "channel_std": deviation,
        "minimum": int(low),
        "maximum": int(high),
    }


def _note(
    findings: list[Finding],
    sample_id: str,
    kind: str,
    file: str,
    message: str,
    values: dict[str, int] | None = None,
) -> None:
    most = most_frequent(values or {}, LISTED_VALUES)
    findings.append(finding(kind, message, sample_id=sample_id, file=file, values=most))


def _nothing(classes: int) -> dict[str, Any]:
    """Return the columns of a sample that could not be read."""
    numbers = dict.fromkeys(["height", "width", "channels", "minimum", "maximum", "ignored_pixels"], 0)
    texts = dict.fromkeys(["dtype", "image_sha256", "mask_sha256"], "")
    return numbers | texts | {"channel_mean": [], "channel_std": [], "class_pixels": [0] * classes}
