"""Inspection: every file is decoded once, on all cores, into findings, statistics per image and packed arrays."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.atomic import remove, whole
from unet_segmentation.parameters.preparation import ImageParameters, InspectionParameters, MaskParameters
from unet_segmentation.samples.encodings import DecodedMask, EncodingError, decode_masks
from unet_segmentation.samples.findings import KINDS
from unet_segmentation.samples.packing import IGNORED, PackedSamples, PackedWriter
from unet_segmentation.samples.reading import DecodedImage, UnreadableError, pixel_sha256, read_image
from unet_segmentation.storage import Storage

FORMAT = 1  # raise it when the same files and parameters would give other tables or arrays
LISTED_VALUES = 32  # of one file, in a finding
TALLIED_VALUES = 1024  # of the whole data set

logger = logging.getLogger(__name__)
Severity = Literal["error", "warning", "note"]
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Finding:
    """Something to know about a file or the data set.

    Attributes:
        severity: `error` stops the run, `warning` is shown, `note` is kept.
        kind: what it is; `judging` has a heading for each.
        sample_id: empty where it concerns the data set.
        file: relative to the raw folder.
        message: what is wrong with it.
        values: JSON of pixels by mask value, where it is about values; else empty.
    """

    severity: Severity
    kind: str
    sample_id: str
    file: str
    message: str
    values: str = ""


@dataclass(frozen=True)
class Inspected:
    """What came of one sample; image and ids are None where they could not be read."""

    row: dict[str, Any]
    findings: list[Finding]
    values: dict[str, int]
    image: NDArray | None = None
    ids: NDArray[np.uint8] | None = None


def inspect_samples(
    indexed: pd.DataFrame,
    root: Path,
    classes: list[str],
    masks: MaskParameters,
    inspection: InspectionParameters,
    packing_folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, PackedSamples]:
    """Decode, check, measure and pack every sample, or find that nothing changed since this was done last.

    Args:
        indexed: a row per sample: `sample_id`, `image`, `masks` (list), `group`, `split`; paths relative to `root`.
        root: the raw folder.
        classes: names, in the order of their ids.
        masks: how masks are encoded.
        inspection: threads, and which class counts as rare.
        packing_folder: gets one folder per content, named by a hash; older ones are removed.

    Returns:
        The index with what was measured of each sample; the findings; the packed samples (without those that have
        an error).

    Raises:
        ResourceError: the disk is full. Nothing half-written stays.
    """
    target = packing_folder / content_key(indexed, root, classes, masks, inspection)
    if PackedSamples(target).is_whole():
        logger.info("Samples are as they were inspected and packed before: nothing is decoded again")
    else:
        with whole(target) as temporary:  # a folder that is not whole is replaced
            _inspect_into(temporary, indexed, root, classes, masks, inspection)
    for other in packing_folder.iterdir():
        if other != target:
            remove(other)
    return _table(target / "inspected.parquet"), _table(target / "findings.parquet"), PackedSamples(target)


def content_key(
    indexed: pd.DataFrame, root: Path, classes: list[str], masks: MaskParameters, inspection: InspectionParameters
) -> str:
    """Hash everything that inspection depends on: the index, the files' sizes and times, and the declarations."""
    digest = hashlib.sha256(
        f"{FORMAT} {inspection.rare_share} {masks.model_dump_json()} {json.dumps(classes)}".encode()
    )
    for sample in _samples(indexed):
        digest.update(json.dumps([str(value) for value in sample.values()]).encode())
        for file in (sample["image"], *sample["masks"]):
            try:
                status = (root / file).stat()
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
            except OSError:
                digest.update(b"missing")
    return digest.hexdigest()[:16]


def _inspect_into(
    folder: Path,
    indexed: pd.DataFrame,
    root: Path,
    classes: list[str],
    masks: MaskParameters,
    inspection: InspectionParameters,
) -> None:
    start = time.perf_counter()
    findings: list[Finding] = []
    tally: Counter[str] = Counter()
    inspect = partial(inspect_sample, root=root, classes=classes, masks=masks)
    with PackedWriter(folder) as packed, _Rows(folder / "inspected.parquet") as rows, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on large pictures and odd metadata
        items = _with_progress(_samples(indexed), len(indexed))
        for result in _in_order(inspect, items, inspection.workers or _cores()):
            rows.add(result.row)
            findings += result.findings
            for value, count in result.values.items():
                if value in tally or len(tally) < TALLIED_VALUES:
                    tally[value] += count
            if result.image is not None and result.ids is not None and packed.dtype in {None, result.image.dtype}:
                packed.add(result.row["sample_id"], result.image, result.ids)
    inspected, more = summarise(_table(rows.file), classes, inspection, tally)
    inspected.to_parquet(rows.file)
    table = pd.DataFrame([asdict(finding) for finding in findings + more], columns=list(Finding.__annotations__))
    table.to_parquet(folder / "findings.parquet")
    logger.info("Inspected and packed %d samples in %.1f s", len(indexed), time.perf_counter() - start)


COLUMNS = {
    "sample_id": "string",
    "image": "string",
    "masks": "list of string",
    "group": "string",
    "split": "string",
    "height": "int64",
    "width": "int64",
    "channels": "int64",
    "dtype": "string",
    "image_sha256": "string",
    "mask_sha256": "string",
    "pixel_sha256": "string",
    "channel_mean": "list of float64",
    "channel_std": "list of float64",
    "minimum": "int64",
    "maximum": "int64",
    "class_pixels": "list of int64",
    "ignored_pixels": "int64",
}
"""Columns of the inspected table and their types in the file. A file that could not be read has 0, "" or []."""


class _Rows:
    """Writes rows to a Parquet file in batches, so that memory does not grow with their number."""

    BATCH = 512

    def __init__(self, file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        def arrow(name: str) -> pa.DataType:
            inner = name.removeprefix("list of ")
            plain = pa.string() if inner == "string" else pa.from_numpy_dtype(inner)
            return plain if inner == name else pa.list_(plain)

        self.file = file
        self._schema = pa.schema([(name, arrow(type_name)) for name, type_name in COLUMNS.items()])
        self._writer = pq.ParquetWriter(file, self._schema)
        self._waiting: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if kind is None:
                self._flush()

    def add(self, row: dict[str, Any]) -> None:
        self._waiting.append(row)
        if len(self._waiting) == self.BATCH:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._waiting, self._schema))
        self._waiting.clear()


def inspect_sample(sample: dict[str, Any], root: Path, classes: list[str], masks: MaskParameters) -> Inspected:
    """Read and measure one sample.

    Args:
        sample: a row of the index.
        root: the raw folder.
        classes: names, in the order of their ids.
        masks: how masks are encoded.
    """
    findings: list[Finding] = []
    found = partial(_note, findings, sample["sample_id"])
    row = sample | _nothing(len(classes))
    image = _inspect_image(sample, root, row, found)
    mask = _inspect_mask(sample, root, row, found, masks, classes)
    if image is not None and mask is not None and image.shape[:2] != mask.ids.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.ids.shape
        sizes = f"is {width} x {height}, its mask {sample['masks'][0]} {mask_width} x {mask_height}"
        found("error", "size_mismatch", sample["image"], sizes)
    values = mask.values if mask else {}
    if mask is None or any(finding.severity == "error" for finding in findings):
        return Inspected(row, findings, values)
    return Inspected(row, findings, values, image, mask.ids)


def _inspect_image(
    sample: dict[str, Any], root: Path, row: dict[str, Any], found: Callable[..., None]
) -> NDArray | None:
    """Decode and measure the image; fill in the row, note what is found."""
    file = sample["image"]
    if not file:
        found("error", "missing_image", sample["masks"][0] if sample["masks"] else "", "has no image")
        return None
    try:
        image = read_image(Storage(root), file, ImageParameters())
    except UnreadableError as error:
        found("error", error.kind, file, str(error))
        return None
    row.update(_measured(image))
    for kind, message in image.notes:
        found(KINDS[kind].severity, kind, file, message)
    if row["minimum"] == row["maximum"]:
        found("warning", "constant_image", file, f"every value is {row['minimum']}")
    return image.pixels


def _inspect_mask(
    sample: dict[str, Any],
    root: Path,
    row: dict[str, Any],
    found: Callable[..., None],
    masks: MaskParameters,
    classes: list[str],
) -> DecodedMask | None:
    """Decode the mask and count its classes; fill in the row, note what is found."""
    if len(sample["masks"]) != 1:
        kind = "several_masks" if sample["masks"] else "missing_mask"
        found("error", kind, sample["image"], f"has {len(sample['masks']) or 'no'} mask" + "s" * bool(sample["masks"]))
        return None
    (file,) = sample["masks"]
    try:
        size = row["height"], row["width"]
        mask = decode_masks(Storage(root), [file], [None], masks, classes, sample["image"], size)
    except UnreadableError as error:
        found("error", error.kind, file, str(error))
        return None
    except EncodingError as error:
        found("error", error.kind, file, f"{error}: {_listing(error.values)}", error.values)
        return None
    for kind, message in mask.notes:
        found(KINDS[kind].severity, kind, file, message)
    counts = np.bincount(mask.ids.ravel(), minlength=IGNORED + 1).tolist()
    row.update(mask_sha256=mask.sha256, class_pixels=counts[: len(classes)], ignored_pixels=counts[IGNORED])
    if mask.undeclared:
        found("error", mask.undeclared_kind, file, _listing(mask.undeclared), mask.undeclared)
    elif counts[IGNORED] == mask.ids.size:
        found("warning", "ignored_mask", file, "every pixel is ignored")
    return mask


def summarise(
    inspected: pd.DataFrame, classes: list[str], inspection: InspectionParameters, tally: Counter[str]
) -> tuple[pd.DataFrame, list[Finding]]:
    """Find what only the whole data set shows; grey images among colour images become colour images.

    Args:
        inspected: a row per sample.
        classes: names, in the order of their ids.
        inspection: which class counts as rare.
        tally: pixels by mask value, over all files.
    """
    findings: list[Finding] = []
    found = partial(_note, findings, "")
    if inspected.empty:
        found("error", "no_samples", "", "there is no sample")
        return inspected, findings
    readable = inspected[inspected["height"] > 0]
    depths = readable["dtype"].value_counts()
    if len(depths) > 1:
        counts = ", ".join(f"{count} images of {dtype}" for dtype, count in depths.items())
        found("error", "mixed_depths", "", counts)
    grey = inspected["channels"] == 1
    if grey.any() and (inspected["channels"] == 3).any():
        found("note", "grey_among_colour", "", f"{grey.sum()} of {len(inspected)} images are grey: used as RGB")
        inspected["channels"] = inspected["channels"].where(~grey, 3)
        for column in ("channel_mean", "channel_std"):
            inspected[column] = [
                list(v) * 3 if is_grey else v for v, is_grey in zip(inspected[column], grey, strict=True)
            ]
    copies = readable["pixel_sha256"].duplicated(keep=False)
    if copies.any():
        found("note", "same_pixels", "", f"{copies.sum()} images occur more than once: kept in one group each")
    found("note", "mask_values", "", _listing(tally), dict(tally.most_common()))
    pixels = np.array(inspected["class_pixels"].tolist(), dtype=np.int64).sum(axis=0)
    for name, count in zip(classes, pixels.tolist(), strict=True):
        share = count / max(1, pixels.sum())
        if count == 0:
            found("error", "absent_class", "", name)
        elif share < inspection.rare_share:
            found("warning", "rare_class", "", f"{name}: {share:.3%} of the labelled pixels ({count} pixels)")
    return inspected, findings


def _note(
    findings: list[Finding],
    sample_id: str,
    severity: Severity,
    kind: str,
    file: str,
    message: str,
    values: dict[str, int] | None = None,
) -> None:
    most = sorted((values or {}).items(), key=lambda item: -item[1])[: LISTED_VALUES if sample_id else TALLIED_VALUES]
    findings.append(Finding(severity, kind, sample_id, file, message, json.dumps(dict(most)) if values else ""))


def _nothing(classes: int) -> dict[str, Any]:
    """Give the columns of a sample that could not be read."""
    numbers = dict.fromkeys(["height", "width", "channels", "minimum", "maximum", "ignored_pixels"], 0)
    texts = dict.fromkeys(["dtype", "image_sha256", "mask_sha256", "pixel_sha256"], "")
    return numbers | texts | {"channel_mean": [], "channel_std": [], "class_pixels": [0] * classes}


def _measured(image: DecodedImage) -> dict[str, Any]:
    """Measure an image. Mean and (population) standard deviation by channel, in raw pixel units, from histograms."""
    height, width, channels = image.pixels.shape
    histograms = [np.bincount(image.pixels[:, :, channel].ravel()) for channel in range(channels)]
    means, deviations = zip(*(_moments(histogram) for histogram in histograms), strict=True)
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "dtype": image.pixels.dtype.name,
        "image_sha256": image.sha256,
        "pixel_sha256": pixel_sha256(image.pixels),
        "channel_mean": list(means),
        "channel_std": list(deviations),
        "minimum": min(int(np.flatnonzero(histogram)[0]) for histogram in histograms),
        "maximum": max(len(histogram) - 1 for histogram in histograms),
    }


def _moments(histogram: NDArray[np.int64]) -> tuple[float, float]:
    values = np.arange(len(histogram), dtype=np.float64)
    count = histogram.sum()
    mean = (histogram @ values) / count
    return float(mean), float(np.sqrt(histogram @ (values - mean) ** 2 / count))


def _listing(values: dict[str, int] | Counter[str]) -> str:
    """Write pixels by value for people, most frequent first."""
    most = sorted(values.items(), key=lambda item: -item[1])
    parts = [f"{value} ({count} pixels)" for value, count in most[:8]]
    return ", ".join(parts) + (f" and {len(most) - 8} other values" if len(most) > 8 else "")


def _samples(indexed: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Give the index row by row, with plain values."""
    columns = ["sample_id", "image", "masks", "group", "split"]
    for values in indexed[columns].itertuples(index=False, name=None):
        sample = dict(zip(columns, values, strict=True))
        masks = [] if sample["masks"] is None else [str(mask) for mask in sample["masks"]]
        group, split = (None if pd.isna(sample[name]) else str(sample[name]) for name in ("group", "split"))
        yield sample | {"image": sample["image"] or "", "masks": masks, "group": group, "split": split}


def _in_order(function: Callable[[Given], Result], items: Iterable[Given], threads: int) -> Iterator[Result]:
    """Map with threads, in order, with few results waiting: memory does not grow with the number of items.

    Threads, not processes: decoding and hashing release the interpreter's lock, and nothing is copied or started.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _with_progress(items: Iterable[Given], total: int) -> Iterator[Given]:
    """Show a progress bar, on a terminal only."""
    import rich
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = rich.get_console()
    columns = (
        TextColumn("Inspecting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("samples"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield from progress.track(items, total=total)


def _table(file: Path) -> pd.DataFrame:
    """Read a table and give back at once the memory that Arrow needed for it: half of what ``read_parquet`` keeps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as stream:
        table = stream.read(use_threads=False).to_pandas(use_threads=False, self_destruct=True)
    pa.default_memory_pool().release_unused()
    return table


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
