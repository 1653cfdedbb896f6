"""Rasters as files: read and written window by window, with their coordinates, by GDAL (rasterio)."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from unet_segmentation.data.io.image_decoders import Raster, UnreadableError
from unet_segmentation.data.io.image_reader import from_raster
from unet_segmentation.errors import DataError
from unet_segmentation.inference.backends.base import Image
from unet_segmentation.inference.channel_adaptation import with_channels
from unet_segmentation.inference.predictor import InputSpec
from unet_segmentation.inference.rasters.raster_writer import FinishedPart, RasterWriter
from unet_segmentation.inference.rasters.tiling import Span
from unet_segmentation.parameters.data import ImageParameters
from unet_segmentation.visualization import class_colors

NO_DATA = 255  # in masks and in probabilities
SCALE = 254  # the value of a probability of 1
BLOCK = 512  # side of a block of a mask, in pixels
ROWS = 128  # rows of a block of probabilities, which have many bands
LEAST_CACHE, MOST_CACHE = 32 << 20, 384 << 20  # bytes of decoded blocks that GDAL keeps
LARGEST_BLOCK = 256 << 20  # bytes: what is stored in one piece must be decoded in one piece
SMALLEST_OVERVIEW = 256  # pixels

logging.getLogger("rasterio").setLevel(logging.CRITICAL + 1)  # it logs what it also raises


class RasterSource:
    """A raster that is read window by window, by one thread at a time, as the network takes it.

    Raises:
        DataError: it is damaged, lacks bands, or is stored in pieces that are too large.
    """

    def __init__(self, path: Path, input_spec: InputSpec, images: ImageParameters) -> None:
        self._path, self._input, self._images = path, input_spec, images
        with _read_errors(path, None):
            self.file = rasterio.open(path)
        self.height, self.width = self.file.shape
        try:
            self._choose_bands()
            rows, columns = self.file.block_shapes[0]
            pixel = self.file.count * np.dtype(self.file.dtypes[0]).itemsize
            if rows * columns * pixel > LARGEST_BLOCK:
                raise DataError(
                    f"{path} is stored in pieces of {columns} x {rows} pixels, too large to be read bit by bit. Tile "
                    "it first: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE"
                )
            height = min(self.height, input_spec.inference.tile_size + 2 * rows)
            # Bytes of decoded blocks that GDAL must keep so that none is decoded for every row of tiles.
            self.cache = min(MOST_CACHE, max(LEAST_CACHE, height * (self.width + columns) * pixel))
        except BaseException:
            self.file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _choose_bands(self) -> None:
        """Decide which bands are read, and what tells pixels without data."""
        file, images = self.file, self._images
        palette = file.colorinterp[0] == ColorInterp.palette and file.count == 1
        alpha = file.colorinterp[-1] == ColorInterp.alpha and file.count > 1
        self._palette = np.array(list(file.colormap(1).values()), np.uint8) if palette else None
        self._one_bit = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1" and not palette
        self._white_is_zero = file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        bands = list(range(file.count))
        if images.bands is not None and not palette:
            if max(images.bands) >= file.count:
                raise DataError(
                    f"{self._path} has {file.count} bands; images.bands wants number {max(images.bands)} (from 0)"
                )
            bands = images.bands
        elif alpha and images.alpha == "drop":
            bands = bands[:-1]
        self._bands = [band + 1 for band in bands]
        if not palette:  # what was chosen needs no choosing again
            self._images = images.model_copy(update={"bands": None, "alpha": "keep"})
        flags = {flag for band in file.mask_flag_enums for flag in band}
        shown = MaskFlags.alpha in flags and file.count in self._bands  # the network sees the transparency
        self._masked = not shown and flags != {MaskFlags.all_valid}

    def read(self, rows: Span, columns: Span) -> tuple[Image | None, NDArray[np.bool_]]:
        """Read a tile, extended by reflection where it reaches beyond the raster.

        Returns:
            (height, width, channels) as the network takes it, None where no pixel holds data; and (height, width) of
            the part inside the raster, True where a pixel holds data. Pixels that hold none have the mean of the
            network's training images.

        Raises:
            DataError: the part of the file is damaged, or its values cannot be pixels; names file and window.
        """
        height, width = min(rows.stop, self.height) - rows.start, min(columns.stop, self.width) - columns.start
        window = Window(columns.start, rows.start, width, height)
        with _read_errors(self._path, window):
            raw = np.moveaxis(self.file.read(self._bands, window=window), 0, -1)
            valid = self._valid(raw, window)
            if not valid.any():
                return None, valid
            pixels = self._pixels(raw, valid)
        around = ((0, rows.size - height), (0, columns.size - width), (0, 0))
        return np.pad(pixels, around, mode="reflect"), valid  # type: ignore[return-value]

    def _valid(self, raw: NDArray[Any], window: Window) -> NDArray[np.bool_]:
        valid = np.ones(raw.shape[:2], bool)
        if self._masked:
            valid = self.file.dataset_mask(window=window) != 0
        if raw.dtype.kind == "f":
            valid &= np.isfinite(raw).all(axis=-1)
        return valid

    def _pixels(self, raw: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
        whole = bool(valid.all())
        if not whole:
            raw[~valid] = raw[valid][0]  # anything that the range allows; its pixels are filled below
        if self._one_bit:
            raw = raw != 0
        if self._white_is_zero and raw.dtype.kind in "bu":
            raw = ~raw
        raster = Raster(raw[..., 0] if raw.shape[2] == 1 else np.ascontiguousarray(raw), "TIFF", self._palette)
        pixels = with_channels(from_raster(raster, self._images).pixels, self._input.spec.in_channels, self._images)
        pixels = self._input.validate(pixels)
        if not whole:
            pixels[~valid] = np.rint(self._input.spec.mean).astype(pixels.dtype)
        return pixels

    def coordinates(self) -> dict[str, Any]:
        """Return what places the raster on the ground, as `rasterio.open` takes it."""
        file = self.file
        points, crs = file.gcps
        if points:
            return {"gcps": points, "crs": crs, "rpcs": file.rpcs}
        transform = None if file.transform.is_identity else file.transform
        return {"crs": file.crs, "transform": transform, "rpcs": file.rpcs}

    def tags(self) -> dict[str, str]:
        """Return what the file says about itself."""
        return self.file.tags()


class GeoTiffWriter(RasterWriter):
    """A GeoTIFF of class ids, or of the probabilities of all classes, that is written in rows of blocks.

    Args:
        path: of the file.
        source: gives size, coordinates and tags.
        classes: their names.
        rows: largest number that is added at a time.
        probabilities: a band for each class; else ids in one band.
        copies: the path at which a finished row of tiles, by number, is copied for resuming; None: none is.
    """

    def __init__(
        self,
        path: Path,
        source: RasterSource,
        classes: Sequence[str],
        rows: int,
        *,
        probabilities: bool,
        copies: Callable[[int], Path] | None,
    ) -> None:
        bands = len(classes) if probabilities else 1
        self._path, self._probabilities, self._copies = path, probabilities, copies
        self._block = ROWS if probabilities else BLOCK
        self._file = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=source.height,
            width=source.width,
            count=bands,
            dtype="uint8",
            nodata=NO_DATA,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=self._block,
            interleave="band",
            compress="deflate",
            photometric="MINISBLACK" if probabilities else "PALETTE",
            bigtiff="IF_SAFER",
            **source.coordinates(),
        )
        self._file.update_tags(**source.tags(), classes=json.dumps(list(classes)))
        if probabilities:
            self._file.descriptions = tuple(classes)
            self._file.scales = (1 / SCALE,) * bands
        else:
            colors = class_colors(len(classes)).tolist()
            self._file.write_colormap(1, {number: (*color, 255) for number, color in enumerate(colors)})
            self._file.set_band_description(1, "class")
        self._rows = np.full((bands, self._block + rows, source.width), NO_DATA, np.uint8)
        self._first, self._filled = 0, 0  # row of the raster that the buffer begins with; its rows that are finished

    def put(self, part: FinishedPart) -> None:
        """Add a part of the rows that are being added."""
        values = part.mask[None]
        if self._probabilities:
            values = np.rint(np.clip(part.probabilities * np.float32(SCALE), 0, SCALE)).astype(np.uint8)
            values[:, part.mask == NO_DATA] = NO_DATA
        self._rows[:, self._filled : self._filled + len(part.mask), part.columns] = values

    def end_row(self, row: int, height: int) -> None:
        """Copy the rows that are complete, if copies are kept, and write what became whole blocks."""
        if self._copies is not None:
            bands, _, width = self._rows.shape
            shape = {"height": height, "width": width, "count": bands, "dtype": "uint8", "interleave": "band"}
            with rasterio.open(self._copies(row), "w", driver="GTiff", compress="zstd", zstd_level=1, **shape) as file:
                for number, band in enumerate(self._rows, start=1):
                    file.write(band[self._filled : self._filled + height], number)
        self._write_blocks(height)

    def restore(self, rows: int) -> None:
        """Write the rows of tiles that were finished before, from their copies.

        Raises:
            DataError: a copy is damaged.
        """
        assert self._copies is not None
        for path in map(self._copies, range(rows)):
            with _read_errors(path, None), rasterio.open(path) as file:
                for number, band in enumerate(self._rows, start=1):
                    file.read(number, out=band[self._filled : self._filled + file.height])
                height = file.height
            self._write_blocks(height)

    def _write_blocks(self, height: int) -> None:
        self._filled += height
        last = self._first + self._filled == self._file.height
        ready = self._filled if last else self._filled // self._block * self._block
        if ready:
            window = Window(0, self._first, self._file.width, ready)
            for number, band in enumerate(self._rows, start=1):  # all at once would be copied
                self._file.write(band[:ready], number, window=window)
                band[: self._filled - ready] = band[ready : self._filled].copy()
            self._first, self._filled = self._first + ready, self._filled - ready

    def finish(self) -> None:
        """Complete the file; a large mask gets smaller copies, so that viewers show it at once.

        Raises:
            OSError: not all of it reached the disk.
        """
        self._file.close()
        _check_whole(self._path)
        if self._probabilities:
            return
        with rasterio.open(self._path, "r+") as file:
            factors: list[int] = []
            while max(file.shape) // 2 ** (len(factors) + 1) >= SMALLEST_OVERVIEW:
                factors.append(2 ** (len(factors) + 1))
            if factors:
                file.build_overviews(factors, Resampling.nearest)
        _check_whole(self._path)

    def close(self) -> None:
        """Close the file, whole or not."""
        self._file.close()


def _check_whole(path: Path) -> None:
    """Raise OSError unless all blocks lie inside the file: GDAL says nothing when it closes a file on a full disk."""
    import tifffile

    end = path.stat().st_size
    try:
        with tifffile.TiffFile(path) as file:
            parts = [part for page in file.pages for part in zip(page.dataoffsets, page.databytecounts, strict=True)]
    except Exception:  # a header that was never written
        parts = [(0, 0)]
    if any(not count or offset + count > end for offset, count in parts):
        raise OSError(errno.ENOSPC, "the file is incomplete", str(path))


@contextmanager
def _read_errors(path: Path, window: Window | None) -> Iterator[None]:
    place = ""
    if window is not None:
        (top, bottom), (left, right) = window.toranges()
        place = f", rows {top} to {bottom}, columns {left} to {right}"
    try:
        yield
    except RasterioIOError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise DataError(f"{path}{place}: the file is damaged or no raster ({reason})") from None
    except (UnreadableError, DataError) as error:
        raise DataError(f"{path}{place}: {error}") from None
