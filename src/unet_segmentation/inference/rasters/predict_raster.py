"""Rasters larger than memory: read, predicted and written window by window."""

from __future__ import annotations

import logging
import math
import warnings
from collections import ChainMap
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from unet_segmentation.inference.backends.base import Image, Mask, Probabilities
from unet_segmentation.inference.predictor import ModelInput, Predictor
from unet_segmentation.inference.rasters.checkpoint import RasterCheckpoint, State, kept_rows
from unet_segmentation.inference.rasters.geojson_writer import RegionTarget
from unet_segmentation.inference.rasters.geotiff import (
    NO_DATA,
    SCALE,
    RasterSource,
    RasterTarget,
    add_overviews,
    written,
)
from unet_segmentation.inference.rasters.thumbnail import Preview
from unet_segmentation.inference.rasters.tiling import Span, blending_profiles, place_tiles
from unet_segmentation.inference.sliding_window import argmax_mask, round_up_to_multiple
from unet_segmentation.parameters.data import ImageParameters
from unet_segmentation.utils.atomic_io import atomic_write, link_or_copy
from unet_segmentation.utils.threads import prefetch_map
from unet_segmentation.visualization import as_jpeg

logger = logging.getLogger(__name__)

LARGE = 64_000_000  # pixels; a larger TIFF is worked window by window
SECTION = 64  # tiles, at least, that are computed without looking at those behind them: where a run may resume
KEPT = ("below", "pixels", "no_data", "confidence", "skipped")  # of `_Work`, to resume
LOOKED = 100  # tiles, for one that holds data
ENDINGS = {".tif", ".tiff"}


@dataclass(frozen=True)
class RasterSummary:
    """Counts over a predicted raster.

    Attributes:
        height: in pixels.
        width: in pixels.
        pixels: (classes,) int64, of each class.
        no_data: pixels that hold no data.
        confidence: mean probability of the chosen class, over the pixels that hold data; NaN where none does.
        tiles: that the network computed.
        skipped: tiles without a pixel that holds data.
    """

    height: int
    width: int
    pixels: NDArray[np.int64]
    no_data: int
    confidence: float
    tiles: int
    skipped: int


class Tile(NamedTuple):
    """A tile, by its row and column among the tiles."""

    row: int
    column: int


class Computed(NamedTuple):
    """A tile after the network; `probabilities` is None where no pixel holds data."""

    tile: Tile
    valid: NDArray[np.bool_]
    probabilities: Probabilities | None


class Read(NamedTuple):
    """A tile before the network; `image` is None where no pixel holds data."""

    tile: Tile
    image: Image | None
    valid: NDArray[np.bool_]


def is_raster(path: Path) -> bool:
    """Return whether a TIFF should be predicted window by window: it has coordinates, or more than `LARGE` pixels.

    Args:
        path: of a file on the disk, of any kind; only its header is read.
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
    """Files to write.

    Attributes:
        target: uint8 class ids, 255 where there is no data, in compressed tiles with the source's coordinates.
        probabilities: a band per class, uint8: 0 to 254 for 0 to 1, 255 where there is no data.
        overlay: a JPEG of at most `previews.LARGEST` pixels a side, the image with the classes in colour.
        polygons: the regions of every class but 0 as GeoJSON, see `region_file.RegionFile`.
    """

    target: Path
    probabilities: Path | None = None
    overlay: Path | None = None
    polygons: Path | None = None


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
        images: which bands are used, what becomes of transparency, and which values become black and white.
        key: names source, model and parameters. Finished rows of tiles are kept in a hidden folder next to the target;
            where this call is killed, another one with the same key and files resumes behind them, with the same
            result. None: none is.
        progress: is called with the share of the tiles that are finished.

    Raises:
        DataError: the source is damaged or not what the network takes; names the file and the window.
        ResourceError: the disk is full, or not even one tile fits into memory.
    """
    written = [path is not None for path in files[1:]]
    saving = nullcontext() if key is None else kept_rows(files.target, f"{key} {predictor.backend.name} {written}")
    with saving as checkpoint, _opened(predictor, source, images) as raster:
        grid = _Grid.of(predictor, raster)
        state = {} if checkpoint is None else checkpoint.load()
        height = max(span.size for span in grid.rows)
        with _opened_outputs(files, raster, predictor.classes, height, checkpoint, state) as outputs:
            work = _Work(grid, raster, outputs, len(predictor.classes))
            first = work.restore(state) if state else 0
            _predict_rows(predictor, work, first, progress)
        return work.summary()


def _predict_rows(predictor: Predictor, work: _Work, first: int, progress: Callable[[float], None] | None) -> None:
    """Send all tiles from a row on through the network; one thread reads, another one blends and writes."""
    grid = work.grid
    reading = prefetch_map(work.read, ((tile,) for tile in grid.tiles(first)), threads=1)
    computed = _computed(predictor, grid, reading)
    adding = prefetch_map(work.add, ((each,) for each in computed), threads=1)
    with closing(reading), closing(computed), closing(adding):
        for number, _ in enumerate(adding, start=1 + first * len(grid.columns)):
            if progress is not None:
                progress(number / grid.count)


@dataclass
class _Outputs:
    """Everything that is written of a raster, row of tiles by row of tiles."""

    targets: list[RasterTarget]  # class ids, then probabilities
    preview: Preview | None
    regions: RegionTarget | None
    checkpoint: RasterCheckpoint | None

    def put(
        self, probabilities: Probabilities, mask: Mask, confidence: NDArray[np.float32], top: int, columns: slice
    ) -> None:
        """Write the finished part of a tile; `mask` is `NO_DATA` where a pixel holds none."""
        if self.preview is not None:
            self.preview.add_mask(mask, top, columns.start)
        if self.regions is not None:
            self.regions.put(mask, confidence, columns)
        self.targets[0].put(mask[None], columns)
        for target in self.targets[1:]:
            scaled = np.rint(np.clip(probabilities * np.float32(SCALE), 0, SCALE)).astype(np.uint8)
            scaled[:, mask == NO_DATA] = NO_DATA
            target.put(scaled, columns)

    def end_row(self, row: int, height: int) -> None:
        """Write what became complete with a row of tiles, `height` pixels of it."""
        for number, target in enumerate(self.targets):
            if self.checkpoint is not None:
                target.keep_rows(self.checkpoint.path(f"{row}-{number}.tif"), height)
            target.end_rows(height)
        if self.regions is not None:
            self.regions.end_rows(height)

    def state(self) -> State:
        """Return what `restore` needs."""
        return dict(ChainMap(*(part.state() for part in (self.preview, self.regions) if part is not None)))

    def restore(self, state: State, rows: int) -> None:
        """Write the rows of tiles that were finished before; regions were restored when they were opened."""
        assert self.checkpoint is not None
        for row in range(rows):
            for number, target in enumerate(self.targets):
                target.take_rows(self.checkpoint.path(f"{row}-{number}.tif"))
        if self.preview is not None:
            self.preview.restore(state)


@contextmanager
def _opened_outputs(
    files: RasterFiles,
    raster: RasterSource,
    classes: Sequence[str],
    rows: int,
    checkpoint: RasterCheckpoint | None,
    state: State,
) -> Iterator[_Outputs]:
    """Open what is written; all files appear when the block ends, none of them where it fails."""
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(path)) for path in files[:2] if path is not None]
        preview = Preview(raster.height, raster.width) if files.overlay is not None else None
        regions, outlines = None, None
        if files.polygons is not None:
            outlines = stack.enter_context(atomic_write(files.polygons))
            growing = outlines if checkpoint is None else checkpoint.path("regions.geojson")
            regions = stack.enter_context(closing(RegionTarget(growing, raster, classes, rows, state)))
        with written([(path, number > 0) for number, path in enumerate(temporary)], raster, classes, rows) as targets:
            yield _Outputs(targets, preview, regions, checkpoint)
        add_overviews(temporary[0])
        if regions is not None and outlines is not None:
            regions.finish()
            if growing != outlines:
                link_or_copy(growing, outlines)  # it is still needed if a kill comes now
        if files.overlay is not None and preview is not None:
            stack.enter_context(atomic_write(files.overlay)).write_bytes(as_jpeg(preview.picture()))


def preview_work(takes: ModelInput, source: Path, images: ImageParameters) -> tuple[Image | None, int]:
    """Estimate what a raster asks of a network, before anything is computed.

    Args:
        takes: knows the tiles and what the network takes.
        source: the raster.
        images: see `predict_raster`.

    Returns:
        A tile that holds data, (height, width, channels): the middle one, else one of the first; None where these hold
        none; and the number of tiles.

    Raises:
        DataError: the source is damaged or not what the network takes.
    """
    with _opened(takes, source, images) as raster:
        grid = _Grid.of(takes, raster)
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
def _opened(takes: ModelInput, source: Path, images: ImageParameters) -> Iterator[RasterSource]:
    with _quiet():
        raster = RasterSource(source, takes, images)
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
    def of(cls, takes: ModelInput, raster: RasterSource) -> _Grid:
        inference, multiple = takes.inference, takes.multiple
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


def _computed(predictor: Predictor, grid: _Grid, tiles: Iterable[Read]) -> Generator[Computed]:
    """Send tiles through the network, as many of one size together as it takes; their order is kept."""
    batch: list[Read] = []
    for each in tiles:
        size = grid.rows[each.tile.row].size, grid.columns[each.tile.column].size
        pictures = [other.image for other in batch if other.image is not None]
        other_size = bool(pictures) and pictures[0].shape[:2] != size
        other_section = bool(batch) and grid.section(batch[0].tile.row) != grid.section(each.tile.row)
        if other_size or other_section or (pictures and len(pictures) >= predictor.together(*size)):
            yield from _compute(predictor, batch)
            batch = []
        batch.append(each)
        if all(other.image is None for other in batch):
            yield from _compute(predictor, batch)
            batch = []
    yield from _compute(predictor, batch)


def _compute(predictor: Predictor, batch: list[Read]) -> Iterator[Computed]:
    pictures = [each.image for each in batch if each.image is not None]
    predictions = iter(predictor.compute(pictures) if pictures else ())
    for each in batch:
        yield Computed(each.tile, each.valid, None if each.image is None else next(predictions))


@dataclass
class _Work:
    """Blends tiles that come row by row, and writes what no later tile will change.

    A finished tile leaves two things: to its right a strip that the next tile of the row adds to (`right`), and
    below it one that the next row adds to (`below`). Pixels of a tile without data are without data in its neighbours,
    too, so such a tile may leave anything.
    """

    grid: _Grid
    raster: RasterSource
    outputs: _Outputs
    classes: int
    right: NDArray[np.float32] | None = None
    pixels: NDArray[np.int64] = field(init=False)
    below: NDArray[np.float32] = field(init=False)
    no_data: int = 0
    confidence: float = 0.0
    skipped: int = 0

    def __post_init__(self) -> None:
        rows, columns = self.grid.rows, self.grid.columns
        strip = max((a.stop - b.start for a, b in pairwise(rows)), default=0)
        self.below = np.zeros((self.classes, strip, columns[-1].stop), np.float32)
        self.pixels = np.zeros(self.classes, np.int64)

    def read(self, tile: Tile) -> Read:
        """Read a tile; called by one thread."""
        rows, columns = self.grid.rows[tile.row], self.grid.columns[tile.column]
        image, valid = self.raster.read(rows, columns)
        if self.outputs.preview is not None and image is not None:
            self.outputs.preview.add_image(image, rows.start, columns.start)
        return Read(tile, image, valid)

    def add(self, computed: Computed) -> None:
        """Add a tile, in the order of the grid; called by one thread."""
        row, column = computed.tile
        start = self.grid.columns[column].start
        height = _finished(self.grid.rows, row, self.raster.height)
        width = _finished(self.grid.columns, column, self.raster.width)
        valid = computed.valid[:height, :width]
        if computed.probabilities is None:
            self.skipped, self.right = self.skipped + 1, None
            finished = np.zeros((self.classes, height, width), np.float32)
        else:
            finished = self._blended(computed.tile, computed.probabilities, height, width)
        self._put(finished, valid, self.grid.rows[row].start, slice(start, start + width))
        if column == len(self.grid.columns) - 1:
            self._end_row(row, height)

    def _end_row(self, row: int, height: int) -> None:
        self.right = None
        self.outputs.end_row(row, height)
        if self.outputs.checkpoint is not None and self.grid.section(row + 1) != self.grid.section(row):
            self.outputs.checkpoint.save(lambda: self._state(row + 1))

    def _state(self, rows: int) -> State:
        """Return what is needed to resume behind this number of rows of tiles."""
        return {
            "rows": np.array(rows),
            **{name: np.array(getattr(self, name)) for name in KEPT},
            **self.outputs.state(),
        }

    def restore(self, state: State) -> int:
        """Resume from a state; returns the row of tiles that comes next."""
        rows = int(state["rows"])
        self.outputs.restore(state, rows)
        for name in KEPT:
            value = state[name]
            setattr(self, name, value if value.ndim else value.item())
        logger.info("Resuming after %d of %d rows of tiles that were finished before", rows, len(self.grid.rows))
        return rows

    def _blended(self, tile: Tile, probabilities: Probabilities, height: int, width: int) -> Probabilities:
        """Add what earlier tiles left, keep what later ones need, and give the finished part."""
        weights = np.outer(self.grid.row_weights[tile.row], self.grid.column_weights[tile.column])
        total = probabilities * weights
        if self.right is not None:
            total[:, :, : self.right.shape[2]] += self.right
        last = tile.column == len(self.grid.columns) - 1
        self.right = None if last else total[:, :, width:].copy()
        start = self.grid.columns[tile.column].start
        columns = slice(start, start + width)
        if tile.row:
            above = self.grid.rows[tile.row - 1].stop - self.grid.rows[tile.row].start
            total[:, :above, :width] += self.below[:, :above, columns]
        if tile.row < len(self.grid.rows) - 1:
            left = total[:, height:, :width]
            self.below[:, : left.shape[1], columns] = left
        return total[:, :height, :width]

    def _put(self, probabilities: Probabilities, valid: NDArray[np.bool_], top: int, columns: slice) -> None:
        mask = argmax_mask(probabilities)
        mask[~valid] = NO_DATA
        counts = np.bincount(mask.ravel(), minlength=NO_DATA + 1)
        self.pixels += counts[: self.classes]
        self.no_data += int(counts[NO_DATA])
        confidence = probabilities.max(axis=0)
        self.confidence += float(confidence[valid].sum(dtype=np.float64))
        self.outputs.put(probabilities, mask, confidence, top, columns)

    def summary(self) -> RasterSummary:
        """Return the counts."""
        counted = int(self.pixels.sum())
        return RasterSummary(
            self.raster.height,
            self.raster.width,
            self.pixels,
            self.no_data,
            self.confidence / counted if counted else float("nan"),
            self.grid.count - self.skipped,
            self.skipped,
        )


def _finished(spans: list[Span], number: int, length: int) -> int:
    """Return how many pixels of a tile no later tile will change."""
    stop = spans[number + 1].start if number + 1 < len(spans) else length
    return stop - spans[number].start
