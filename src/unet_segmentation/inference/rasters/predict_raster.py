"""Rasters larger than memory: read, predicted and written window by window."""

from __future__ import annotations

import logging
import math
import warnings
from collections import ChainMap
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from unet_segmentation.inference.backends.base import Image, Probabilities
from unet_segmentation.inference.predictor import Predictor
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
from unet_segmentation.utils.prefetch import prefetch_map
from unet_segmentation.visualization import as_jpeg

logger = logging.getLogger(__name__)

LARGE = 64_000_000  # pixels; a larger TIFF is worked window by window
SECTION = 64  # tiles, at least, that are computed without looking at those behind them: where a run may go on
KEPT = ("below", "pixels", "no_data", "confidence", "skipped")  # of `_Work`, to go on
LOOKED = 100  # tiles, for one that holds data
ENDINGS = {".tif", ".tiff"}


@dataclass(frozen=True)
class RasterSummary:
    """What was found in a raster.

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
    """Tell a TIFF that should be worked window by window: it has coordinates, or more than `LARGE` pixels.

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


def predict_raster(
    predictor: Predictor,
    source: Path,
    target: Path,
    *,
    images: ImageParameters,
    probabilities: Path | None = None,
    overlay: Path | None = None,
    polygons: Path | None = None,
    key: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> RasterSummary:
    """Predict a raster of any size into a GeoTIFF of class ids.

    Tiles are read, computed, blended and written row by row, reading and writing beside the network. Memory holds
    what later tiles still need: it does not depend on the raster's height, and per pixel of its width on
    classes x overlap. The result is that of blending all tiles in memory, to rounding.

    Args:
        predictor: what computes; `predictor.tile_size`, `raster_overlap` and `batch_size` hold.
        source: the raster, in whatever format GDAL reads.
        target: gets uint8 class ids, 255 where there is no data, in compressed tiles with the source's coordinates.
        images: which bands are used, what becomes of transparency, and which values become black and white.
        probabilities: gets a band per class, uint8: 0 to 254 for 0 to 1, 255 where there is no data.
        overlay: gets a JPEG of at most `previews.LARGEST` pixels a side, the image with the classes in colour.
        polygons: gets the regions of every class but 0 as GeoJSON, see `region_file.RegionFile`.
        key: names source, model and parameters. Finished rows of tiles are kept beside `target`; where this call is
            killed, another one with the same key and outputs goes on behind them, to the same result. None: none is.
        progress: is told the share of the tiles that are finished.

    Returns:
        What was found.

    Raises:
        DataError: the source is damaged or not what the network takes; names the file and the window.
        ResourceError: the disk is full, or not even one tile fits into memory.
    """
    outputs = [path is not None for path in (probabilities, overlay, polygons)]
    keeping = nullcontext() if key is None else kept_rows(target, f"{key} {predictor.backend.name} {outputs}")
    with keeping as kept, _opened(predictor, source, images) as raster:
        return _predict(predictor, raster, _Files(target, probabilities, overlay, polygons), kept, progress)


class _Files(NamedTuple):
    """What is written; see `predict_raster`."""

    target: Path
    probabilities: Path | None
    overlay: Path | None
    polygons: Path | None


def _predict(
    predictor: Predictor,
    raster: RasterSource,
    files: _Files,
    kept: RasterCheckpoint | None,
    progress: Callable[[float], None] | None,
) -> RasterSummary:
    grid, state = _Grid.of(predictor, raster), {} if kept is None else kept.load()
    rows = max(span.size for span in grid.rows)
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(path)) for path in files[:2] if path is not None]
        preview = Preview(raster.height, raster.width) if files.overlay is not None else None
        regions, outlines = None, None
        if files.polygons is not None:
            outlines = stack.enter_context(atomic_write(files.polygons))
            growing = outlines if kept is None else kept.path("regions.geojson")
            regions = stack.enter_context(closing(RegionTarget(growing, raster, predictor.classes, rows, state)))
        pairs = [(path, number > 0) for number, path in enumerate(temporary)]
        with written(pairs, raster, predictor.classes, rows) as targets:
            work = _Work(grid, raster, targets, len(predictor.classes), preview, regions, kept)
            first = work.restore(state) if state else 0
            reading = prefetch_map(work.read, ((tile,) for tile in grid.tiles(first)), threads=1)
            computed = _computed(predictor, grid, reading)
            adding = prefetch_map(work.add, ((each,) for each in computed), threads=1)
            with closing(reading), closing(computed), closing(adding):
                for number, _ in enumerate(adding, start=1 + first * len(grid.columns)):
                    if progress is not None:
                        progress(number / grid.count)
        add_overviews(temporary[0])
        if regions is not None and outlines is not None:
            regions.finish()
            if growing != outlines:
                link_or_copy(growing, outlines)  # it is still needed if a kill comes now
        if files.overlay is not None and preview is not None:
            stack.enter_context(atomic_write(files.overlay)).write_bytes(as_jpeg(preview.picture()))
        return work.summary()


def preview_work(predictor: Predictor, source: Path, images: ImageParameters) -> tuple[Image | None, int]:
    """Look at what a raster asks of a network, before anything is computed.

    Args:
        predictor: knows the network and the tiles.
        source: the raster.
        images: see `predict_raster`.

    Returns:
        A tile that holds data, (height, width, channels): the middle one, else one of the first; None where these hold
        none; and the number of tiles.

    Raises:
        DataError: the source is damaged or not what the network takes.
    """
    with _opened(predictor, source, images) as raster:
        grid = _Grid.of(predictor, raster)
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
def _opened(predictor: Predictor, source: Path, images: ImageParameters) -> Iterator[RasterSource]:
    with _quiet():
        raster = RasterSource(source, predictor, images)
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
    def of(cls, predictor: Predictor, raster: RasterSource) -> _Grid:
        inference, multiple = predictor.inference, predictor.multiple
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
    found = iter(predictor.compute(pictures) if pictures else ())
    for each in batch:
        yield Computed(each.tile, each.valid, None if each.image is None else next(found))


@dataclass
class _Work:
    """Blends tiles that come row by row, and writes what no later tile will change.

    A finished tile leaves two things: to its right a strip that the next tile of the row adds to (`beside`), and
    below it one that the next row adds to (`below`). Pixels of a tile without data are without data in its neighbours,
    too, so such a tile may leave anything.
    """

    grid: _Grid
    raster: RasterSource
    targets: list[RasterTarget]
    classes: int
    preview: Preview | None = None
    regions: RegionTarget | None = None
    kept: RasterCheckpoint | None = None
    beside: NDArray[np.float32] | None = None
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
        if self.preview is not None and image is not None:
            self.preview.add_image(image, rows.start, columns.start)
        return Read(tile, image, valid)

    def add(self, computed: Computed) -> None:
        """Add a tile, in the order of the grid; called by one thread."""
        row, column = computed.tile
        start = self.grid.columns[column].start
        height = _finished(self.grid.rows, row, self.raster.height)
        width = _finished(self.grid.columns, column, self.raster.width)
        valid = computed.valid[:height, :width]
        if computed.probabilities is None:
            self.skipped, self.beside = self.skipped + 1, None
            found = np.zeros((self.classes, height, width), np.float32)
        else:
            found = self._blended(computed.tile, computed.probabilities, height, width)
        self._put(found, valid, self.grid.rows[row].start, slice(start, start + width))
        if column == len(self.grid.columns) - 1:
            self._end_row(row, height)

    def _end_row(self, row: int, height: int) -> None:
        self.beside = None
        for number, target in enumerate(self.targets):
            if self.kept is not None:
                target.keep_rows(self.kept.path(f"{row}-{number}.tif"), height)
            target.end_rows(height)
        if self.regions is not None:
            self.regions.end_rows(height)
        if self.kept is not None and self.grid.section(row + 1) != self.grid.section(row):
            self.kept.save(lambda: self._state(row + 1))

    def _state(self, rows: int) -> State:
        """Return what is needed to go on behind so many rows of tiles."""
        numbers = {name: np.array(getattr(self, name)) for name in KEPT}
        parts = [part.state() for part in (self.preview, self.regions) if part is not None]
        return dict(ChainMap({"rows": np.array(rows), **numbers}, *parts))

    def restore(self, state: State) -> int:
        """Go on from what was kept; gives the row of tiles that comes next."""
        assert self.kept is not None
        for row in range(int(state["rows"])):
            for number, target in enumerate(self.targets):
                target.take_rows(self.kept.path(f"{row}-{number}.tif"))
        for name in KEPT:
            value = state[name]
            setattr(self, name, value if value.ndim else value.item())
        if self.preview is not None:
            self.preview.restore(state)
        logger.info(
            "Going on behind %d of %d rows of tiles that were finished before", state["rows"], len(self.grid.rows)
        )
        return int(state["rows"])

    def _blended(self, tile: Tile, probabilities: Probabilities, height: int, width: int) -> Probabilities:
        """Add what earlier tiles left, keep what later ones need, and give the finished part."""
        weights = np.outer(self.grid.row_weights[tile.row], self.grid.column_weights[tile.column])
        total = probabilities * weights
        if self.beside is not None:
            total[:, :, : self.beside.shape[2]] += self.beside
        last = tile.column == len(self.grid.columns) - 1
        self.beside = None if last else total[:, :, width:].copy()
        start = self.grid.columns[tile.column].start
        columns = slice(start, start + width)
        if tile.row:
            above = self.grid.rows[tile.row - 1].stop - self.grid.rows[tile.row].start
            total[:, :above, :width] += self.below[:, :above, columns]
        if tile.row < len(self.grid.rows) - 1:
            left = total[:, height:, :width]
            self.below[:, : left.shape[1], columns] = left
        return total[:, :height, :width]

    def _put(self, found: Probabilities, valid: NDArray[np.bool_], top: int, columns: slice) -> None:
        mask = argmax_mask(found)
        mask[~valid] = NO_DATA
        if self.preview is not None:
            self.preview.add_mask(mask, top, columns.start)
        counts = np.bincount(mask.ravel(), minlength=NO_DATA + 1)
        self.pixels += counts[: self.classes]
        self.no_data += int(counts[NO_DATA])
        chosen = found.max(axis=0)
        self.confidence += float(chosen[valid].sum(dtype=np.float64))
        if self.regions is not None:
            self.regions.put(mask, chosen, columns)
        self.targets[0].put(mask[None], columns)
        for target in self.targets[1:]:
            scaled = np.rint(np.clip(found * np.float32(SCALE), 0, SCALE)).astype(np.uint8)
            scaled[:, ~valid] = NO_DATA
            target.put(scaled, columns)

    def summary(self) -> RasterSummary:
        """Describe what was found."""
        known = int(self.pixels.sum())
        return RasterSummary(
            self.raster.height,
            self.raster.width,
            self.pixels,
            self.no_data,
            self.confidence / known if known else float("nan"),
            self.grid.count - self.skipped,
            self.skipped,
        )


def _finished(spans: list[Span], number: int, length: int) -> int:
    """Return how many pixels of a tile no later tile will change."""
    stop = spans[number + 1].start if number + 1 < len(spans) else length
    return stop - spans[number].start
