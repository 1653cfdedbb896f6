"""Rasters larger than memory: read, predicted and written window by window."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from errno import ENOSPC
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from unet_segmentation.inference.backends.base import Image, Probabilities
from unet_segmentation.inference.predictor import InputSpec, Predictor
from unet_segmentation.inference.rasters.checkpoint import RasterCheckpoint, State, pack, resumable_rows, unpack
from unet_segmentation.inference.rasters.geojson_writer import GeoJsonWriter
from unet_segmentation.inference.rasters.geotiff import NO_DATA, GeoTiffWriter, RasterSource
from unet_segmentation.inference.rasters.raster_writer import FinishedPart, RasterWriter
from unet_segmentation.inference.rasters.thumbnail import OverlayWriter
from unet_segmentation.inference.rasters.tiling import Span, blending_profiles, place_tiles
from unet_segmentation.inference.sliding_window import argmax_mask, round_up_to_multiple
from unet_segmentation.parameters.data import ImageParameters
from unet_segmentation.utils.atomic_io import atomic_write
from unet_segmentation.utils.threads import prefetch_map

logger = logging.getLogger(__name__)

LARGE = 64_000_000  # pixels; a larger TIFF is worked window by window
SECTION = 64  # tiles, at least, that are computed without looking at those behind them: where a run may resume
LOOKED = 100  # tiles, for one that holds data
ENDINGS = {".tif", ".tiff"}


@dataclass(frozen=True)
class RasterSummary:
    """Counts over a predicted raster."""

    height: int  # in pixels
    width: int  # in pixels
    pixels: NDArray[np.int64]  # (classes,) int64, of each class
    no_data: int  # pixels that hold no data
    confidence: float  # mean probability of the chosen class, over the pixels that hold data; NaN where none does
    tiles: int  # that the network computed
    skipped: int  # tiles without a pixel that holds data


class Tile(NamedTuple):
    """A tile, by its row and column among the tiles."""

    row: int
    column: int


class TileImage(NamedTuple):
    """A tile before the network; `image` is None where no pixel holds data."""

    tile: Tile
    image: Image | None
    valid: NDArray[np.bool_]


class TilePrediction(NamedTuple):
    """A tile after the network; `probabilities` is None where no pixel holds data."""

    tile: Tile
    probabilities: Probabilities | None
    valid: NDArray[np.bool_]


def is_raster(path: Path) -> bool:
    """Return whether a file is a TIFF to be predicted window by window: with coordinates, or more than `LARGE` pixels.

    Only its header is read.
    """
    if path.suffix.lower() not in ENDINGS:
        return False
    try:
        with _quiet(), rasterio.open(path) as file:
            placed = file.crs or not file.transform.is_identity or file.gcps[0] or file.rpcs
            return bool(placed) or file.height * file.width > LARGE
    except RasterioError:  # what it is, reading it will tell
        return False


class RasterFiles(NamedTuple):
    """Files to write; the GeoTIFFs are uint8 with the source's coordinates, 255 where there is no data."""

    target: Path  # class ids
    probabilities: Path | None = None  # a band per class, 0 to 254 for 0 to 1
    overlay: Path | None = None  # a JPEG, see `OverlayWriter`
    polygons: Path | None = None  # a GeoJSON of the regions of every class but 0, see `RegionFile`


def predict_raster(
    predictor: Predictor,
    source: Path,
    files: RasterFiles,
    *,
    images: ImageParameters,
    key: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> RasterSummary:
    """Predict a raster of any size into a GeoTIFF of class ids.

    Tiles are read, computed, blended and written row by row, reading and writing in parallel with the network. Memory
    holds what later tiles still need: it does not depend on the raster's height, and per pixel of its width on
    classes x overlap. The result is that of blending all tiles in memory, to rounding.

    Args:
        predictor: what computes; `predictor.tile_size`, `raster_overlap` and `batch_size` hold.
        source: the raster, in whatever format GDAL reads.
        files: to write.
        images: bands, transparency, and the intensity range mapped to 0..65535.
        key: names source, model and parameters. Finished rows of tiles are kept in a hidden folder next to the target;
            where this call is killed, another one with the same key and files resumes behind them, with the same
            result. None: none is.
        progress: is called with the share of the tiles that are finished.

    Raises:
        DataError: the source is damaged or not what the network takes; names the file and the window.
        ResourceError: the disk is full, or not even one tile fits into memory.
    """
    outputs = [path is not None for path in files[1:]]
    saving = nullcontext() if key is None else resumable_rows(files.target, f"{key} {predictor.backend.name} {outputs}")
    with saving as checkpoint, _opened(predictor.input, source, images) as raster:
        grid = _Grid.of(predictor.input, raster)
        state = {} if checkpoint is None else checkpoint.load()
        with _opened_writers(files, raster, predictor.spec.classes, grid, checkpoint, state) as writers:
            prediction = _RasterPrediction(grid, raster, writers, len(predictor.spec.classes), checkpoint)
            if state:
                prediction.restore(state)
            for number in _predict_tiles(predictor, prediction):
                if progress is not None:
                    progress(number / grid.count)
        return prediction.summary()


def _predict_tiles(predictor: Predictor, prediction: _RasterPrediction) -> Iterator[int]:
    """Predict the tiles that are left, and yield how many are done; one thread reads, another one blends and writes."""
    grid, first = prediction.grid, prediction.progress.rows
    images = prefetch_map(prediction.read, ((tile,) for tile in grid.tiles(first)), threads=1)
    predictions = _predictions(predictor, grid, images)
    added = prefetch_map(prediction.add, ((each,) for each in predictions), threads=1)
    with closing(images), closing(predictions), closing(added):
        for number, _ in enumerate(added, start=1 + first * len(grid.columns)):
            yield number


@contextmanager
def _opened_writers(
    files: RasterFiles,
    raster: RasterSource,
    classes: Sequence[str],
    grid: _Grid,
    checkpoint: RasterCheckpoint | None,
    state: State,
) -> Iterator[list[RasterWriter]]:
    """Open what is written; all files appear when the block ends, the target last, and none of them where it fails."""
    rows = max(span.size for span in grid.rows)
    writers: list[RasterWriter] = []
    with ExitStack() as stack:

        def opened(writer: RasterWriter) -> None:
            stack.callback(writer.close)
            writers.append(writer)

        for number, path in enumerate(files[:2]):
            if path is not None:
                temporary = stack.enter_context(atomic_write(path))
                copies = None if checkpoint is None else partial(checkpoint.path, number)
                opened(GeoTiffWriter(temporary, raster, classes, rows, probabilities=number == 1, copies=copies))
        if files.polygons is not None:
            temporary = stack.enter_context(atomic_write(files.polygons))
            growing = temporary if checkpoint is None else checkpoint.folder / "regions.geojson"
            opened(GeoJsonWriter(temporary, raster, classes, rows, growing=growing, state=state))
        if files.overlay is not None:
            temporary = stack.enter_context(atomic_write(files.overlay))
            opened(OverlayWriter(temporary, raster.height, raster.width, state))
        try:
            yield writers
            for writer in writers:
                writer.finish()
        except RasterioError as error:
            raise OSError(ENOSPC, f"GDAL could not write ({error})", str(files.target)) from error


def preview_work(input_spec: InputSpec, source: Path, images: ImageParameters) -> tuple[Image | None, int]:
    """Return a tile of a raster that holds data, (height, width, channels), and the number of tiles.

    The tile is the middle one, else one of the first; None where these hold no data.

    Raises:
        DataError: the source is damaged or not what the network takes.
    """
    with _opened(input_spec, source, images) as raster:
        grid = _Grid.of(input_spec, raster)
        middle = Tile(len(grid.rows) // 2, len(grid.columns) // 2)
        for tile in islice(chain([middle], grid.tiles(0)), LOOKED):
            image, _ = raster.read(grid.rows[tile.row], grid.columns[tile.column])
            if image is not None:
                return image, grid.count
        return None, grid.count


@contextmanager
def _quiet() -> Iterator[None]:
    """Rasters without coordinates are no reason to warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def _opened(input_spec: InputSpec, source: Path, images: ImageParameters) -> Iterator[RasterSource]:
    with _quiet():
        raster = RasterSource(source, input_spec, images)
        with closing(raster), rasterio.Env(GDAL_CACHEMAX=raster.cache):
            yield raster


@dataclass(frozen=True)
class _Grid:
    """Where the tiles lie, and what their pixels weigh."""

    rows: list[Span]
    columns: list[Span]
    row_weights: list[NDArray[np.float32]]
    column_weights: list[NDArray[np.float32]]

    @classmethod
    def of(cls, input_spec: InputSpec, raster: RasterSource) -> _Grid:
        inference, multiple = input_spec.inference, input_spec.spec.multiple
        side = round_up_to_multiple(inference.tile_size, multiple)
        rows, columns = (
            place_tiles(length, side, inference.raster_overlap, multiple) for length in (raster.height, raster.width)
        )
        return cls(rows, columns, blending_profiles(rows), blending_profiles(columns))

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)

    def section(self, row: int) -> int:
        """Return the number of the section, whole rows of tiles, that a row is in; batches do not reach beyond one."""
        return row // math.ceil(SECTION / len(self.columns))

    def tiles(self, first: int) -> Iterator[Tile]:
        """Return the tiles from a row on."""
        for row in range(first, len(self.rows)):
            for column in range(len(self.columns)):
                yield Tile(row, column)


def _predictions(predictor: Predictor, grid: _Grid, tiles: Iterable[TileImage]) -> Generator[TilePrediction]:
    """Send tiles through the network, as many of one size together as it takes; their order is kept."""
    batch: list[TileImage] = []
    for each in tiles:
        size = grid.rows[each.tile.row].size, grid.columns[each.tile.column].size
        pictures = [other.image for other in batch if other.image is not None]
        other_size = bool(pictures) and pictures[0].shape[:2] != size
        other_section = bool(batch) and grid.section(batch[0].tile.row) != grid.section(each.tile.row)
        if other_size or other_section or (pictures and len(pictures) >= predictor.batch_size(*size)):
            yield from _predict_batch(predictor, batch)
            batch = []
        batch.append(each)
        if all(other.image is None for other in batch):
            yield from _predict_batch(predictor, batch)
            batch = []
    yield from _predict_batch(predictor, batch)


def _predict_batch(predictor: Predictor, batch: list[TileImage]) -> Iterator[TilePrediction]:
    pictures = [each.image for each in batch if each.image is not None]
    predictions = iter(predictor.compute(pictures) if pictures else ())
    for each in batch:
        yield TilePrediction(each.tile, None if each.image is None else next(predictions), each.valid)


@dataclass
class _Progress:
    """What is needed to resume between two rows of tiles."""

    below: NDArray[np.float32]  # (classes, overlap, width): what the finished rows leave to the next one
    pixels: NDArray[np.int64]  # (classes,)
    rows: int = 0  # that are finished
    no_data: int = 0
    confidence: float = 0.0
    skipped: int = 0


class _RasterPrediction:
    """Blends tiles that come row by row, and writes what no later tile will change.

    A finished tile leaves two things: to its right a strip that the next tile of the row adds to (`_right`), and
    below it one that the next row adds to (the progress's `below`). Pixels of a tile without data are without data in
    its neighbors, too, so such a tile may leave anything.
    """

    def __init__(
        self,
        grid: _Grid,
        raster: RasterSource,
        writers: Sequence[RasterWriter],
        classes: int,
        checkpoint: RasterCheckpoint | None,
    ) -> None:
        self.grid, self._raster, self._writers, self._checkpoint = grid, raster, writers, checkpoint
        self._right: NDArray[np.float32] | None = None
        overlap = max((one.stop - other.start for one, other in pairwise(grid.rows)), default=0)
        below = np.zeros((classes, overlap, grid.columns[-1].stop), np.float32)
        self.progress = _Progress(below, np.zeros(classes, np.int64))

    def restore(self, state: State) -> None:
        """Resume from a state: write the rows of tiles that were finished before."""
        self.progress = unpack("progress", _Progress, state)
        for writer in self._writers:
            if isinstance(writer, GeoTiffWriter):
                writer.restore(self.progress.rows)
        rows = len(self.grid.rows)
        logger.info("Resuming after %d of %d rows of tiles that were finished before", self.progress.rows, rows)

    def read(self, tile: Tile) -> TileImage:
        """Read a tile; called by one thread."""
        rows, columns = self.grid.rows[tile.row], self.grid.columns[tile.column]
        image, valid = self._raster.read(rows, columns)
        if image is not None:
            for writer in self._writers:
                writer.add_image(image, rows.start, columns.start)
        return TileImage(tile, image, valid)

    def add(self, prediction: TilePrediction) -> None:
        """Add a tile, in the order of the grid; called by one thread."""
        row, column = prediction.tile
        start = self.grid.columns[column].start
        height = _finished(self.grid.rows, row, self._raster.height)
        width = _finished(self.grid.columns, column, self._raster.width)
        if prediction.probabilities is None:
            self.progress.skipped, self._right = self.progress.skipped + 1, None
            finished = np.zeros((len(self.progress.pixels), height, width), np.float32)
        else:
            finished = self._blended(prediction.tile, prediction.probabilities, height, width)
        columns = slice(start, start + width)
        self._put(finished, prediction.valid[:height, :width], self.grid.rows[row].start, columns)
        if column == len(self.grid.columns) - 1:
            self._end_row(row, height)

    def _blended(self, tile: Tile, probabilities: Probabilities, height: int, width: int) -> Probabilities:
        """Add what earlier tiles left, keep what later ones need, and give the finished part."""
        weights = np.outer(self.grid.row_weights[tile.row], self.grid.column_weights[tile.column])
        total = probabilities * weights
        if self._right is not None:
            total[:, :, : self._right.shape[2]] += self._right
        last = tile.column == len(self.grid.columns) - 1
        self._right = None if last else total[:, :, width:].copy()
        start = self.grid.columns[tile.column].start
        below = self.progress.below[:, :, start : start + width]
        if tile.row:
            above = self.grid.rows[tile.row - 1].stop - self.grid.rows[tile.row].start
            total[:, :above, :width] += below[:, :above]
        if tile.row < len(self.grid.rows) - 1:
            left = total[:, height:, :width]
            below[:, : left.shape[1]] = left
        return total[:, :height, :width]

    def _put(self, probabilities: Probabilities, valid: NDArray[np.bool_], top: int, columns: slice) -> None:
        mask = argmax_mask(probabilities)
        mask[~valid] = NO_DATA
        counts = np.bincount(mask.ravel(), minlength=NO_DATA + 1)
        self.progress.pixels += counts[: len(probabilities)]
        self.progress.no_data += int(counts[NO_DATA])
        confidence = probabilities.max(axis=0)
        self.progress.confidence += float(confidence[valid].sum(dtype=np.float64))
        for writer in self._writers:
            writer.put(FinishedPart(probabilities, mask, confidence, top, columns))

    def _end_row(self, row: int, height: int) -> None:
        self._right = None
        for writer in self._writers:
            writer.end_row(row, height)
        self.progress.rows = row + 1
        if self._checkpoint is not None and self.grid.section(row + 1) != self.grid.section(row):
            self._checkpoint.save(self._state)

    def _state(self) -> State:
        state = pack("progress", self.progress)
        for writer in self._writers:
            state |= writer.state()
        return state

    def summary(self) -> RasterSummary:
        """Return the counts."""
        progress, counted = self.progress, int(self.progress.pixels.sum())
        return RasterSummary(
            self._raster.height,
            self._raster.width,
            progress.pixels,
            progress.no_data,
            progress.confidence / counted if counted else float("nan"),
            self.grid.count - progress.skipped,
            progress.skipped,
        )


def _finished(spans: list[Span], number: int, length: int) -> int:
    """Return how many pixels of a tile no later tile will change."""
    stop = spans[number + 1].start if number + 1 < len(spans) else length
    return stop - spans[number].start
