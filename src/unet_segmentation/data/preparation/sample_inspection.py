"""One sample: its files are read, decoded, checked and measured, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.audit.findings import Finding, listing, most_frequent
from unet_segmentation.data.audit.thumbnails import signature
from unet_segmentation.data.data_source import DataSource
from unet_segmentation.data.io.image_decoders import UnreadableError
from unet_segmentation.data.io.image_reader import read_image, read_roi
from unet_segmentation.data.io.mask_encodings import DecodedMask, EncodingError, count_values
from unet_segmentation.data.store.packed_arrays import Image
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

LISTED_VALUES = 32  # of one file, in a finding
MOSTLY_IGNORED = 0.5  # share of ignored pixels that is worth a warning

cv2.setNumThreads(0)  # one image is too little work to share; the threads of inspection have the cores


class IndexedSample(NamedTuple):
    """A row of the index, with plain values: paths relative to the root, empty where there is no file."""

    sample_id: str
    image: str
    masks: list[str]
    roi: str = ""
    group: str | None = None
    split: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> IndexedSample:
        """Build it from a row of a table, whatever the table made of lists and missing values."""
        masks = row["masks"]
        return cls(
            str(row["sample_id"]),
            str(row["image"] or ""),
            [] if masks is None else [str(mask) for mask in masks],  # type: ignore[attr-defined]
            str(row["roi"] or ""),
            None if pd.isna(row["group"]) else str(row["group"]),  # type: ignore[call-overload]
            None if pd.isna(row["split"]) else str(row["split"]),  # type: ignore[call-overload]
        )

    @property
    def files(self) -> list[str]:
        """All files of the sample."""
        return [file for file in (self.image, *self.masks, self.roi) if file]


INDEX_COLUMNS = list(IndexedSample._fields)


@dataclass(frozen=True)
class Measurements:
    """What is measured of a sample: columns of the inspected table."""

    height: int = 0
    width: int = 0
    channels: int = 0
    dtype: str = ""
    image_sha256: str = ""
    mask_sha256: str = ""
    channel_mean: Sequence[float] = ()
    channel_std: Sequence[float] = ()
    minimum: int = 0
    maximum: int = 0
    class_pixels: Sequence[int] = ()
    ignored_pixels: int = 0


@dataclass(frozen=True)
class InspectedSample:
    """The result of inspecting one sample; image and ids are None where the sample cannot be trained on."""

    row: dict[str, object]
    findings: list[Finding]
    values: dict[str, int]
    image: Image | None = None
    ids: NDArray[np.uint8] | None = None
    signature: np.void | None = None


def inspect_sample(sample: IndexedSample, source: DataSource) -> InspectedSample:
    """Read, check and measure one sample."""
    return _Inspection(sample, source).run()


def decode_for_display(sample: IndexedSample, source: DataSource) -> tuple[Image | None, NDArray[np.uint8] | None]:
    """Read what can be read of a sample that was not packed: its image and the class ids of its mask."""
    inspection = _Inspection(sample, source)
    image = inspection.read_image()
    mask = inspection.read_mask()
    return image, None if mask is None else mask.ids


def measure_image(pixels: NDArray[np.integer]) -> Measurements:
    """Measure an image, (height, width, channels) uint8 or uint16; with the population's standard deviation."""
    height, width, channels = pixels.shape
    if channels <= 4:  # OpenCV's limit
        mean, deviation = (values.ravel().tolist() for values in cv2.meanStdDev(pixels))
    else:
        mean = pixels.mean(axis=(0, 1), dtype=np.float64).tolist()
        deviation = pixels.std(axis=(0, 1), dtype=np.float64).tolist()
    low, high = map(int, cv2.minMaxLoc(pixels.reshape(height, width * channels))[:2])
    depth = pixels.dtype.name
    return Measurements(
        height, width, channels, depth, channel_mean=mean, channel_std=deviation, minimum=low, maximum=high
    )


class _Inspection:
    """Collects findings and measurements while the files of one sample are read."""

    def __init__(self, sample: IndexedSample, source: DataSource) -> None:
        self.sample, self.source = sample, source
        self.findings: list[Finding] = []
        self.measurements = Measurements(class_pixels=[0] * len(source.classes))

    def run(self) -> InspectedSample:
        image, mask = self.read_image(), self.read_mask()
        if image is None or mask is None:
            return self._result(mask)
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.ids.shape
        if (height, width) != (mask_height, mask_width):
            kind = "turned_mask" if (width, height) == (mask_height, mask_width) else "size_mismatch"
            sizes = f"is {width} x {height}, its mask {self.sample.masks[0]} {mask_width} x {mask_height}"
            self._report(kind, self.sample.image, sizes)
        ids = mask.ids if self.source.layout.roi is None else self._apply_roi(mask.ids, image.shape[:2])
        self._measure_mask(mask, ids)
        if any(entry.severity == "error" for entry in self.findings):
            return self._result(mask)
        return self._result(mask, image, ids)

    def _result(
        self, mask: DecodedMask | None, image: Image | None = None, ids: NDArray[np.uint8] | None = None
    ) -> InspectedSample:
        row = self.sample._asdict() | vars(self.measurements)
        values = {} if mask is None else mask.values
        thumbnail = None if image is None else signature(image, ids)
        return InspectedSample(row, self.findings, values, image, ids, thumbnail)

    def _report(self, kind: str, file: str, message: str, values: Mapping[str, int] | None = None) -> None:
        values = most_frequent(values or {}, LISTED_VALUES)
        self.findings.append(Finding(kind, message, sample_id=self.sample.sample_id, file=file, values=values))

    def read_image(self) -> Image | None:
        """Decode and measure the image."""
        file = self.sample.image
        if not file:
            self._report("missing_image", self.sample.masks[0] if self.sample.masks else "", "has no image")
            return None
        try:
            image = read_image(self.source.storage, file, self.source.images)
        except UnreadableError as error:
            self._report(error.kind, file, str(error))
            return None
        measured = measure_image(image.pixels)
        self.measurements = replace(measured, image_sha256=image.sha256, class_pixels=self.measurements.class_pixels)
        for kind, message in image.notes:
            self._report(kind, file, message)
        if measured.minimum == measured.maximum:
            self._report("constant_image", file, f"every value is {measured.minimum}")
        return image.pixels

    def read_mask(self) -> DecodedMask | None:
        """Decode the mask, or the masks; the image must have been read before."""
        files, masks = self.sample.masks, self.source.masks
        if not files:
            self._report("missing_mask", self.sample.image, "has no mask")
            return None
        size = (self.measurements.height, self.measurements.width)
        try:
            mask = self.source.mask_decoder.decode(files, self.sample.image, size)
        except UnreadableError as error:
            pixels = error.values if isinstance(error, EncodingError) else {}
            self._report(error.kind, files[0], f"{error}: {listing(pixels)}" if pixels else str(error), pixels)
            return None
        for kind, message in mask.notes:
            if kind != "lossy_mask" or masks.encoding != "threshold":  # which is declared for such files
                self._report(kind, files[0], message)
        if mask.undeclared:
            self._report(mask.undeclared_kind, files[0], listing(mask.undeclared), mask.undeclared)
        return mask

    def _apply_roi(self, ids: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
        """Ignore what lies outside of the region of interest."""
        file = self.sample.roi
        if not file:
            self._report("missing_roi", self.sample.image, "has no region of interest")
            return ids
        try:
            region = read_roi(self.source.storage, file)
        except UnreadableError as error:
            self._report("unreadable_roi", file, str(error))
            return ids
        if region.shape != size or region.shape != ids.shape:
            sizes = f"is {region.shape[1]} x {region.shape[0]}, its image {size[1]} x {size[0]}"
            self._report("size_mismatch", file, sizes)
            return ids
        return np.where(region, ids, np.uint8(IGNORE_INDEX))

    def _measure_mask(self, mask: DecodedMask, ids: NDArray[np.uint8]) -> None:
        counts = mask.counts if mask.counts is not None and ids is mask.ids else count_values(ids)
        ignored = int(counts[IGNORE_INDEX])
        self.measurements = replace(
            self.measurements,
            mask_sha256=mask.sha256,
            class_pixels=counts[: len(self.source.classes)].tolist(),
            ignored_pixels=ignored,
        )
        if mask.undeclared:
            return
        file = self.sample.masks[0]
        if ignored == ids.size:
            self._report("ignored_mask", file, "every pixel is ignored")
        elif counts[0] + ignored == ids.size:
            self._report("empty_mask", file, "holds class 0 alone")
        if MOSTLY_IGNORED < ignored / ids.size < 1:
            self._report("void_share", file, f"{ignored / ids.size:.0%} of the pixels are ignored")
