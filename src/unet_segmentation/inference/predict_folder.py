"""The pass over images without masks: read beside the network, predicted, written beside the network."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import rich
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_reader import UnreadableError, read_image
from unet_segmentation.errors import DataError, ProjectError
from unet_segmentation.inference.backends.base import Backend, Image, NullBackend, Probabilities
from unet_segmentation.inference.channel_adaptation import image_parameters, with_channels
from unet_segmentation.inference.input_discovery import Input
from unet_segmentation.inference.out_of_distribution import ood_flags
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.progress_log import ProgressLog, Row
from unet_segmentation.inference.writers import COCO, OVERLAY, POLYGONS, PredictionWriter
from unet_segmentation.parameters import InferenceParameters, PredictorParameters
from unet_segmentation.utils.atomic_io import remove
from unet_segmentation.utils.prefetch import prefetch_map

logger = logging.getLogger(__name__)

EXAMPLES = 3  # images that the backend is chosen on
DONE, BROKEN = "ok", "failed"  # the column `status`


class DecodedInput(NamedTuple):
    """An image that was read; `pixels` is None where that failed, `message` says why."""

    image: Input
    pixels: NDArray | None
    flags: list[str]
    message: str


class FolderPredictor:
    """Predicts images into a folder.

    Args:
        specification: of the network.
        inference: how it is applied.
        storage: where the images are.
        folder: of the results.
        wanted: which results.
        key: of the model and the parameters: what another key has finished is predicted anew.
    """

    def __init__(
        self,
        specification: Mapping[str, Any],
        inference: PredictorParameters,
        storage: FileStore,
        folder: Path,
        wanted: InferenceParameters,
        key: str,
    ) -> None:
        self._specification, self._inference, self._storage = specification, inference, storage
        self._images, self._known = image_parameters(specification), specification.get("typical")
        self._folder, self._wanted, self._key = folder, wanted, key
        self._predictor = Predictor.of(specification, NullBackend(), inference)
        self._seen: dict[str, DecodedInput] = {}  # images that were read to choose the backend

    def run(self, inputs: Sequence[Input], choose: Callable[[list[Image], int], Backend]) -> list[Row]:
        """Predict what is not finished yet.

        Args:
            inputs: the images.
            choose: gives the backend, from a few batches as it will meet them, and the number of images.

        Returns:
            A row for each, in their order: image, mask, height, width, share/<class>, confidence, no_data, flags,
            status, message.

        Raises:
            ResourceError: the disk is full, or memory does not do for one image.
            ProjectError: another process predicts into this folder.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _alone(self._folder):
            ledger = ProgressLog(self._folder, self._key)
            rows = {} if self._wanted.overwrite else ledger.finished(inputs)
            if rows:
                logger.info("%d of %d images were finished before", len(rows), len(inputs))
            outputs = PredictionWriter(self._folder, self._predictor.classes, self._wanted)
            left = [each for each in inputs if each.path not in rows]
            if left:
                backend = choose(*self._examples(left))
                self._predictor = Predictor.of(self._specification, backend, self._inference)
            for each, row in self._rows(left, outputs):
                rows[each.path] = row
                if row["status"] == DONE:
                    ledger.add(each, row)
            ordered = [rows[each.path] for each in inputs]
            if self._wanted.polygons:
                done = [row for row in ordered if row["status"] == DONE]
                outputs.join_annotations(done, {each.path: each.name for each in inputs})
            outputs.close()
        return ordered

    def _examples(self, inputs: Sequence[Input]) -> tuple[list[Image], int]:
        """Return a few batches as the backend will meet them, and how many there will be.

        Images that are read for it are kept: none is decoded twice. Of rasters only the first counts, by a tile.
        """
        rasters = [each for each in inputs if self._is_raster(each)]
        plain = [each for each in inputs if each not in rasters]
        self._seen = {each.path: self._read(each) for each in plain[:EXAMPLES]}
        examples = [self._predictor.example(seen.pixels) for seen in self._seen.values() if seen.pixels is not None]
        count = len(plain)
        for each in rasters[:1]:
            tile, tiles = self._preview(each)
            examples += [] if tile is None else [tile[None]]
            count += tiles
        return examples, count

    def _preview(self, image: Input) -> tuple[Image | None, int]:
        from unet_segmentation.inference.rasters.predict_raster import preview_work

        try:
            return preview_work(self._predictor, Path(self._storage.root, image.path), self._images)
        except DataError:  # it will be told when its turn comes
            return None, 0

    def _rows(self, inputs: Sequence[Input], outputs: PredictionWriter) -> Iterator[tuple[Input, Row]]:
        """Return the row of every image when its files are written."""
        started, rasters = time.perf_counter(), [each for each in inputs if self._is_raster(each)]
        apart = {each.path for each in rasters}
        plain = [each for each in inputs if each.path not in apart]
        broken: deque[DecodedInput] = deque()
        with _bar(len(inputs)) as bar:
            written = prefetch_map(lambda *parts: self._write(outputs, *parts), self._predicted(plain, broken))
            for each, row in written:
                yield each, row
                bar(1)
            for reading in broken:
                yield reading.image, _broken(reading.image, reading.message)
                bar(1)
            for each in rasters:
                yield each, self._raster(outputs, each, bar)
        if count := len(inputs) - len(broken):
            seconds = time.perf_counter() - started
            rate, name = count / max(seconds, 1e-9), self._predictor.backend.name
            logger.info("Predicted %d images in %.1f s (%.1f images/s) with %s", count, seconds, rate, name)

    def _predicted(
        self, inputs: Sequence[Input], broken: deque[DecodedInput]
    ) -> Iterator[tuple[DecodedInput, Probabilities]]:
        waiting: deque[DecodedInput] = deque()

        def pixels() -> Iterator[NDArray]:
            for reading in prefetch_map(self._read, ((each,) for each in inputs)):
                if reading.pixels is None:
                    logger.warning("%s %s", reading.image.path, reading.message)
                    broken.append(reading)
                else:
                    waiting.append(reading)
                    yield reading.pixels

        for probabilities in self._predictor.predict_many(pixels()):
            yield waiting.popleft(), probabilities

    def _read(self, image: Input) -> DecodedInput:
        if image.path in self._seen:
            return self._seen.pop(image.path)
        try:
            found = read_image(self._storage, image.path, self._images).pixels
            pixels = self._predictor.checked(with_channels(found, self._predictor.channels, self._images))
        except (UnreadableError, DataError) as error:
            return DecodedInput(image, None, [], str(error))
        return DecodedInput(image, pixels, ood_flags(pixels, self._known), "")

    def _write(
        self, outputs: PredictionWriter, reading: DecodedInput, probabilities: Probabilities
    ) -> tuple[Input, Row]:
        assert reading.pixels is not None
        row = outputs.write(reading.image.path, reading.image.name, reading.pixels, probabilities)
        return reading.image, {**row, "flags": "; ".join(reading.flags), "status": DONE, "message": ""}

    # -- rasters

    def _is_raster(self, image: Input) -> bool:
        """Only files on the disk are read window by window."""
        if not self._storage.is_local or "#" in image.path:
            return False
        from unet_segmentation.inference.rasters.predict_raster import is_raster

        return is_raster(Path(self._storage.root, image.path))

    def _raster(self, outputs: PredictionWriter, image: Input, bar: Any) -> Row:  # noqa: ANN401 - a function
        from unet_segmentation.inference.rasters.checkpoint import folder_of
        from unet_segmentation.inference.rasters.predict_raster import predict_raster

        source, target = Path(self._storage.root, image.path), outputs.path(image.name, ".tif")
        probabilities = outputs.path(image.name, "_probabilities.tif") if self._wanted.probabilities else None
        overlay = outputs.path(image.name, OVERLAY) if self._wanted.overlay else None
        polygons = outputs.path(image.name, POLYGONS) if self._wanted.polygons else None
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._wanted.overwrite:
            remove(folder_of(target))
        shown = 0.0

        def progress(share: float) -> None:
            nonlocal shown
            bar(share - shown)
            shown = share

        try:
            found = predict_raster(
                self._predictor,
                source,
                target,
                images=self._images,
                probabilities=probabilities,
                overlay=overlay,
                polygons=polygons,
                key=f"{self._key} {image.stamp}" if image.stamp else None,
                progress=progress,
            )
        except DataError as error:
            logger.warning("%s", error)
            return _broken(image, str(error))
        finally:
            bar(1 - shown)
        size, left = (found.height, found.width), found.no_data
        row = outputs.row(image.path, target, size, found.pixels, found.confidence, left)
        message = f"raster: not in {COCO}" if self._wanted.polygons else ""
        return {**row, "status": DONE, "message": message}


def cache_key(**parts: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """Name what results depend on.

    >>> key_of(model="a") == key_of(model="a"), key_of(model="a") == key_of(model="b")
    (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _broken(image: Input, message: str) -> Row:
    return {"image": image.path, "status": BROKEN, "message": message}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second process from the same folder of results."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ProjectError(
            f"Another process is predicting into {folder}. Wait for it, or give another folder: --output FOLDER"
        ) from None


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    """Show how many images are finished; the function that is given takes how many more."""
    console = rich.get_console()
    columns = TextColumn("Predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)
