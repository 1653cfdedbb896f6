"""Files become the arrays that were written, in every format, depth and mode that is supported."""

import contextlib
import hashlib
import io
import random

import cv2
import imagecodecs
import numpy as np
import pytest
import scipy.io
import tifffile
import torch
from PIL import Image, ImageOps

from tests.data.preparation.fabrication import picture
from tests.inference.test_predictor import input_spec
from unet_segmentation.data.io.bit_depth import BitDepthError, to_uint
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import LARGEST, UnreadableError, pixel_sha256, read_raster
from unet_segmentation.data.io.image_reader import read_image, read_roi
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.parameters.data import ImageParameters
from unet_segmentation.parameters.predictor import PredictorParameters


def read(file, **images):
    return read_image(FileStore(file.parent), file.name, ImageParameters(**images))


def noted(decoded):
    return [kind for kind, _ in decoded.notes]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats(tmp_path, suffix, channels):
    pixels = picture(channels=channels)
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(file)
    decoded = read(file)
    np.testing.assert_array_equal(decoded.pixels, pixels.reshape(8, 10, channels))
    assert decoded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert decoded.notes == ()


def test_gif_and_lossless_webp(tmp_path):
    pixels = picture(channels=1)
    Image.fromarray(pixels).save(tmp_path / "a.gif")
    np.testing.assert_array_equal(read(tmp_path / "a.gif").pixels[..., 0], pixels)
    Image.fromarray(picture()).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read(tmp_path / "a.webp").pixels, picture())


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, suffix, channels):
    pixels = picture(channels=channels, dtype=np.uint16)
    file = tmp_path / f"a.{suffix}"
    if suffix == "tif":  # OpenCV does not declare the fourth band of a TIFF as transparency
        tifffile.imwrite(file, pixels, extrasamples=["unassalpha"] if channels == 4 else None)
    else:
        assert cv2.imwrite(str(file), pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels)
    decoded = read(file)
    assert decoded.pixels.dtype == np.uint16
    expected = pixels.reshape(8, 10, channels)[..., :3]
    np.testing.assert_array_equal(decoded.pixels, expected)
    assert noted(decoded) == (["alpha_dropped"] if channels == 4 else [])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_agree_with_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif)
    tifffile.imwrite(tmp_path / "a.tif", picture(), extratags=[(0x0112, "H", 1, orientation, True)])
    for name in ("a.jpg", "a.png"):
        with Image.open(tmp_path / name) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened))
        decoded = read(tmp_path / name)
        np.testing.assert_array_equal(decoded.pixels, expected)
        assert noted(decoded) == (["turned_by_exif"] if orientation > 1 else [])
    decoded = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(decoded.pixels, expected)  # of the PNG: both are lossless


def test_modes_become_gray_or_rgb(tmp_path):
    pixels = picture(channels=4)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    decoded = read(tmp_path / "rgba.png")
    np.testing.assert_array_equal(decoded.pixels, pixels[..., :3])
    assert noted(decoded) == ["alpha_dropped"]

    indices = np.array([[0, 1], [2, 1]], np.uint8)
    paletted = Image.fromarray(indices, "P")
    paletted.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    for name in ("palette.png", "palette.tif", "palette.gif"):
        paletted.save(tmp_path / name)
        assert read(tmp_path / name).pixels[0].tolist() == [[10, 20, 30], [40, 50, 60]]

    for name in ("bits.png", "bits.tif", "bits.bmp"):
        Image.fromarray(np.array([[True, False]])).save(tmp_path / name)
        assert read(tmp_path / name).pixels.tolist() == [[[255], [0]]]

    cmyk = Image.fromarray(picture(size=(32, 32)) // 2).convert("CMYK")
    cmyk.save(tmp_path / "cmyk.jpg", quality=95)
    with Image.open(tmp_path / "cmyk.jpg") as opened:
        np.testing.assert_array_equal(read(tmp_path / "cmyk.jpg").pixels, np.asarray(opened.convert("RGB")))


def test_transparency_is_kept_where_that_is_declared(tmp_path):
    pixels = picture(channels=4)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    tifffile.imwrite(tmp_path / "rgba.tif", pixels, extrasamples=["unassalpha"])
    Image.fromarray(pixels[..., :2]).save(tmp_path / "la.png")
    deep = picture(channels=2, dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    for name, expected in [("rgba.png", pixels), ("rgba.tif", pixels), ("la.png", pixels[..., :2]), ("deep.png", deep)]:
        kept, dropped = read(tmp_path / name, alpha="keep"), read(tmp_path / name)
        np.testing.assert_array_equal(kept.pixels, expected)
        np.testing.assert_array_equal(dropped.pixels, expected[..., :-1])
        assert (noted(kept), noted(dropped)) == ([], ["alpha_dropped"])
    paletted = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    paletted.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    paletted.save(tmp_path / "p.png", transparency=1)
    assert read(tmp_path / "p.png", alpha="keep").pixels[0, :, 3].tolist() == [255, 0, 255]
    Image.fromarray(pixels[..., :3]).save(tmp_path / "key.png", transparency=tuple(pixels[0, 0, :3].tolist()))
    assert read(tmp_path / "key.png", alpha="keep").pixels[0, 0, 3] == 0


@pytest.mark.parametrize("bands", [2, 4, 8, 13])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2"])
def test_many_bands(tmp_path, bands, planar, dtype):
    pixels = picture(channels=bands, dtype=np.uint8 if dtype == "uint8" else np.uint16)
    written = pixels if planar == "contig" else np.moveaxis(pixels, 2, 0)
    options = {"photometric": "minisblack", "planarconfig": planar, "byteorder": dtype[0] if dtype[0] in "<>" else "<"}
    for layout in ({}, {"compression": "deflate"}, {"compression": "lzw", "tile": (16, 16)}):
        tifffile.imwrite(tmp_path / "a.tif", written, **layout, **options)
        decoded = read(tmp_path / "a.tif")
        np.testing.assert_array_equal(decoded.pixels, pixels)
        assert decoded.pixels.dtype == pixels.dtype
        assert decoded.pixels.dtype.isnative
        assert decoded.notes == ()
    chosen = read(tmp_path / "a.tif", bands=[bands - 1, 0])
    np.testing.assert_array_equal(chosen.pixels, pixels[..., [bands - 1, 0]])
    assert chosen.pixels.flags.c_contiguous
    with pytest.raises(UnreadableError, match=f"has {bands} bands; images.bands wants number {bands}"):
        read(tmp_path / "a.tif", bands=[bands])


def test_bands_of_colors_and_of_transparency(tmp_path):
    pixels = picture(channels=4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    decoded = read(tmp_path / "a.png", bands=[3, 1])
    np.testing.assert_array_equal(decoded.pixels, pixels[..., [3, 1]])
    assert decoded.notes == ()


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float16", "float32", "float64", ">f4", ">i2"])
@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_other_numbers_are_mapped_by_a_range_and_prediction_maps_them_likewise(tmp_path, dtype, suffix):
    pixels = np.linspace(-120, 120, 8 * 10 * 2).reshape(8, 10, 2)
    pixels = np.abs(pixels).astype(dtype) if dtype[0] == "u" else pixels.astype(dtype)
    file = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(file, pixels)
    else:
        tifffile.imwrite(file, pixels, photometric="minisblack", planarconfig="contig", byteorder="><"[dtype[0] != ">"])
    decoded = read(file, range=(-100, 110))
    exact = np.clip((pixels.astype(np.float64) + 100) / 210, 0, 1) * 65535
    assert decoded.pixels.dtype == np.uint16
    assert np.abs(decoded.pixels - exact).max() <= 0.5 + 1e-9
    assert noted(decoded) == ["clipped_range"]
    share = ((pixels.astype(np.float64) < -100) | (pixels.astype(np.float64) > 110)).mean()
    assert f"{share:.1%}" in decoded.notes[0][1]

    predictor = Predictor(
        input_spec(["a", "b"], channels=2, range=(-100, 110)),
        EagerBackend(PixelNetwork(), "cpu"),
        PredictorParameters(),
    )
    np.testing.assert_array_equal(predictor.probabilities(pixels), predictor.probabilities(decoded.pixels))


class PixelNetwork(torch.nn.Module):
    """Two classes, from the values of the pixel alone."""

    def forward(self, images):
        return images.float() / 65535


def test_a_range_leaves_eight_and_sixteen_bits_alone(tmp_path):
    for dtype in (np.uint8, np.uint16):
        pixels = picture(dtype=dtype)
        tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=">")
        np.testing.assert_array_equal(read(tmp_path / "a.tif", range=(0, 10)).pixels, pixels)


def test_whole_numbers_that_fit_are_sixteen_bits_without_a_range(tmp_path):
    pixels = np.array([[0, 65535], [7, 300]], np.int32)
    np.save(tmp_path / "a.npy", pixels)
    decoded = read(tmp_path / "a.npy").pixels
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded[..., 0], pixels)


def test_without_a_range_the_message_says_what_was_found(tmp_path):
    pixels = np.random.default_rng(0).normal(0, 1, (300, 400)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(UnreadableError) as caught:
        read(tmp_path / "a.tif")
    assert caught.value.kind == "no_range"
    numbers = [f"{number:.6g}" for number in (pixels.min(), pixels.max(), *np.percentile(pixels, [0.1, 99.9]))]
    assert all(number in str(caught.value) for number in numbers), str(caught.value)
    with pytest.raises(BitDepthError, match="from -5 to 3"):
        to_uint(np.array([[-5, 3]]), None)


def test_what_is_not_finite_is_counted(tmp_path):
    pixels = np.zeros((4, 5), np.float32)
    pixels[0, 0], pixels[1, 1] = np.nan, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(UnreadableError, match="in 2 of 20 places") as caught:
        read(tmp_path / "a.tif", range=(0, 1))
    assert caught.value.kind == "not_finite"


def test_pages_of_a_stack_are_read_one_by_one(tmp_path, monkeypatch):
    pages = [picture(seed, size=(64, 64)) for seed in range(30)]
    tifffile.imwrite(tmp_path / "a.tif", np.stack(pages), photometric="rgb")
    decoded = read(tmp_path / "a.tif")
    assert noted(decoded) == ["several_pages"]
    np.testing.assert_array_equal(decoded.pixels, pages[0])
    counted = []
    original = FileStore.open

    class Counting(io.FileIO):
        def readinto(self, buffer):
            count = super().readinto(buffer)
            counted.append(count)
            return count

        def read(self, size=-1):
            data = super().read(size)
            counted.append(len(data))
            return data

    def opened(self, path):
        return Counting(f"{self.root}/{path}")

    monkeypatch.setattr(FileStore, "open", opened)
    for number, expected in enumerate(pages):
        page = read(tmp_path / f"a.tif#{number}")
        np.testing.assert_array_equal(page.pixels, expected)
        assert page.notes == ()
        assert page.sha256 == pixel_sha256(expected)
    assert sum(counted) < 2 * (tmp_path / "a.tif").stat().st_size  # not thirty times
    monkeypatch.setattr(FileStore, "open", original)
    with pytest.raises(UnreadableError, match="has no page 30"):
        read(tmp_path / "a.tif#30")
    frames = [Image.fromarray(page[..., 0]) for page in pages[:3]]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert noted(read(tmp_path / "a.gif")) == ["several_pages"]
    with pytest.raises(UnreadableError, match="has no page 3"):
        read(tmp_path / "a.gif#3")


def test_overviews_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(picture(size=(64, 64)), photometric="rgb")
        writer.write(picture(size=(32, 32)), photometric="rgb", subfiletype=1)
    assert read(tmp_path / "a.tif").notes == ()


def test_content_counts_not_the_name(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    decoded = read(tmp_path / "a.jpg")
    np.testing.assert_array_equal(decoded.pixels, picture())
    assert decoded.notes == (("wrong_extension", "is a PNG file"),)
    Image.fromarray(picture()).save(tmp_path / "b.jpeg")
    assert read(tmp_path / "b.jpeg").notes == ()


def test_regions_of_interest(tmp_path):
    inside = picture(channels=1) > 128
    storage = FileStore(tmp_path)
    paletted = Image.fromarray(inside.astype(np.uint8), "P")
    paletted.putpalette([0, 0, 0, 255, 255, 255])
    paletted.save(tmp_path / "p.gif")
    Image.fromarray(inside).save(tmp_path / "bits.png")
    Image.fromarray(inside.astype(np.uint8)).save(tmp_path / "ones.png")
    Image.fromarray(np.stack([np.zeros_like(inside), inside, inside], axis=2) * np.uint8(9)).save(tmp_path / "rgb.png")
    tifffile.imwrite(tmp_path / "deep.tif", inside.astype(np.uint16) * 300)
    for name in ("p.gif", "bits.png", "ones.png", "rgb.png", "deep.tif"):
        np.testing.assert_array_equal(read_roi(storage, name), inside)
    with pytest.raises(UnreadableError) as caught:
        read_roi(storage, "absent.png")
    assert caught.value.kind == "unreadable_roi"


FORMATS = ["png", "deep.png", "jpg", "bmp", "gif", "webp", "tif", "lzw.tif", "tiled.tif", "planar.tif", "npy", "mat"]


def _fabricated(file):
    """Write a file of the kind that its name says."""
    pixels, deep = picture(size=(64, 48)), picture(size=(64, 48), channels=5, dtype=np.uint16)
    kind = file.name.removeprefix("a.")
    if kind == "deep.png":
        file.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(deep[..., :3])))
    elif kind == "planar.tif":
        tifffile.imwrite(file, np.moveaxis(deep, 2, 0), photometric="minisblack", planarconfig="separate")
    elif kind == "lzw.tif":
        tifffile.imwrite(file, pixels, compression="lzw")
    elif kind == "tiled.tif":
        tifffile.imwrite(file, pixels, compression="zstd", tile=(32, 32))
    elif kind == "npy":
        np.save(file, pixels)
    elif kind == "mat":
        scipy.io.savemat(file, {"mask": pixels[..., 0], "names": "text", "structure": {"field": 3.0}})
    else:
        Image.fromarray(pixels).save(file)
    return file


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_files_are_refused(tmp_path, kind):
    file = _fabricated(tmp_path / f"a.{kind}")
    whole, pixels = file.read_bytes(), read(file).pixels
    for share in (0.02, 0.3, 0.6, 0.9, 0.97):
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UnreadableError):
            read(file)
    file.write_bytes(whole[:-1])
    with contextlib.suppress(UnreadableError):  # a last byte that says nothing may be missing; a pixel may not
        np.testing.assert_array_equal(read(file).pixels, pixels)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_refused_or_read_but_nothing_else_happens(tmp_path, kind):
    file = _fabricated(tmp_path / f"a.{kind}")
    whole = file.read_bytes()
    generator = random.Random(0)
    for _ in range(120):
        damaged = bytearray(whole)
        for _ in range(generator.choice([1, 3, 20])):
            damaged[generator.randrange(generator.choice([len(whole), 200]))] = generator.randrange(256)
        if generator.random() < 0.3:
            start = generator.randrange(len(whole))
            damaged[start : start + 100] = bytes(len(damaged[start : start + 100]))
        file.write_bytes(damaged)
        try:
            decoded = read(file)
        except UnreadableError:
            continue
        assert decoded.pixels.size <= LARGEST * 5


def test_absurd_sizes_are_refused(tmp_path):
    side = 100_000
    Image.fromarray(picture()).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = side.to_bytes(4) * 2
    (tmp_path / "a.png").write_bytes(data)
    Image.fromarray(picture()).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = side.to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(data)
    tifffile.imwrite(tmp_path / "a.tif", picture(channels=1), extratags=())
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags["ImageWidth"].overwrite(side)
        file.pages[0].tags["ImageLength"].overwrite(side)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (side, side)})
    (tmp_path / "a.npy").write_bytes(stream.getvalue() + b"12345678")
    for name in ("a.png", "a.bmp", "a.tif", "a.npy"):
        with pytest.raises(UnreadableError):
            read(tmp_path / name)


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}, {}]], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableError, match="array"):
        read(tmp_path / "a.npy")


def test_what_is_no_image_is_refused_with_the_reason(tmp_path):
    cases = {
        "absent": (None, "is not there"),
        "empty": (b"", "is empty"),
        "text": (b"hello, this is text", "not an image of a known format"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    }
    for name, (content, reason) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableError, match=reason) as caught:
            read(tmp_path / name)
        assert caught.value.kind == "unreadable_image"


def test_rasters_keep_palette_indices(tmp_path):
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    paletted = Image.fromarray(indices, "P")
    paletted.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    for suffix in ("png", "gif", "bmp", "tif"):
        paletted.save(tmp_path / f"a.{suffix}")
        raster = read_raster(FileStore(tmp_path), f"a.{suffix}")
        np.testing.assert_array_equal(raster.pixels, indices)
        assert raster.palette[2].tolist() == [0, 128, 0]


def test_the_pixel_hash_tells_shapes_and_depths_apart():
    zeros = np.zeros((4, 6, 1), np.uint8)
    others = [zeros.reshape(6, 4, 1), np.zeros((2, 6, 1), np.uint16), zeros + 1]
    assert len({pixel_sha256(array) for array in [zeros, *others]}) == 4


def test_a_truncated_png_is_said_in_plain_words(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableError, match=r"^is damaged \(its end is missing\)$"):
        read_image(FileStore(tmp_path), "a.png", ImageParameters())
