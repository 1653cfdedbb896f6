"""Rasters window by window, against blending all tiles in memory, the whole image, and what GDAL says of the files."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.features import rasterize
from rasterio.transform import from_origin
from torch import nn

from tests.inference.test_predictor import CLASSES, PixelNetwork, input_spec
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_reader import read_image
from unet_segmentation.errors import DataError, ResourceError
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.rasters import predict_raster as rasters
from unet_segmentation.inference.rasters import thumbnail
from unet_segmentation.inference.rasters.predict_raster import RasterFiles, is_raster, preview_work
from unet_segmentation.inference.rasters.tiling import place_tiles
from unet_segmentation.inference.sliding_window import blending_weights
from unet_segmentation.models.architectures.unet_original import UNet
from unet_segmentation.models.factory import SegmentationModel
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import PredictorParameters
from unet_segmentation.parameters.data import ImageParameters
from unet_segmentation.visualization import overlay

IMAGES = ImageParameters()
UTM = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}


class Blur(nn.Module):
    """Looks around: a network for which tiles make a difference."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(*(nn.Conv2d(n, m, 5, padding=2) for n, m in [(channels, 8), (8, len(CLASSES))]))

    def forward(self, images):
        return self.layers(images.float() / 20)


def predict_raster(actual, source, target, *, images, key=None, progress=None, **outputs):
    return rasters.predict_raster(
        actual, source, RasterFiles(target, **outputs), images=images, key=key, progress=progress
    )


def predictor(network: nn.Module | None = None, channels: int = 3, spec: ModelSpec | None = None, **inference):
    backend = EagerBackend(network or PixelNetwork(channels), "cpu")
    parameters = PredictorParameters(**{"tile_size": 64, **inference})
    return Predictor(spec or input_spec(CLASSES, channels), backend, parameters)


def pixels(height: int, width: int, channels: int = 3, dtype="uint8", seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.random((height, width, channels)).astype(dtype)
    return generator.integers(1, 255, (height, width, channels)).astype(dtype)


def write(path: Path, image: np.ndarray, **options) -> Path:
    shape = {"driver": "GTiff", "height": image.shape[0], "width": image.shape[1], "count": image.shape[2]}
    alpha = options.pop("alpha", False)
    with rasterio.open(path, "w", **{**shape, "dtype": image.dtype.name, **UTM, **options}) as file:
        file.write(np.moveaxis(image, -1, 0))
        if alpha:
            file.colorinterp = [*file.colorinterp[:-1], rasterio.enums.ColorInterp.alpha]
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def blended(actual: Predictor, image: np.ndarray) -> np.ndarray:
    """Every tile alone, all sums in double precision and in memory."""
    height, width = image.shape[:2]
    tile, overlap = actual.input.inference.tile_size, actual.input.inference.raster_overlap
    rows, columns = (place_tiles(length, tile, overlap, actual.input.spec.multiple) for length in (height, width))
    around = max(0, rows[-1].stop - height), max(0, columns[-1].stop - width)
    image = np.pad(image, ((0, around[0]), (0, around[1]), (0, 0)), mode="reflect")
    total, weight = np.zeros((len(CLASSES), *image.shape[:2])), np.zeros(image.shape[:2])
    for row in rows:
        for column in columns:
            place = np.s_[row.start : row.stop, column.start : column.stop]
            weights = blending_weights(row.size, column.size).astype(np.float64)
            total[:, *place] += actual.backend(image[place][None])[0] * weights
            weight[place] += weights
    return (total / weight)[:, :height, :width]


@pytest.mark.parametrize("largest", [2048, 100, 37])
def test_the_overlay_shows_every_nth_pixel_of_image_and_classes(tmp_path, monkeypatch, largest):
    monkeypatch.setattr(thumbnail, "LARGEST", largest)
    image = np.repeat(np.repeat(pixels(5, 8), 40, axis=0), 40, axis=1)  # in areas: JPEG keeps them
    image[:40] = 0
    actual = predictor(raster_overlap=0.125)
    source, target, shown = write(tmp_path / "a.tif", image, nodata=0), tmp_path / "b.tif", tmp_path / "c.jpg"
    predict_raster(actual, source, target, images=IMAGES, overlay=shown)
    step = -(-320 // largest)
    mask = read(target)[0]
    expected = overlay(image, mask)[::step, ::step]
    result = np.array(Image.open(shown))
    assert result.shape == expected.shape
    assert max(result.shape) <= largest
    known = (mask != 255)[::step, ::step]
    assert np.median(np.abs(result.astype(int) - expected)[known]) < 8


@pytest.mark.parametrize("overlap", [0, 0.125, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(200, 333), (64, 64), (40, 150), (150, 7), (1, 1), (129, 65)])
def test_result_is_that_of_blending_in_memory(tmp_path, shape, overlap):
    image = pixels(*shape)
    actual = predictor(Blur(), raster_overlap=overlap)
    source, target, apart = write(tmp_path / "a.tif", image), tmp_path / "b.tif", tmp_path / "c.tif"
    shares: list[float] = []
    summary = predict_raster(actual, source, target, images=IMAGES, probabilities=apart, progress=shares.append)
    expected = blended(actual, image)
    np.testing.assert_allclose(read(apart) / 254, expected, atol=0.5 / 254 + 1e-5)
    order = np.sort(expected, axis=0)
    clear = order[-1] - order[-2] > 1e-5
    mask = read(target)[0]
    np.testing.assert_array_equal(mask[clear], expected.argmax(axis=0)[clear])
    assert clear.mean() > 0.99
    assert summary.confidence == pytest.approx(expected.max(axis=0).mean(), abs=1e-5)
    assert summary.pixels.tolist() == np.bincount(mask.ravel(), minlength=4).tolist()
    assert (summary.height, summary.width, summary.no_data) == (*shape, 0)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_result_is_that_of_the_predictor_where_its_tiles_lie_alike(tmp_path):
    image = pixels(64 + 2 * 48, 64 + 4 * 48)
    actual = predictor(Blur(), raster_overlap=0.25, overlap=0.25, max_pixels=64 * 64)
    predict_raster(actual, write(tmp_path / "a.tif", image), tmp_path / "b.tif", images=IMAGES)
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0], actual.predict(image))


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_tiles_make_no_difference_for_a_network_without_context(tmp_path, batch_size):
    image = pixels(300, 210)
    actual = predictor(batch_size=batch_size)
    predict_raster(actual, write(tmp_path / "a.tif", image), tmp_path / "b.tif", images=IMAGES)
    whole = predictor(max_pixels=10**6)
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0], whole.predict(image))


@pytest.mark.slow
def test_the_more_overlap_the_nearer_to_the_whole_image(tmp_path):
    torch.manual_seed(0)
    network = SegmentationModel(UNet(3, len(CLASSES), base_channels=4, depth=3), [128.0] * 3, [64.0] * 3)
    image = np.repeat(np.repeat(pixels(40, 40), 8, axis=0), 8, axis=1)
    whole = predictor(network, max_pixels=10**6).probabilities(image)
    source, differences = write(tmp_path / "a.tif", image), []
    for overlap in (0, 0.125, 0.5):
        actual = predictor(network, tile_size=128, raster_overlap=overlap)
        predict_raster(actual, source, tmp_path / "b.tif", images=IMAGES, probabilities=tmp_path / "c.tif")
        differences.append(np.abs(read(tmp_path / "c.tif") / 254 - whole).mean())
    assert differences[0] > differences[1] > differences[2]


LAYOUTS = {
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "deflate"},
    "strips": {"blockysize": 7, "compress": "lzw"},
    "bands": {"interleave": "band", "tiled": True, "blockxsize": 16, "blockysize": 16},
    "bigtiff": {"bigtiff": "YES"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_the_file_make_no_difference(tmp_path, layout):
    image = pixels(150, 222)
    source = write(tmp_path / "a.tif", image, **LAYOUTS[layout])
    predict_raster(predictor(), source, tmp_path / "b.tif", images=IMAGES)
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0], predictor().predict(image))


# -- pixels without data


def hole(image: np.ndarray) -> np.ndarray:
    valid = np.ones(image.shape[:2], bool)
    valid[20:170, 30:190] = valid[-1, -1] = False  # whole tiles, and parts
    return valid


def check_hole(tmp_path: Path, actual: Predictor, source: Path, image: np.ndarray, valid: np.ndarray, images=IMAGES):
    summary = predict_raster(
        actual, source, tmp_path / "b.tif", images=images, probabilities=tmp_path / "probabilities.tif"
    )
    mask, expected = read(tmp_path / "b.tif")[0], actual.predict(image)
    np.testing.assert_array_equal(mask == 255, ~valid)
    np.testing.assert_array_equal(mask[valid], expected[valid])
    np.testing.assert_array_equal(
        read(tmp_path / "probabilities.tif") == 255, np.broadcast_to(~valid, (4, *mask.shape))
    )
    assert summary.no_data == (~valid).sum()
    assert summary.skipped > 0
    chosen = actual.probabilities(image).max(axis=0)[valid]
    assert summary.confidence == pytest.approx(chosen.mean(), abs=1e-5)


def test_nodata_value(tmp_path):
    image = pixels(220, 260)
    valid = hole(image)
    image[~valid] = 0
    image[0, 0, 1] = 0  # dark in one band: data
    check_hole(tmp_path, predictor(), write(tmp_path / "a.tif", image, nodata=0), image, valid)


def test_transparency(tmp_path):
    image = pixels(220, 260, 4)
    valid = hole(image)
    image[~valid, 3] = 0
    source = write(tmp_path / "a.tif", image, alpha=True)
    check_hole(tmp_path, predictor(), source, image[..., :3], valid)


def test_transparency_that_the_network_sees_is_data(tmp_path):
    image = pixels(100, 90, 4)
    image[:50, :, 3] = 0
    source = write(tmp_path / "a.tif", image, alpha=True)
    actual = predictor(channels=4)
    assert predict_raster(actual, source, tmp_path / "b.tif", images=ImageParameters(alpha="keep")).no_data == 0
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0], actual.predict(image))


def test_mask_inside_the_file(tmp_path):
    image = pixels(220, 260)
    valid = hole(image)
    source = write(tmp_path / "a.tif", image)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(source, "r+") as file:
        file.write_mask(valid)
    check_hole(tmp_path, predictor(), source, image, valid)


@pytest.mark.parametrize("nodata", [None, np.nan, -9999])
def test_nan_and_floating_point(tmp_path, nodata):
    image = pixels(220, 260, dtype="float32")
    valid = hole(image)
    given = image.copy()
    given[~valid] = np.nan if nodata is None else nodata
    images = ImageParameters(range=(0, 1))
    actual = predictor(spec=input_spec(CLASSES, range=(0, 1)))
    source = write(tmp_path / "a.tif", given, **({} if nodata is None else {"nodata": nodata}))
    check_hole(tmp_path, actual, source, image, valid, images)


def test_the_network_sees_the_mean_where_there_is_no_data(tmp_path):
    seen = []

    class Watch(PixelNetwork):
        def forward(self, images):
            seen.append(images.numpy())
            return super().forward(images)

    image = pixels(64, 64)
    image[:10] = 0
    source = write(tmp_path / "a.tif", image, nodata=0)
    predict_raster(
        predictor(Watch(), spec=input_spec(CLASSES, mean=[10.4, 20.6, 30])), source, tmp_path / "b.tif", images=IMAGES
    )
    assert (seen[0][0, :, :10].reshape(3, -1) == np.array([[10], [21], [30]])).all()
    np.testing.assert_array_equal(np.moveaxis(seen[0][0], 0, -1)[10:], image[10:])


def test_raster_without_any_data_needs_no_network(tmp_path):
    network = PixelNetwork()
    source = write(tmp_path / "a.tif", np.zeros((130, 130, 3), np.uint8), nodata=0)
    summary = predict_raster(predictor(network), source, tmp_path / "b.tif", images=IMAGES)
    assert not network.seen
    assert summary.no_data == 130 * 130
    assert (summary.tiles, summary.skipped) == (0, 9)
    assert np.isnan(summary.confidence)


# -- bands and depths, as `read_image` takes them


@pytest.mark.parametrize(
    ("channels", "dtype", "images"),
    [
        (3, "uint8", {}),
        (3, "uint16", {}),
        (5, "uint16", {"bands": [4, 0, 2]}),
        (4, "uint8", {"bands": [2, 1, 0]}),
        (3, "int16", {}),
        (3, "int16", {"range": (-100, 300)}),
        (3, "float64", {"range": (0.2, 0.7)}),
    ],
)
def test_pixels_are_those_of_read_image(tmp_path, channels, dtype, images):
    image = pixels(70, 150, channels, dtype)
    source = write(tmp_path / "a.tif", image, tiled=True, blockxsize=32, blockysize=32)
    images = ImageParameters(**images)
    known = read_image(FileStore(tmp_path), "a.tif", images).pixels
    predict_raster(predictor(), source, tmp_path / "b.tif", images=images)
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0], predictor().predict(known))


@pytest.mark.parametrize("kind", ["palette", "one bit", "white is zero"])
def test_special_tiffs_are_read_as_read_image_does(tmp_path, kind):
    image = pixels(70, 150, 1) % 2 if kind == "one bit" else pixels(70, 150, 1)
    options = {
        "palette": {"photometric": "PALETTE"},
        "one bit": {"nbits": 1},
        "white is zero": {"photometric": "MINISWHITE"},
    }[kind]
    shape = {"driver": "GTiff", "height": 70, "width": 150, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **shape, **UTM, **options) as file:
        file.write(image[..., 0], 1)
        if kind == "palette":
            file.write_colormap(1, {n: (n, 255 - n, n // 2) for n in range(256)})
    known = read_image(FileStore(tmp_path), "a.tif", IMAGES).pixels
    actual = predictor(channels=known.shape[2])
    predict_raster(actual, tmp_path / "a.tif", tmp_path / "b.tif", images=IMAGES)
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0], actual.predict(known))


# -- what the file says


def test_coordinates_names_and_colors_are_kept(tmp_path):
    source = write(tmp_path / "a.tif", pixels(700, 600))
    with rasterio.open(source, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2020:01:02 03:04:05", mission="X", AREA_OR_POINT="Point")
    target, apart = tmp_path / "b.tif", tmp_path / "c.tif"
    predict_raster(predictor(), source, target, images=IMAGES, probabilities=apart)
    with rasterio.open(source) as given, rasterio.open(target) as mask, rasterio.open(apart) as probabilities:
        for made in (mask, probabilities):
            assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
            assert made.bounds == given.bounds
            tags = made.tags()
            assert json.loads(tags.pop("classes")) == CLASSES
            assert tags == given.tags()
            assert made.nodata == 255
        assert mask.dtypes == ("uint8",)
        assert mask.block_shapes == [(512, 512)]
        assert mask.compression.name == "deflate"
        assert mask.overviews(1) == [2]
        assert mask.colormap(1)[0] != mask.colormap(1)[1]
        assert probabilities.descriptions == tuple(CLASSES)
        assert probabilities.scales == (1 / 254,) * 4
    import tifffile

    np.testing.assert_array_equal(tifffile.imread(target, key=0), read(target)[0])  # another library


def test_control_points_are_kept(tmp_path):
    corners = [(0, 0), (0, 90), (70, 0), (70, 90)]
    points = [GroundControlPoint(row, column, 10 + column / 100, 50 - row / 100) for row, column in corners]
    source = write(tmp_path / "a.tif", pixels(70, 90), transform=None, crs="EPSG:4326", gcps=points)
    assert is_raster(source)
    predict_raster(predictor(), source, tmp_path / "b.tif", images=IMAGES)
    with rasterio.open(source) as given, rasterio.open(tmp_path / "b.tif") as made:
        assert made.gcps[1] == given.gcps[1]
        assert [point.asdict() for point in made.gcps[0]] == [point.asdict() for point in given.gcps[0]]


def test_what_a_raster_is(tmp_path, monkeypatch):
    from PIL import Image

    plain = write(tmp_path / "plain.tif", pixels(20, 20), crs=None, transform=None)
    Image.new("L", (5, 5)).save(tmp_path / "a.png")
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    assert is_raster(write(tmp_path / "a.tif", pixels(20, 20)))
    assert not any(map(is_raster, [plain, tmp_path / "a.png", tmp_path / "broken.tif", tmp_path / "absent.tif"]))
    monkeypatch.setattr("unet_segmentation.inference.rasters.predict_raster.LARGE", 399)
    assert is_raster(plain)


def test_raster_without_coordinates_stays_without(tmp_path, recwarn):
    source = write(tmp_path / "a.tif", pixels(70, 90), crs=None, transform=None)
    recwarn.clear()  # rasterio warns when it writes such a file
    predict_raster(predictor(), source, tmp_path / "b.tif", images=IMAGES)
    assert not recwarn.list
    import tifffile

    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert not file.pages[0].geotiff_tags


# -- what goes wrong


def test_damaged_block_names_file_and_window_and_leaves_nothing(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    source = write(tmp_path / "a.tif", image, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    import tifffile

    with tifffile.TiffFile(source) as file:
        offset = file.pages[0].dataoffsets[9]
    with source.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * 4000)
    (tmp_path / "b.tif").write_bytes(b"before")
    with pytest.raises(DataError, match=r"a\.tif, rows \d+ to \d+, columns \d+ to \d+: the file is damaged"):
        predict_raster(predictor(), source, tmp_path / "b.tif", images=IMAGES, probabilities=tmp_path / "c.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]
    assert (tmp_path / "b.tif").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("image", "images", "message"),
    [
        (pixels(20, 20, 2), {}, "has 2 channels; the network takes 3"),
        (pixels(20, 20), {"bands": [0, 1, 7]}, "has 3 bands; images.bands wants number 7"),
        (pixels(20, 20, dtype="float32"), {}, "holds float32 values from"),
        (pixels(20, 20) + 1j, {}, "complex128 values, which are no pixels"),
    ],
)
def test_what_the_network_does_not_take_is_refused(tmp_path, image, images, message):
    source = write(tmp_path / "a.tif", image)
    with pytest.raises(DataError, match=message) as caught:
        predict_raster(predictor(), source, tmp_path / "b.tif", images=ImageParameters(**images))
    assert "a.tif" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_no_raster_at_all(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(DataError, match=r"a\.tif.*damaged or no raster"):
        predict_raster(predictor(), tmp_path / "a.tif", tmp_path / "b.tif", images=IMAGES)


def test_one_huge_piece_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("unet_segmentation.inference.rasters.geotiff.LARGEST_BLOCK", 1000)
    source = write(tmp_path / "a.tif", pixels(100, 100), compress="deflate", blockysize=100)
    with pytest.raises(DataError, match="TILED=YES"):
        predict_raster(predictor(), source, tmp_path / "b.tif", images=IMAGES)


def test_a_failing_network_ends_the_threads_and_leaves_nothing(tmp_path):
    class Failing(PixelNetwork):
        def forward(self, images):
            if len(self.seen) == 2:
                raise ValueError("no")
            return super().forward(images)

    source = write(tmp_path / "a.tif", pixels(300, 300))
    with pytest.raises(ValueError, match="no"):
        predict_raster(predictor(Failing()), source, tmp_path / "b.tif", images=IMAGES)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_full_disk_is_said(tmp_path):
    """A limit on the size of files stands for a disk that is full."""
    source = write(tmp_path / "a.tif", pixels(600, 600))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(ResourceError, match="The disk is full"):
            predict_raster(predictor(), source, tmp_path / "b.tif", images=IMAGES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.slow
def test_a_kill_leaves_no_mask_and_the_next_run_cleans_up(tmp_path):
    source, target = write(tmp_path / "a.tif", pixels(600, 600)), tmp_path / "b.tif"
    script = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from tests.inference.test_predict_raster import IMAGES, predict_raster, predictor
        predict_raster(predictor(), Path({str(source)!r}), Path({str(target)!r}), images=IMAGES,
                       progress=lambda share: (print(share, flush=True), time.sleep(0.2)))
    """)
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    assert not target.exists()
    assert len(list(tmp_path.glob(".b.tif.*"))) == 1
    predict_raster(predictor(), source, target, images=IMAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def test_work_that_a_raster_asks_for_is_what_it_takes(tmp_path):
    image = pixels(200, 180)
    source, actual = write(tmp_path / "a.tif", image), predictor()
    rows, columns = place_tiles(200, 64, 0.125, 32), place_tiles(180, 64, 0.125, 32)
    row, column = rows[len(rows) // 2], columns[len(columns) // 2]
    tile, count = preview_work(actual.input, source, IMAGES)
    np.testing.assert_array_equal(tile, image[row.start : row.stop, column.start : column.stop])
    assert count == len(rows) * len(columns)
    network = PixelNetwork()
    predict_raster(predictor(network), source, tmp_path / "b.tif", images=IMAGES)
    assert sum(shape[0] for shape in network.seen) == count
    image[:] = 0
    assert preview_work(actual.input, write(tmp_path / "c.tif", image, nodata=0), IMAGES) == (None, count)
    image[0, 0] = 1
    assert preview_work(actual.input, write(tmp_path / "d.tif", image, nodata=0), IMAGES)[0] is not None


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="Linux counts what a process reads")
@pytest.mark.parametrize("layout", [{"blockxsize": 256, "tiled": True}, {}, {"tiled": True, "interleave": "band"}])
def test_no_part_of_the_file_is_decoded_twice(tmp_path, monkeypatch, layout):
    monkeypatch.setattr("unet_segmentation.inference.rasters.geotiff.LEAST_CACHE", 0)
    source = write(tmp_path / "a.tif", pixels(1500, 1200), blockysize=256, compress="deflate", **layout)
    actual = predictor(tile_size=256, raster_overlap=0.25)
    predict_raster(actual, source, tmp_path / "b.tif", images=IMAGES)  # loads libraries
    before = bytes_read()
    predict_raster(actual, source, tmp_path / "b.tif", images=IMAGES)
    assert bytes_read() - before < 1.2 * source.stat().st_size


def test_polygons_drawn_by_gdal_give_the_mask_back(tmp_path):
    image = np.repeat(np.repeat(pixels(50, 40), 8, axis=0), 8, axis=1)
    image[100:200, 50:90] = 0
    source, target, result = write(tmp_path / "a.tif", image, nodata=0), tmp_path / "b.tif", tmp_path / "b.geojson"
    actual = predictor(raster_overlap=0.125)
    predict_raster(actual, source, target, images=IMAGES, polygons=result)
    mask, features = read(target)[0], json.loads(result.read_text())["features"]
    shapes = [(each["geometry"], each["properties"]["class_id"]) for each in features]
    drawn = rasterize(shapes, mask.shape, transform=UTM["transform"], dtype=np.uint8)
    np.testing.assert_array_equal(drawn, np.where(mask == 255, 0, mask))
    confidence = actual.probabilities(image).max(axis=0)
    for number in range(1, len(CLASSES)):
        chosen = [each["properties"] for each in features if each["properties"]["class_id"] == number]
        assert {each["class"] for each in chosen} == {CLASSES[number]}
        areas = [each["area"] for each in chosen]
        assert sum(areas) == (mask == number).sum()
        mean = np.average([each["confidence"] for each in chosen], weights=areas)
        assert mean == pytest.approx(confidence[mask == number].mean(), abs=1e-4)
        assert sum(each["square_meters"] for each in chosen) == sum(areas) * 0.25
