"""Files become the arrays that were written, in every format, depth and mode that is supported."""

import hashlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.samples.fabrication import picture
from unet_segmentation.samples.reading import UnreadableError, pixel_sha256, read_image, read_mask


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats(tmp_path, suffix, channels):
    pixels = picture(channels=channels)
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(file)
    decoded = read_image(file)
    np.testing.assert_array_equal(decoded.pixels, pixels.reshape(8, 10, channels))
    assert decoded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert decoded.notes == ()


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, suffix, channels):
    pixels = picture(channels=channels, dtype=np.uint16)
    file = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(file), pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels)
    decoded = read_image(file)
    assert decoded.pixels.dtype == np.uint16
    expected = pixels.reshape(8, 10, channels)[..., :3]
    np.testing.assert_array_equal(decoded.pixels, expected)
    assert decoded.notes == (("alpha_dropped",) if channels == 4 else ())


def test_jpeg_is_turned_upright(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255  # right half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: the right half comes to lie below
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "a.jpg").pixels
    assert upright.shape == (32, 16, 3)
    assert upright[4].mean() < 20
    assert upright[28].mean() > 235


def test_tiff_is_turned_once(tmp_path):
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "a.tif", tiffinfo={0x0112: 6})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, np.rot90(pixels, -1))


def test_modes_become_grey_or_rgb(tmp_path):
    pixels = picture(channels=4)
    Image.fromarray(pixels).save(tmp_path / "rgba.png")
    decoded = read_image(tmp_path / "rgba.png")
    np.testing.assert_array_equal(decoded.pixels, pixels[..., :3])
    assert decoded.notes == ("alpha_dropped",)

    indices = np.array([[0, 1], [2, 1]], np.uint8)
    paletted = Image.fromarray(indices, "P")
    paletted.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    paletted.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").pixels[0].tolist() == [[10, 20, 30], [40, 50, 60]]

    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert read_image(tmp_path / "bits.png").pixels.tolist() == [[[255], [0]]]


def test_a_stack_is_read_in_part_and_says_so(tmp_path):
    pages = [Image.fromarray(picture(seed)) for seed in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    decoded = read_image(tmp_path / "a.tif")
    assert decoded.notes == ("several_pages",)
    np.testing.assert_array_equal(decoded.pixels, picture(0))


def test_masks_keep_palette_indices(tmp_path):
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    paletted = Image.fromarray(indices, "P")
    paletted.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    for suffix in ("png", "gif", "bmp"):
        paletted.save(tmp_path / f"a.{suffix}")
        raw = read_mask(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(raw.pixels, indices)
        assert raw.palette[2].tolist() == [0, 128, 0]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert read_mask(tmp_path / "bits.png").pixels.tolist() == [[1, 0]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_truncated_files_are_refused(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(size=(64, 64))).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for read in (read_image, read_mask):
        with pytest.raises(UnreadableError):
            read(file)


def test_what_is_no_image_is_refused_with_the_reason(tmp_path):
    cases = {
        "absent": (None, "is not there"),
        "empty": (b"", "is empty"),
        "text": (b"hello, this is text", "not an image of a known format"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
    }
    for name, (content, reason) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableError, match=reason):
            read_image(tmp_path / name)
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UnreadableError, match="8 or 16 bits"):
        read_image(tmp_path / "float.tif")


def test_the_pixel_hash_tells_shapes_and_depths_apart():
    zeros = np.zeros((4, 6, 1), np.uint8)
    others = [zeros.reshape(6, 4, 1), np.zeros((2, 6, 1), np.uint16), zeros + 1]
    assert len({pixel_sha256(array) for array in [zeros, *others]}) == 4
