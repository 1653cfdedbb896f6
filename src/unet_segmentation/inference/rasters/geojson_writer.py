"""A GeoJSON file of a raster's regions, in the raster's coordinates, written region by region."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rasterio import warp
from rasterio.crs import CRS
from rasterio.transform import Affine

from unet_segmentation.inference.polygons.connected_components import feature
from unet_segmentation.inference.polygons.contour_tracing import Ring
from unet_segmentation.inference.polygons.streaming_components import Region, StreamingComponents
from unet_segmentation.inference.rasters.checkpoint import State, pack, unpack
from unet_segmentation.inference.rasters.geotiff import NO_DATA, RasterSource
from unet_segmentation.inference.rasters.raster_writer import FinishedPart, RasterWriter
from unet_segmentation.utils.atomic_io import link_or_copy

WGS84 = ("EPSG", "4326")  # what a GeoJSON file is in that does not say otherwise
TOGETHER = 1000  # regions


class RegionFile:
    """A GeoJSON FeatureCollection that is written one region at a time.

    Its coordinates are the raster's, named in the member `crs`, as GDAL and QGIS write and read it; without the member,
    WGS84. A projection that has no name (EPSG code) cannot be named: the coordinates are turned into WGS84.

    Args:
        path: of the file.
        classes: their names.
        crs: of the raster.
        transform: from pixels to its coordinates; None: the file is in pixels.
        size: bytes that count of a file that was begun before; what follows them is cut off.
    """

    def __init__(
        self, path: Path, classes: Sequence[str], crs: CRS | None, transform: Affine | None, size: int = 0
    ) -> None:
        self._classes, self._transform = classes, transform
        self._unnamed = self._square_meters = None
        head: dict[str, object] = {"type": "FeatureCollection"}
        if transform is not None and crs is not None:
            name = crs.to_authority(confidence_threshold=100)
            if name is None:
                self._unnamed = crs
            elif name != WGS84:
                urn = f"urn:ogc:def:crs:{name[0]}::{name[1]}"
                head["crs"] = {"type": "name", "properties": {"name": urn}}
            if crs.is_projected:
                self._square_meters = abs(transform.determinant) * crs.linear_units_factor[1] ** 2
        self._decimals = _decimals(transform, degrees=self._unnamed is not None)
        self._stream = path.open("r+b" if size else "wb")
        self._stream.truncate(size)
        self._stream.seek(size)
        begin = orjson.dumps(head).removesuffix(b"}") + b',"features":['
        self._between = b",\n" if size > len(begin) else b"\n"
        if not size:
            self._stream.write(begin)

    def add(self, regions: Iterable[Region]) -> None:
        """Write regions, as they come."""
        regions = iter(regions)
        while some := list(islice(regions, TOGETHER)):
            lines = self._lines([ring for region in some for rings in region.polygons for ring in rings])
            for region in some:
                self._write(region, [list(islice(lines, len(rings))) for rings in region.polygons])

    def _write(self, region: Region, polygons: list[list[NDArray[Any]]]) -> None:
        region_feature = feature(
            polygons, self._classes[region.class_id], region.class_id, region.area, region.confidence
        )
        if self._square_meters is not None:
            region_feature["properties"]["square_meters"] = round(region.area * self._square_meters, 4)
        self._stream.write(self._between + orjson.dumps(region_feature, option=orjson.OPT_SERIALIZE_NUMPY))
        self._between = b",\n"

    def flushed(self) -> int:
        """Hand all that was written to the system; gives the size of the file in bytes."""
        self._stream.flush()
        return self._stream.tell()

    def finish(self) -> None:
        """Write what a whole file ends with, and close it."""
        self._stream.write(b"\n]}\n")
        self.close()

    def close(self) -> None:
        """Close the file, whole or not."""
        self._stream.close()

    def _lines(self, rings: list[Ring]) -> Iterator[NDArray[Any]]:
        """Return rings in the file's coordinates, worked out together; outer ones go to the left, as RFC 7946 asks."""
        if self._transform is None:
            yield from rings
            return
        a, b, c, d, e, f, *_ = self._transform
        points = np.concatenate(rings)
        x, y = points @ (a, b) + c, points @ (d, e) + f
        if self._unnamed is not None:
            x, y = map(np.array, warp.transform(self._unnamed, CRS.from_authority(*WGS84), x, y))
        lines = np.round(np.stack([x, y], axis=1), self._decimals)
        begins = np.cumsum([0, *map(len, rings)]).tolist()
        if self._transform.determinant < 0:  # seen from the other side, they go to the right
            lines, begins = lines[::-1].copy(), [len(lines) - begin for begin in begins]
        for begin, end in pairwise(begins):
            yield lines[min(begin, end) : max(begin, end)]


class GeoJsonWriter(RasterWriter):
    """Gathers the rows of a raster from its tiles, finds their regions and writes them.

    Args:
        path: of the GeoJSON file.
        source: gives width and coordinates.
        classes: their names.
        rows: largest number that is added at a time.
        growing: the file that a killed run leaves, and that gets the name `path` when it is complete; may be `path`.
        state: of another writer that began this file, to resume from; else empty.
    """

    def __init__(
        self, path: Path, source: RasterSource, classes: Sequence[str], rows: int, *, growing: Path, state: State
    ) -> None:
        self._path, self._growing = path, growing
        place = source.coordinates()
        size = int(state["regions.size"]) if state else 0
        self._file = RegionFile(growing, classes, place["crs"], place.get("transform"), size)
        self._stream = (
            unpack("regions", StreamingComponents, state) if state else StreamingComponents.begin(source.width)
        )
        self._mask = np.zeros((rows, source.width), np.uint8)
        self._confidence = np.zeros((rows, source.width), np.float32)

    def state(self) -> State:
        """Return the size of the file and the regions that still grow."""
        return {"regions.size": np.array(self._file.flushed()), **pack("regions", self._stream)}

    def put(self, part: FinishedPart) -> None:
        """Add a part; no region lies where there is no data."""
        self._mask[: len(part.mask), part.columns] = np.where(part.mask == NO_DATA, 0, part.mask)
        self._confidence[: len(part.mask), part.columns] = part.confidence

    def end_row(self, row: int, height: int) -> None:
        """Write the regions that became complete."""
        self._file.add(self._stream.add(self._mask[:height], self._confidence[:height]))

    def finish(self) -> None:
        """Write the regions that are left, and what the file ends with."""
        self._file.add(self._stream.finish())
        self._file.finish()
        if self._growing != self._path:
            link_or_copy(self._growing, self._path)  # it is still needed if a kill comes now

    def close(self) -> None:
        """Close the file, whole or not."""
        self._file.close()


def _decimals(transform: Affine | None, *, degrees: bool) -> int:
    """Return how many decimals hold a ten-thousandth of a pixel, or a tenth of a millimetre in degrees."""
    if transform is None or degrees:
        return 9
    return max(0, 4 - math.floor(math.log10(math.sqrt(abs(transform.determinant)))))
