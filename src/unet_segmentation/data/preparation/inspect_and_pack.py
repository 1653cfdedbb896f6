"""Inspection: every file is decoded once, on all cores, into findings, statistics per image and packed arrays.

The samples are inspected in parts of some hundreds. A part is named by a hash over its samples' files and the
declarations that decide what they become, and is written atomically: a run that was killed continues with the next
part, and files that are added later leave most parts as they are. The checks of one sample are in
`sample_inspection`, those of the whole data set in `audit.dataset_checks`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.audit.dataset_checks import dataset_findings, duplicate_findings, pixel_keys
from unet_segmentation.data.audit.findings import add_values, findings_table
from unet_segmentation.data.audit.thumbnails import SIGNATURE
from unet_segmentation.data.data_source import FORMAT, DataSource
from unet_segmentation.data.preparation.sample_inspection import (
    INDEX_COLUMNS,
    IndexedSample,
    InspectedSample,
    Measurements,
    inspect_sample,
)
from unet_segmentation.data.store.packed_arrays import PackedSamples, PackedWriter, join_parts
from unet_segmentation.parameters import InspectionParameters
from unet_segmentation.utils.atomic_io import atomic_write, remove
from unet_segmentation.utils.machine import usable_cores
from unet_segmentation.utils.memory import tune_malloc

MAX_PART_SIZE = 256  # samples in a part, on average; smaller data sets have smaller ones, for all cores to have some
PART_BYTES = 1 << 28  # of files, at most, in a part (but for a single larger file)
PARTS = "parts"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Samples that are packed together: rows `start` to `stop` of the index, and the name of their folder."""

    key: str
    start: int
    stop: int


def inspect_samples(
    indexed: pd.DataFrame, source: DataSource, inspection: InspectionParameters, packing_dir: Path
) -> tuple[pd.DataFrame, pd.DataFrame, PackedSamples]:
    """Decode, check, measure and pack every sample that has not been packed as it is now.

    Args:
        indexed: a row per sample: `sample_id`, `image`, `masks` (list), `roi`, `group`, `split`.
        source: where the files are, and how they are read.
        inspection: threads, and what is worth a finding.
        packing_dir: for `parts/<hash>` and one folder that joins them, named by a hash; older ones are removed.

    Returns:
        The index with what was measured of each sample (`COLUMNS`); the findings; the packed samples (without those
        that have an error).

    Raises:
        ResourceError: the disk is full. Nothing half-written stays; whole parts do.
    """
    parts = plan_parts(indexed, source)
    folders = [packing_dir / PARTS / part.key for part in parts]
    groups_and_splits = pd.util.hash_pandas_object(indexed[["group", "split"]].astype(str), index=False).sum()
    thresholds = [inspection.rare_class_fraction, inspection.near_duplicate_threshold]
    contents = json.dumps([FORMAT, [part.key for part in parts], *thresholds]) + str(groups_and_splits)
    target = packing_dir / hashlib.sha256(contents.encode()).hexdigest()[:16]
    if PackedSamples(target).is_whole():
        logger.info("The samples have not changed since they were packed: nothing is decoded again")
    else:
        missing = [part for part, folder in zip(parts, folders, strict=True) if not PackedSamples(folder).is_whole()]
        _pack_parts(missing, indexed, source, inspection, packing_dir / PARTS)
        with atomic_write(target) as temporary:
            temporary.mkdir()
            _join(temporary, folders, indexed, source.classes, inspection)
    _remove_others(packing_dir, {target, packing_dir / PARTS})
    _remove_others(packing_dir / PARTS, set(folders))
    return _table(target / "inspected.parquet"), _table(target / "findings.parquet"), PackedSamples(target)


def plan_parts(indexed: pd.DataFrame, source: DataSource) -> list[Part]:
    """Cut the index into parts, and name each by a hash of its files and of how they are read.

    Where a part ends depends on the sample itself (on its name, as in content-defined chunking), so that a sample that
    is added or removed changes the part it lies in and no other.
    """
    parts: list[Part] = []
    mean = min(MAX_PART_SIZE, max(4, 1 << (len(indexed) // 16).bit_length() >> 1))  # for about 16 parts or more
    digest, start, size = hashlib.sha256(source.digest().encode()), 0, 0
    for stop, sample in enumerate(_samples(indexed), start=1):
        stamps = [source.storage.stamp(file) for file in sample.files]
        digest.update(json.dumps([sample.sample_id, *sample.files, *stamps]).encode())
        size += sum(int(stamp.partition(" ")[0]) for stamp in stamps if stamp[:1].isdigit())
        id_hash = hashlib.sha256(sample.sample_id.encode("utf-8", "surrogateescape")).digest()
        ends = int.from_bytes(id_hash[:4]) % mean == 0
        if ends or stop - start >= 4 * mean or size >= PART_BYTES or stop == len(indexed):
            parts.append(Part(digest.hexdigest()[:16], start, stop))
            digest, start, size = hashlib.sha256(source.digest().encode()), stop, 0
    return parts


def _pack_parts(
    parts: Sequence[Part], indexed: pd.DataFrame, source: DataSource, inspection: InspectionParameters, folder: Path
) -> None:
    """Inspect and pack these parts, each in one thread from its first file to its rename.

    Threads, not processes: decoding, hashing and writing release the interpreter's lock, and nothing is copied or
    started. A thread for a part, not for a sample: handing samples from thread to thread cost a third of the speed.
    """
    begin = time.perf_counter()
    total = sum(part.stop - part.start for part in parts)
    if 0 < total < len(indexed):
        logger.info("%d of %d samples were inspected before", len(indexed) - total, len(indexed))
    tune_malloc()
    stopped = threading.Event()

    def pack(part: Part) -> None:
        def results() -> Iterator[InspectedSample]:
            for sample in _samples(indexed.iloc[part.start : part.stop]):
                if stopped.is_set():
                    raise CancelledError
                yield inspect_sample(sample, source)
                advance()

        with atomic_write(folder / part.key) as temporary:
            _write_part(temporary, results())

    with warnings.catch_warnings(), _progress(total) as advance:
        warnings.simplefilter("ignore")  # the decoders', on large pictures and odd metadata
        with ThreadPoolExecutor(inspection.workers or usable_cores()) as pool:
            futures = [pool.submit(pack, part) for part in parts]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:  # an error, or Ctrl-C: the others end with the sample they are at
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
    if total:
        logger.info("Inspected and packed %d samples in %.1f s", total, time.perf_counter() - begin)


def _write_part(folder: Path, results: Iterator[InspectedSample]) -> None:
    rows, findings, signatures = [], [], []
    tally: Counter[str] = Counter()
    with PackedWriter(folder) as packed:
        for result in results:
            rows.append(result.row)
            findings += result.findings
            add_values(tally, result.values)
            if result.image is not None and result.ids is not None:
                packed.add(str(result.row["sample_id"]), result.image, result.ids)
                signatures.append(result.signature)
        np.save(folder / "signatures.npy", np.array(signatures, SIGNATURE))
        (folder / "values.json").write_text(json.dumps(tally), encoding="utf-8")
        if findings:
            findings_table(findings).to_parquet(folder / "findings.parquet")
        _write_rows(folder / "rows.parquet", rows)


COLUMNS = get_type_hints(IndexedSample) | get_type_hints(Measurements)
"""Columns of the tables of parts and their types. A file that could not be read has 0, "" or [].

The inspected table has one more: `pixel_key`, the same text where the decoded pixels of two images are the same; empty
for a sample that has an error.
"""


def _write_rows(file: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, integer = pa.string(), pa.int64()
    types: dict[object, pa.DataType] = {str: text, str | None: text, list[str]: pa.list_(text)}
    types |= {int: integer, Sequence[int]: pa.list_(integer), Sequence[float]: pa.list_(pa.float64())}
    schema = pa.schema([(column, types[hint]) for column, hint in COLUMNS.items()])
    pq.write_table(pa.Table.from_pylist(rows, schema), file)


def _join(
    folder: Path, parts: Sequence[Path], indexed: pd.DataFrame, classes: Sequence[str], inspection: InspectionParameters
) -> None:
    """Join the parts in one folder, and check the data set as a whole."""
    inspected = pd.concat([_table(part / "rows.parquet") for part in parts] or [pd.DataFrame(columns=list(COLUMNS))])
    inspected = inspected.reset_index(drop=True)
    for column in ("group", "split"):  # no part depends on them: another split packs nothing again
        inspected[column] = indexed[column].to_numpy()
    tally: Counter[str] = Counter()
    for part in parts:
        add_values(tally, json.loads((part / "values.json").read_text(encoding="utf-8")))
    packed = join_parts(folder, parts)
    findings = [_table(file) for part in parts if (file := part / "findings.parquet").is_file()]
    with _joined_signatures(folder / "signatures.npy", parts, len(packed)) as signatures:
        inspected["pixel_key"] = inspected["sample_id"].map(pixel_keys(packed, signatures)).fillna("")
        more = dataset_findings(inspected, classes, inspection, tally)
        more += duplicate_findings(packed, inspected, signatures, inspection)
    inspected.to_parquet(folder / "inspected.parquet")
    pd.concat([*findings, findings_table(more)]).to_parquet(folder / "findings.parquet")


@contextmanager
def _joined_signatures(file: Path, parts: Sequence[Path], count: int) -> Iterator[NDArray[Any]]:
    """Yield the signatures of all samples as one memory-mapped array: they may be too many for the memory."""
    if not count:
        yield np.zeros(0, SIGNATURE)
        return
    joined = np.lib.format.open_memmap(file, mode="w+", dtype=SIGNATURE, shape=(count,))
    start = 0
    for part in parts:
        signatures = np.load(part / "signatures.npy")
        joined[start : start + len(signatures)] = signatures
        start += len(signatures)
    yield joined
    del joined
    file.unlink()


def _samples(indexed: pd.DataFrame) -> Iterator[IndexedSample]:
    for values in indexed[INDEX_COLUMNS].itertuples(index=False, name=None):
        yield IndexedSample.from_row(dict(zip(INDEX_COLUMNS, values, strict=True)))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar, on a terminal only; yields the function to call after each sample."""
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
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def _table(file: Path) -> pd.DataFrame:
    """Read a table and release at once the memory that Arrow needed for it: half of what ``read_parquet`` holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as stream:
        table = stream.read(use_threads=False).to_pandas(use_threads=False, self_destruct=True)
    pa.default_memory_pool().release_unused()
    return table


def _remove_others(folder: Path, current: set[Path]) -> None:
    """Remove the results of earlier data or declarations."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path not in current:
            remove(path)
