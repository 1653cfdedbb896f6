from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import count_pages


@pytest.mark.parametrize("pages", [1, 2, 30])
@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp"])
def test_pages_are_counted(name: str, pages: int, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (8, 8), np.uint8)) for n in range(pages)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert count_pages(FileStore(tmp_path), name) == pages


@pytest.mark.parametrize("options", [{"bigtiff": True}, {"byteorder": ">"}, {"imagej": True}, {"compression": "zlib"}])
@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 9, 7)])
def test_tiffs_of_any_kind_are_counted(options: dict, shape: tuple[int, ...], tmp_path: Path) -> None:
    bands = {"planarconfig": "contig"} if len(shape) == 4 else {}
    if "imagej" in options:  # which knows no bands
        shape, bands = shape[:3], {}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.float32), photometric="minisblack", **bands, **options)
    assert count_pages(FileStore(tmp_path), "a.tif") == 5


def test_a_thousand_pages_are_counted_without_decoding_them(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(1000):
            file.write(np.zeros((64, 64), np.uint8), contiguous=False)
    seconds = []
    for _ in range(3):  # a pause of the garbage collector, in a large process, is no decoding
        start = time.thread_time()
        assert count_pages(FileStore(tmp_path), "a.tif") == 1000
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.5


def test_over_a_url(tmp_path: Path) -> None:
    import fsspec

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 8, 8), np.uint8), photometric="minisblack")
    with fsspec.open("memory://pages/a.tif", "wb") as stream:
        stream.write((tmp_path / "a.tif").read_bytes())
    assert count_pages(FileStore("memory://pages"), "a.tif") == 4


@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"GIF89a", b"hello", None])
def test_a_broken_file_has_one_page(content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if content is not None:
        (tmp_path / "a.tif").write_bytes(content)
    assert count_pages(FileStore(tmp_path), "a.tif") == 1
    assert "The pages of a.tif cannot be counted" in caplog.text


def test_overviews_and_the_mask_of_a_raster_are_no_pages(tmp_path: Path) -> None:
    import rasterio

    shape = {"driver": "GTiff", "height": 300, "width": 300, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    place = rasterio.transform.from_origin(0, 0, 1, 1)
    with rasterio.open(tmp_path / "a.tif", "w", **shape, transform=place, tiled=True) as file:
        file.write(np.ones((1, 300, 300), np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.write_mask(np.eye(300, dtype=bool))
        file.build_overviews([2, 4])
    with tifffile.TiffFile(tmp_path / "a.tif") as stack:
        assert len(stack.pages) > 3
    assert count_pages(FileStore(tmp_path), "a.tif") == 1
