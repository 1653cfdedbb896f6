"""What clients send becomes the images that training would have read, or a sentence."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from tests.deployment.serving.served import bomb, picture, png
from tests.specs import make_spec
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_reader import read_image
from unet_segmentation.deployment.serving.request_images import Reader, as_batch
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.data import ImageParameters

IMAGE = picture()
FILE = png(IMAGE)
TEXT = base64.b64encode(FILE).decode()


def reader(channels: int = 3, *, max_pixels: int = 10_000, read_paths: bool = False, **images) -> Reader:
    return Reader(ImageParameters(**images), channels, max_pixels, read_paths)


def read(given, **options) -> list[np.ndarray]:
    return list(reader(**options).read(as_batch(given)))


def tiff(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "given",
    [
        FILE,
        bytearray(FILE),
        memoryview(FILE),
        TEXT,
        f"data:image/png;base64,{TEXT}",
        "\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76)),
        IMAGE,
        np.array(TEXT),
    ],
)
def test_one_image_in_every_form(given):
    batch = as_batch(given)
    assert batch.single
    (image,) = reader().read(batch)
    np.testing.assert_array_equal(image, IMAGE)


@pytest.mark.parametrize(
    "given",
    [
        [FILE, TEXT],
        (TEXT, FILE),
        np.array([TEXT, TEXT]),
        np.stack([IMAGE, IMAGE]),
        [IMAGE, IMAGE],
        {"image": [TEXT, TEXT]},
        {"image": np.array([TEXT, TEXT])},
        [{"image": TEXT}, {"image": TEXT}],
        [{"image": np.array(TEXT)}, {"image": np.array(TEXT)}],
        pd.DataFrame({"image": [TEXT, FILE]}),
        pd.DataFrame({"number": [1, 2], "image": [TEXT, FILE]}),
        pd.Series([TEXT, TEXT]),
    ],
)
def test_several_images_in_every_form(given):
    batch = as_batch(given)
    assert not batch.single
    images = list(reader().read(batch))
    assert len(images) == 2
    for image in images:
        np.testing.assert_array_equal(image, IMAGE)


def test_arrays_of_different_sizes_are_told_from_files():
    ragged = np.empty(2, object)
    ragged[:] = [IMAGE, IMAGE[:20]]
    for given in (ragged, [IMAGE, IMAGE[:20]]):
        batch = as_batch(given)
        assert batch.arrays
        assert [image.shape for image in reader().read(batch)] == [(40, 50, 3), (20, 50, 3)]
    assert not as_batch([FILE]).arrays


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "there is no image"),
        ([], "there is no image"),
        (pd.DataFrame({"image": []}), "there is no image"),
        (pd.DataFrame({"a": [1], "b": [2]}), "no column 'image', but a, b"),
        (3, "is of type int"),
        ([TEXT, 3], "image 1 is of type int"),
        ([[TEXT]], "is of type list"),
        (b"", r"empty \(0 bytes\)"),
        ("", r"empty \(0 bytes\)"),
        ("no base64!", "no base64"),
        ("/etc/passwd", "no base64"),
        (b"hello", "not an image of a known format"),
        ([FILE, FILE[:99]], "image 1 is damaged"),
        (np.zeros(5), r"an array \(5,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"an array \(0, 4, 3\)"),
        (np.zeros((200, 200, 3), np.uint8), "larger than 0.01 million pixels"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(given, words):
    with pytest.raises(DataError, match=words):
        read(given)


def test_a_path_reads_a_file_and_a_text_does_so_only_where_it_is_allowed(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(FILE)
    np.testing.assert_array_equal(read(file)[0], IMAGE)
    with pytest.raises(DataError, match="no base64"):
        read(str(file))
    np.testing.assert_array_equal(read(str(file), read_paths=True)[0], IMAGE)
    np.testing.assert_array_equal(read(TEXT, read_paths=True)[0], IMAGE)
    with pytest.raises(DataError, match=r"b\.png cannot be read \(No such file"):
        read(tmp_path / "b.png")


def jpeg() -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def palette() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(IMAGE).quantize(16).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "channels", "images"),
    [
        (jpeg(), 3, {}),
        (palette(), 3, {}),
        (png(np.dstack([IMAGE, IMAGE[..., :1]])), 3, {}),
        (png(np.dstack([IMAGE, IMAGE[..., :1]])), 4, {"alpha": "keep"}),
        (tiff(IMAGE.astype(np.uint16) * 200, photometric="rgb"), 3, {}),
        (tiff((IMAGE[..., 0] / 255).astype(np.float32)), 1, {"range": [0, 1]}),
        (tiff(np.dstack([IMAGE, IMAGE]), photometric="minisblack", planarconfig="contig"), 2, {"bands": [4, 1]}),
    ],
)
def test_files_are_read_as_those_of_the_training(tmp_path, data, channels, images):
    (tmp_path / "a").write_bytes(data)
    expected = read_image(FileStore(tmp_path), "a", ImageParameters(**images)).pixels
    (result,) = read(data, channels=channels, **images)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_gray_becomes_color_and_color_gray_only_where_its_bands_are_equal():
    gray = IMAGE[..., 0]
    np.testing.assert_array_equal(read(png(gray))[0], np.dstack([gray] * 3))
    np.testing.assert_array_equal(read(png(np.dstack([gray] * 3)), channels=1)[0], gray[..., None])
    with pytest.raises(DataError, match="colored; the network was trained on gray"):
        read(FILE, channels=1)
    with pytest.raises(DataError, match="has 3 channels; the network takes 5"):
        read(FILE, channels=5)


def many(pixels: int, form: str) -> bytes:
    """An image of many pixels in few bytes."""
    image = np.zeros((pixels // 100, 100, 3), np.uint8)
    if form == "NPY":
        stream = io.BytesIO()
        np.save(stream, image)
        return stream.getvalue()
    if form == "TIFF":
        return tiff(image, photometric="rgb", compression="deflate")
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "TIFF", "NPY"])
def test_too_many_pixels_are_refused_before_they_are_decoded_in_every_format(form):
    assert read(many(10_000, form))[0].shape == (100, 100, 3)
    with pytest.raises(DataError, match=r"larger than 0\.01 million pixels"):
        read(many(10_100, form))


def test_a_bomb_takes_no_memory():
    import tracemalloc

    data = bomb()
    tracemalloc.start()
    with pytest.raises(DataError, match="larger than"):
        read(data, max_pixels=32_000_000)
    assert tracemalloc.get_traced_memory()[1] < 10 * len(data) + 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"in_channels": 3}, {}),
        ({"in_channels": 4}, {"alpha": "keep"}),
        ({"in_channels": 1, "range": [0, 1]}, {"range": (0, 1)}),
        ({"in_channels": 2, "bands": [3, 0]}, {"bands": [3, 0]}),
        ({"in_channels": 4, "images": {"alpha": "drop", "bands": [0, 1, 2, 3]}}, {"bands": [0, 1, 2, 3]}),
    ],
)
def test_the_spec_says_how_images_are_read(fields, expected):
    assert Reader.of(make_spec(**fields), max_pixels=1).images == ImageParameters(**expected)
