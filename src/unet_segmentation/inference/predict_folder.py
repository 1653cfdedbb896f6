"""Batch inference: images are read, predicted and written, in parallel with the network."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import rich
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError
from unet_segmentation.data.io.image_reader import read_image
from unet_segmentation.data.statistics import ReferenceStatistics
from unet_segmentation.errors import DataError, ProjectError
from unet_segmentation.inference.backends.base import Backend, Image, Probabilities
from unet_segmentation.inference.channel_adaptation import image_parameters, with_channels
from unet_segmentation.inference.input_discovery import Input
from unet_segmentation.inference.out_of_distribution import ood_flags
from unet_segmentation.inference.predictor import InputSpec, Predictor
from unet_segmentation.inference.summary import FAILED, OK
from unet_segmentation.inference.writers import COCO, OVERLAY, POLYGONS, PredictionWriter, Row
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import ImageParameters, InferenceParameters, PredictorParameters
from unet_segmentation.utils.atomic_io import remove
from unet_segmentation.utils.threads import prefetch_map

logger = logging.getLogger(__name__)

EXAMPLES = 3  # images that the backend is chosen on
PROGRESS = ".finished.jsonl"


class DecodedInput(NamedTuple):
    """An image that was read; `pixels` is None where that failed, `message` says why."""

    image: Input
    pixels: NDArray[Any] | None
    flags: list[str]
    message: str


@dataclass(frozen=True)
class FolderJob:
    """What is predicted into a folder, and how."""

    spec: ModelSpec  # of the model
    inference: PredictorParameters  # how it is applied
    storage: FileStore  # where the images are
    folder: Path  # of the results
    outputs: InferenceParameters  # which results
    key: str  # of the model and the parameters: what was finished with another key is predicted again

    @cached_property
    def input(self) -> InputSpec:
        """Return what the model takes."""
        return InputSpec(self.spec, self.inference)

    @cached_property
    def images(self) -> ImageParameters:
        """Return how images are read."""
        return image_parameters(self.spec)

    @cached_property
    def reference(self) -> ReferenceStatistics | None:
        """Return what the training images are like; None where the model does not say."""
        return None if self.spec.typical is None else ReferenceStatistics.model_validate(self.spec.typical)

    def read(self, image: Input) -> DecodedInput:
        """Read and check an image."""
        try:
            decoded = read_image(self.storage, image.path, self.images).pixels
            pixels = self.input.validate(with_channels(decoded, self.spec.in_channels, self.images))
        except (UnreadableError, DataError) as error:
            return DecodedInput(image, None, [], str(error))
        return DecodedInput(image, pixels, ood_flags(pixels, self.reference), "")


class ProgressLog:
    """A log of the finished images of a folder, a line each, so that a run that was killed resumes where it stopped.

    A line is written when all files of an image are whole. Lines with another `key`, of what made them (model,
    parameters), do not count.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._file, self._key = folder, folder / PROGRESS, key

    def finished(self, inputs: Iterable[Input]) -> dict[str, Row]:
        """Return the rows of the images that are finished, and whose files are as they were."""
        stamps = {each.path: each.stamp for each in inputs}
        rows: dict[str, Row] = {}
        for line in self._lines():
            path = line["row"]["image"]
            if line["key"] == self._key and line["stamp"] and stamps.get(path) == line["stamp"]:
                rows[path] = line["row"]
        return {path: row for path, row in rows.items() if (self._folder / row["mask"]).is_file()}

    def add(self, image: Input, row: Row) -> None:
        """Note that an image is finished."""
        line = json.dumps({"key": self._key, "stamp": image.stamp, "row": row})
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}")  # a line break first: what was cut off by a kill stays a line of its own

    def _lines(self) -> Iterable[dict[str, Any]]:
        if not self._file.is_file():
            return
        with self._file.open(encoding="utf-8", errors="replace") as stream:
            for text in stream:
                try:
                    line = json.loads(text)
                    yield {"key": line["key"], "stamp": line["stamp"], "row": dict(line["row"])}
                except (ValueError, TypeError, KeyError):  # empty, or cut off by a kill
                    continue


@dataclass(frozen=True)
class FolderPlan:
    """What is left to do in a folder."""

    inputs: Sequence[Input]  # all images
    finished: Mapping[str, Row]  # rows of those that were finished before, by path
    plain: Sequence[Input]  # images to predict that fit into memory
    rasters: Sequence[Input]  # images to predict window by window
    readings: dict[str, DecodedInput]  # images of `plain` that were read already, by path: none is decoded twice
    examples: list[Image]  # a few batches as the network will meet them
    expected_images: int  # to predict, tiles of the first raster counted one by one


def plan_folder(job: FolderJob, inputs: Sequence[Input]) -> FolderPlan:
    """Find out what is not finished yet, and read a few images, from which a backend can be chosen."""
    finished = {} if job.outputs.overwrite else ProgressLog(job.folder, job.key).finished(inputs)
    if finished:
        logger.info("%d of %d images were finished before", len(finished), len(inputs))
    plain: list[Input] = []
    rasters: list[Input] = []
    for each in inputs:
        if each.path not in finished:
            (rasters if _is_raster(job.storage, each) else plain).append(each)
    readings = {each.path: job.read(each) for each in plain[:EXAMPLES]}
    examples = [job.input.example(reading.pixels) for reading in readings.values() if reading.pixels is not None]
    count = len(plain)
    if rasters:
        tile, tiles = _preview(job, rasters[0])
        examples += [] if tile is None else [tile[None]]
        count += tiles
    return FolderPlan(inputs, finished, plain, rasters, readings, examples, count)


def predict_folder(job: FolderJob, plan: FolderPlan, backend: Backend) -> list[Row]:
    """Predict what is left.

    Returns:
        A row for each image, in their order: image, mask, height, width, share/<class>, confidence, no_data, flags,
        status, message.

    Raises:
        ResourceError: the disk is full, or memory does not do for one image.
    """
    log, rows = ProgressLog(job.folder, job.key), dict(plan.finished)
    outputs = PredictionWriter(job.folder, job.spec.classes, job.outputs)
    for each, row in FolderPredictor(job, plan, backend, outputs).rows():
        rows[each.path] = row
        if row["status"] == OK:
            log.add(each, row)
    ordered = [rows[each.path] for each in plan.inputs]
    if job.outputs.polygons:
        done = [row for row in ordered if row["status"] == OK]
        outputs.join_annotations(done, {each.path: each.name for each in plan.inputs})
    outputs.close()
    return ordered


class FolderPredictor:
    """One pass over the images of a plan: read and written by threads, in parallel with the network."""

    def __init__(self, job: FolderJob, plan: FolderPlan, backend: Backend, outputs: PredictionWriter) -> None:
        self._job, self._plan, self._outputs = job, plan, outputs
        self._predictor = Predictor(job.spec, backend, job.inference)

    def rows(self) -> Iterator[tuple[Input, Row]]:
        """Yield the row of every image when its files are written."""
        started, plan = time.perf_counter(), self._plan
        total = len(plan.plain) + len(plan.rasters)
        failed: deque[DecodedInput] = deque()
        with _bar(total) as bar:
            written = prefetch_map(self._write, self._predicted(failed))
            for each, row in written:
                yield each, row
                bar(1)
            for reading in failed:
                yield reading.image, _failed_row(reading.image, reading.message)
                bar(1)
            for each in plan.rasters:
                yield each, self._raster(each, bar)
        if count := total - len(failed):
            seconds = time.perf_counter() - started
            rate, name = count / max(seconds, 1e-9), self._predictor.backend.name
            logger.info("Predicted %d images in %.1f s (%.1f images/s) with %s", count, seconds, rate, name)

    def _predicted(self, failed: deque[DecodedInput]) -> Iterator[tuple[DecodedInput, Probabilities]]:
        waiting: deque[DecodedInput] = deque()

        def pixels() -> Iterator[NDArray[Any]]:
            for reading in prefetch_map(self._read, ((each,) for each in self._plan.plain)):
                if reading.pixels is None:
                    logger.warning("%s %s", reading.image.path, reading.message)
                    failed.append(reading)
                else:
                    waiting.append(reading)
                    yield reading.pixels

        for probabilities in self._predictor.predict_many(pixels()):
            yield waiting.popleft(), probabilities

    def _read(self, image: Input) -> DecodedInput:
        return self._plan.readings.pop(image.path, None) or self._job.read(image)

    def _write(self, reading: DecodedInput, probabilities: Probabilities) -> tuple[Input, Row]:
        assert reading.pixels is not None
        row = self._outputs.write(reading.image.path, reading.image.name, reading.pixels, probabilities)
        return reading.image, {**row, "flags": "; ".join(reading.flags), "status": OK, "message": ""}

    def _raster(self, image: Input, bar: Callable[[float], None]) -> Row:
        from unet_segmentation.inference.rasters.checkpoint import folder_of
        from unet_segmentation.inference.rasters.predict_raster import RasterFiles, predict_raster

        job, path = self._job, self._outputs.path
        files = RasterFiles(
            path(image.name, ".tif"),
            path(image.name, "_probabilities.tif") if job.outputs.probabilities else None,
            path(image.name, OVERLAY) if job.outputs.overlay else None,
            path(image.name, POLYGONS) if job.outputs.polygons else None,
        )
        files.target.parent.mkdir(parents=True, exist_ok=True)
        if job.outputs.overwrite:
            remove(folder_of(files.target))
        shown = 0.0

        def progress(share: float) -> None:
            nonlocal shown
            bar(share - shown)
            shown = share

        try:
            summary = predict_raster(
                self._predictor,
                Path(job.storage.root, image.path),
                files,
                images=job.images,
                key=f"{job.key} {image.stamp}" if image.stamp else None,
                progress=progress,
            )
        except DataError as error:
            logger.warning("%s", error)
            return _failed_row(image, str(error))
        finally:
            bar(1 - shown)
        size, left = (summary.height, summary.width), summary.no_data
        row = self._outputs.row(image.path, files.target, size, summary.pixels, summary.confidence, left)
        message = f"raster: not in {COCO}" if job.outputs.polygons else ""
        return {**row, "status": OK, "message": message}


def _is_raster(storage: FileStore, image: Input) -> bool:
    if not storage.is_local or "#" in image.path:  # only whole files on the disk are read window by window
        return False
    from unet_segmentation.inference.rasters.predict_raster import is_raster

    return is_raster(Path(storage.root, image.path))


def _preview(job: FolderJob, image: Input) -> tuple[Image | None, int]:
    from unet_segmentation.inference.rasters.predict_raster import preview_work

    try:
        return preview_work(job.input, Path(job.storage.root, image.path), job.images)
    except DataError:  # it is reported when its turn comes
        return None, 0


def cache_key(**parts: object) -> str:
    """Hash what results depend on, JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _failed_row(image: Input, message: str) -> Row:
    return {"image": image.path, "status": FAILED, "message": message}


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep a second process from the same folder of results: it gets a ProjectError."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ProjectError(
            f"Another process is predicting into {folder}. Wait for it, or give another folder: --output FOLDER"
        ) from None


@contextmanager
def _bar(total: int) -> Iterator[Callable[[float], None]]:
    """Show how many images are finished; the function that is given takes how many more."""
    console = rich.get_console()
    columns = TextColumn("Predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)
