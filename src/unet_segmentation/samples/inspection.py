"""Inspection: every file is decoded once, on all cores, into findings, statistics per image and packed arrays.

The samples are worked off in parts of some hundreds. A part is named by a hash over its samples' files and the
declarations that decide what is made of them, and is whole or absent: a run that was killed goes on with the next part,
and files that are added later leave most parts as they are. What only the whole data set shows is arithmetic on the
parts' tables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.atomic import remove, whole
from unet_segmentation.memory import keep_freed_memory
from unet_segmentation.parameters import ImageParameters, InspectionParameters, MaskParameters
from unet_segmentation.samples.encodings import DecodedMask, EncodingError, count_values, decode_masks
from unet_segmentation.samples.findings import Finding, finding, findings_table
from unet_segmentation.samples.packing import IGNORED, PackedSamples, PackedWriter, join_parts
from unet_segmentation.samples.reading import UnreadableError, pixel_sha256, read_image, read_roi
from unet_segmentation.samples.resemblance import better_fitting, near_identical
from unet_segmentation.samples.signatures import SIGNATURE, signature
from unet_segmentation.sources.layout import Layout
from unet_segmentation.storage import Storage

FORMAT = 4  # raise it when the same files and parameters would give other tables or arrays
LISTED_VALUES = 32  # of one file, in a finding
TALLIED_VALUES = 1024  # of the whole data set
LARGEST_PART = 256  # samples in a part, on average; smaller data sets have smaller ones, for all cores to have some
PART_BYTES = 1 << 28  # of files, at most, in a part (but for a single larger file)
MOSTLY_VOID = 0.5  # share of ignored pixels that is worth a warning
PARTS = "parts"
IMAGE_FIELDS = ("grey", "colour", "height", "width")  # of a signature: what hangs on the image alone

cv2.setNumThreads(0)  # one image is too little work to share; the threads here have the cores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Declaration:
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
        return _sha256(json.dumps([FORMAT, *text, self.layout.masks]))


@dataclass(frozen=True)
class Inspected:
    """What came of one sample; image and ids are None where they could not be used."""

    row: dict[str, Any]
    findings: list[Finding]
    values: dict[str, int]
    image: NDArray | None = None
    ids: NDArray[np.uint8] | None = None
    signature: np.void | None = None


@dataclass(frozen=True)
class Part:
    """Samples that are packed together: rows `start` to `stop` of the index, and the name of their folder."""

    key: str
    start: int
    stop: int


def inspect_samples(
    indexed: pd.DataFrame,
    storage: Storage,
    declaration: Declaration,
    inspection: InspectionParameters,
    packing_folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, PackedSamples]:
    """Decode, check, measure and pack every sample that was not yet, as it is now.

    Args:
        indexed: a row per sample: `sample_id`, `image`, `masks` (list), `roi`, `group`, `split`.
        storage: where the files lie.
        declaration: what is to be made of them.
        inspection: threads, and what is worth a finding.
        packing_folder: gets `parts/<hash>` and one folder that joins them, named by a hash; older ones are removed.

    Returns:
        The index with what was measured of each sample (`COLUMNS`); the findings; the packed samples (without those
        that have an error).

    Raises:
        ResourceError: the disk is full. Nothing half-written stays; whole parts do.
    """
    parts = plan_parts(indexed, storage, declaration)
    folders = [packing_folder / PARTS / part.key for part in parts]
    target = packing_folder / _sha256(
        json.dumps([FORMAT, [part.key for part in parts], inspection.rare_share, inspection.near_identical])
        + str(pd.util.hash_pandas_object(indexed[["group", "split"]].astype(str), index=False).sum())
    )
    if PackedSamples(target).is_whole():
        logger.info("Samples are as they were inspected and packed before: nothing is decoded again")
    else:
        missing = [part for part, folder in zip(parts, folders, strict=True) if not PackedSamples(folder).is_whole()]
        _pack_parts(missing, indexed, storage, declaration, inspection, packing_folder / PARTS)
        with whole(target) as temporary:
            temporary.mkdir()
            _join(temporary, target, folders, indexed, declaration, inspection)
    _forget(packing_folder, keep={target, packing_folder / PARTS})
    _forget(packing_folder / PARTS, keep=set(folders))
    return _table(target / "inspected.parquet"), _table(target / "findings.parquet"), PackedSamples(target)


def plan_parts(indexed: pd.DataFrame, storage: Storage, declaration: Declaration) -> list[Part]:
    """Cut the index into parts, and name each by what it is made of.

    Where a part ends hangs on the sample itself (on its name, as in content-defined chunking), so that a sample that
    is added or removed changes the part it lies in and no other.
    """
    parts: list[Part] = []
    mean = part_size(len(indexed))
    digest, start, size = hashlib.sha256(declaration.digest().encode()), 0, 0
    for place, sample in enumerate(_samples(indexed)):
        stamps = [storage.stamp(file) for file in _files(sample)]
        digest.update(json.dumps([sample["sample_id"], *_files(sample), *stamps]).encode())
        size += sum(int(stamp.partition(" ")[0]) for stamp in stamps if stamp[:1].isdigit())
        named = hashlib.sha256(sample["sample_id"].encode("utf-8", "surrogateescape")).digest()
        ends = int.from_bytes(named[:4]) % mean == 0
        if ends or place + 1 - start >= 4 * mean or size >= PART_BYTES or place + 1 == len(indexed):
            parts.append(Part(digest.hexdigest()[:16], start, place + 1))
            digest, start, size = hashlib.sha256(declaration.digest().encode()), place + 1, 0
    return parts


def part_size(samples: int) -> int:
    """Choose the mean number of samples in a part: a power of two, about sixteen parts or more."""
    return min(LARGEST_PART, max(4, 1 << (samples // 16).bit_length() >> 1))


def _pack_parts(
    parts: Sequence[Part],
    indexed: pd.DataFrame,
    storage: Storage,
    declaration: Declaration,
    inspection: InspectionParameters,
    folder: Path,
) -> None:
    """Inspect and pack these parts, each in one thread from its first file to its rename.

    Threads, not processes: decoding, hashing and writing release the interpreter's lock, and nothing is copied or
    started. A thread for a part, not for a sample: handing samples around cost a third of the speed.
    """
    begin = time.perf_counter()
    total = sum(part.stop - part.start for part in parts)
    if 0 < total < len(indexed):
        logger.info("%d of %d samples were inspected before", len(indexed) - total, len(indexed))
    keep_freed_memory()
    stopped = threading.Event()

    def pack(part: Part) -> None:
        def results() -> Iterator[Inspected]:
            for sample in _samples(indexed.iloc[part.start : part.stop]):
                if stopped.is_set():
                    raise CancelledError
                yield inspect_sample(sample, storage, declaration)
                advance()

        with whole(folder / part.key) as temporary:
            _write_part(temporary, results())

    with warnings.catch_warnings(), _progress(total) as advance:
        warnings.simplefilter("ignore")  # the decoders', on large pictures and odd metadata
        with ThreadPoolExecutor(inspection.workers or _cores()) as pool:
            waiting = [pool.submit(pack, part) for part in parts]
            try:
                for done in as_completed(waiting):
                    done.result()
            except BaseException:  # an error, or Ctrl-C: the others end with the sample they are at
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
    if total:
        logger.info("Inspected and packed %d samples in %.1f s", total, time.perf_counter() - begin)


def _write_part(folder: Path, results: Iterator[Inspected]) -> None:
    rows, findings, signatures = [], [], []
    tally: Counter[str] = Counter()
    with PackedWriter(folder) as packed:
        for result in results:
            rows.append(result.row)
            findings += result.findings
            _count(tally, result.values)
            if result.image is not None and result.ids is not None:
                packed.add(result.row["sample_id"], result.image, result.ids)
                signatures.append(result.signature)
        np.save(folder / "signatures.npy", np.array(signatures, SIGNATURE))
        (folder / "values.json").write_text(json.dumps(tally), encoding="utf-8")
        findings_table(findings).to_parquet(folder / "findings.parquet")
        _write_rows(folder / "rows.parquet", rows)


COLUMNS = {
    "sample_id": "string",
    "image": "string",
    "masks": "list of string",
    "roi": "string",
    "group": "string",
    "split": "string",
    "height": "int64",
    "width": "int64",
    "channels": "int64",
    "dtype": "string",
    "image_sha256": "string",
    "mask_sha256": "string",
    "channel_mean": "list of float64",
    "channel_std": "list of float64",
    "minimum": "int64",
    "maximum": "int64",
    "class_pixels": "list of int64",
    "ignored_pixels": "int64",
}
"""Columns of the tables of parts and their types. A file that could not be read has 0, "" or [].

The inspected table has one more: `pixel_key`, the same text where the decoded pixels of two images are the same; empty
for a sample that has an error.
"""


def _write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def arrow(name: str) -> pa.DataType:
        inner = name.removeprefix("list of ")
        plain = pa.string() if inner == "string" else pa.from_numpy_dtype(inner)
        return plain if inner == name else pa.list_(plain)

    schema = pa.schema([(name, arrow(type_name)) for name, type_name in COLUMNS.items()])
    pq.write_table(pa.Table.from_pylist(rows, schema), file)


def inspect_sample(sample: dict[str, Any], storage: Storage, declaration: Declaration) -> Inspected:
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


def read_again(
    sample: dict[str, Any], storage: Storage, declaration: Declaration
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
    sample: dict[str, Any], storage: Storage, images: ImageParameters, row: dict[str, Any], found: Callable[..., None]
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
    storage: Storage,
    declaration: Declaration,
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
        listing = f": {_listing(error.values)}" if error.values else ""
        found(error.kind, files[0], f"{error}{listing}", error.values)
        return None
    for kind, message in mask.notes:
        if kind != "lossy_mask" or declaration.masks.encoding != "threshold":  # which is declared for such files
            found(kind, files[0], message)
    if mask.undeclared:
        found(mask.undeclared_kind, files[0], _listing(mask.undeclared), mask.undeclared)
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
    storage: Storage,
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


def _join(
    folder: Path,
    target: Path,
    parts: Sequence[Path],
    indexed: pd.DataFrame,
    declaration: Declaration,
    inspection: InspectionParameters,
) -> None:
    """Join the parts into one folder (which will lie at `target`), and look at the data set as a whole."""
    inspected = pd.concat([_table(part / "rows.parquet") for part in parts] or [pd.DataFrame(columns=list(COLUMNS))])
    inspected = inspected.reset_index(drop=True)
    for column in ("group", "split"):  # no part hangs on them: another split packs nothing again
        inspected[column] = indexed[column].to_numpy()
    tally: Counter[str] = Counter()
    for part in parts:
        _count(tally, json.loads((part / "values.json").read_text(encoding="utf-8")))
    packed = join_parts(folder, parts)
    found = [part_findings for part in parts if len(part_findings := _table(part / "findings.parquet"))]
    with _joined_signatures(folder / "signatures.npy", parts, len(packed)) as signatures:
        inspected["pixel_key"] = inspected["sample_id"].map(pixel_keys(packed, signatures)).fillna("")
        more = summarise(inspected, declaration.classes, inspection, tally)
        more += resembling(packed, inspected, signatures, inspection)
    inspected.to_parquet(folder / "inspected.parquet")
    pd.concat([*found, findings_table(more)]).to_parquet(folder / "findings.parquet")


def pixel_keys(packed: PackedSamples, signatures: NDArray) -> dict[str, str]:
    """Name the pixels of every image: the same name where they are the same.

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


@contextmanager
def _joined_signatures(file: Path, parts: Sequence[Path], count: int) -> Iterator[NDArray]:
    """Lay the signatures of all samples one after the other, in a file: they would be much for the memory."""
    if not count:
        yield np.zeros(0, SIGNATURE)
        return
    joined = np.lib.format.open_memmap(file, mode="w+", dtype=SIGNATURE, shape=(count,))
    place = 0
    for part in parts:
        signatures = np.load(part / "signatures.npy")
        joined[place : place + len(signatures)] = signatures
        place += len(signatures)
    yield joined
    del joined
    file.unlink()


def summarise(
    inspected: pd.DataFrame, classes: list[str], inspection: InspectionParameters, tally: Counter[str]
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
    findings.append(finding("mask_values", _listing(tally), values=_most(tally, TALLIED_VALUES)))
    pixels = np.zeros(len(classes), np.int64)
    for counts in inspected["class_pixels"]:
        pixels += np.asarray(counts)
    for name, count in zip(classes, pixels.tolist(), strict=True):
        share = count / max(1, pixels.sum())
        if count == 0:
            findings.append(finding("absent_class", name))
        elif share < inspection.rare_share:
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
    yield finding("same_pixels", f"{len(copies)} images occur more than once: kept in one group each")
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


def resembling(
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
        for first, second, similarity in near_identical(signatures, everything, inspection.near_identical, pixels)
    ]
    return findings + [
        finding(
            "better_fit",
            f"fits {files[second]} better ({other:.2f}) than its own image {files[first]} ({own:.2f})",
            sample_id=ids[first],
            file=str(masks.iloc[first][0]),
            other=ids[second],
        )
        for first, second, own, other in better_fitting(signatures, everything)
    ]


def _note(
    findings: list[Finding],
    sample_id: str,
    kind: str,
    file: str,
    message: str,
    values: dict[str, int] | None = None,
) -> None:
    most = _most(values or {}, LISTED_VALUES)
    findings.append(finding(kind, message, sample_id=sample_id, file=file, values=most))


def _nothing(classes: int) -> dict[str, Any]:
    """Give the columns of a sample that could not be read."""
    numbers = dict.fromkeys(["height", "width", "channels", "minimum", "maximum", "ignored_pixels"], 0)
    texts = dict.fromkeys(["dtype", "image_sha256", "mask_sha256"], "")
    return numbers | texts | {"channel_mean": [], "channel_std": [], "class_pixels": [0] * classes}


def _count(tally: Counter[str], values: dict[str, int]) -> None:
    """Add pixels by value, of a limited number of different values."""
    for value, count in values.items():
        if value in tally or len(tally) < TALLIED_VALUES:
            tally[value] += count


def _most(values: dict[str, int] | Counter[str], number: int) -> dict[str, int]:
    return dict(sorted(values.items(), key=lambda item: -item[1])[:number])


def _listing(values: dict[str, int] | Counter[str]) -> str:
    """Write pixels by value for people, most frequent first."""
    parts = [f"{value} ({count} pixels)" for value, count in _most(values, 8).items()]
    return ", ".join(parts) + (f" and {len(values) - 8} other values" if len(values) > 8 else "")


INDEX_COLUMNS = ["sample_id", "image", "masks", "roi", "group", "split"]


def _samples(indexed: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Give the index row by row, with plain values."""
    for values in indexed[INDEX_COLUMNS].itertuples(index=False, name=None):
        yield plain_row(dict(zip(INDEX_COLUMNS, values, strict=True)))


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


def _files(sample: dict[str, Any]) -> list[str]:
    return [file for file in (sample["image"], *sample["masks"], sample["roi"]) if file]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar, on a terminal only; gives what is called after each sample."""
    import rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = rich.get_console()
    if not console.is_terminal:
        yield lambda: None
        return
    columns = (TextColumn("Inspecting"), BarColumn(), MofNCompleteColumn(), TextColumn("samples"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def _table(file: Path) -> pd.DataFrame:
    """Read a table and give back at once the memory that Arrow needed for it: half of what ``read_parquet`` keeps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as stream:
        table = stream.read(use_threads=False).to_pandas(use_threads=False, self_destruct=True)
    pa.default_memory_pool().release_unused()
    return table


def _forget(folder: Path, keep: set[Path]) -> None:
    """Remove what earlier data or declarations left."""
    for other in folder.iterdir() if folder.is_dir() else ():
        if other not in keep:
            remove(other)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
