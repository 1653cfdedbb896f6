"""What masks and images hold: every encoding is proposed as it is, and risky ones in both readings."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.onboarding.conftest import commented_readings
from tests.data.onboarding.fabrication import SIZE, DataSet, blobs, picture, save
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.mask_decoder import MaskDecoder
from unet_segmentation.errors import ConfigurationError


def with_masks(data: DataSet, make, count=8, ending="png"):
    """Write images, and masks that a function of the number draws."""
    for number in range(count):
        save(data.root / f"images/{number}.png", picture(number))
        mask = make(number)
        target = data.root / f"masks/{number}.{ending}"
        target.parent.mkdir(exist_ok=True)
        if isinstance(mask, Image.Image):
            mask.save(target, **({"quality": 75} if ending == "jpg" else {}))
        else:
            save(target, mask)


def decoded(data: DataSet, created, number=0, ending="png"):
    """Return the class ids of a mask as a run would read it."""
    parameters = created.parameters
    masks, classes = parameters.masks, parameters.classes
    mask = MaskDecoder(FileStore(data.root), masks, classes).decode([f"masks/{number}.{ending}"], "", SIZE)
    assert not mask.undeclared
    return mask.ids


def test_black_and_white_in_both_readings(data, create):
    with_masks(data, lambda number: blobs(number, (0, 255)))
    created = create(data.root)
    assert created.parameters.masks.values == {0: "background", 255: "object"}
    assert np.array_equal(decoded(data, created), blobs(0, (0, 255)) // 255)
    (threshold,) = commented_readings(created.text)
    assert threshold["masks"] == {"encoding": "threshold", "threshold": 127}
    assert "CHECK" in created.text
    assert "255 is not void here" in created.said


def test_mostly_white_masks_are_offered_the_other_way_round(data, create):
    with_masks(data, lambda number: blobs(number, (255, 0)))
    created = create(data.root)
    assert {
        "classes": ["background", "object"],
        "masks": {"encoding": "index", "values": {0: "object", 255: "background"}},
    } in (commented_readings(created.text))


def test_the_other_way_round_keeps_the_given_names(data, create):
    with_masks(data, lambda number: blobs(number, (255, 0)))
    created = create(data.root, classes=["membrane", "cell"])
    assert created.parameters.masks.values == {0: "membrane", 255: "cell"}
    swapped = commented_readings(created.text)[-1]
    assert swapped["classes"] == ["cell", "membrane"]
    assert swapped["masks"]["values"] == {0: "membrane", 255: "cell"}


def test_ids_with_gaps_in_both_readings(data, create):
    with_masks(data, lambda number: blobs(number, (0, 1, 3)))
    created = create(data.root)
    assert created.parameters.masks.values == {0: "class_0", 1: "class_1", 3: "class_2"}
    assert "the values have gaps: 2 did not occur" in created.said
    assert any(len(reading["classes"]) == 4 for reading in commented_readings(created.text))


def test_a_border_of_255_is_void_and_may_be_a_class(data, create):
    with_masks(data, lambda number: blobs(number, (0, 1, 2, 255)))
    created = create(data.root)
    ids = decoded(data, created)
    assert np.array_equal(ids, blobs(0, (0, 1, 2, 255)))
    readings = commented_readings(created.text)
    assert any(reading["masks"].get("values", {}).get(255) for reading in readings)


def test_shifted_ids(data, create):
    with_masks(data, lambda number: blobs(number, (1, 2, 3)))
    created = create(data.root, classes=["a", "b", "c"])
    assert np.array_equal(decoded(data, created), blobs(0, (1, 2, 3)) - 1)


def test_a_value_that_the_user_calls_void(data, create):
    with_masks(data, lambda number: blobs(number, (0, 1, 2, 3)))
    created = create(data.root, ignore=[3], classes=["a", "b", "c"])
    ids = decoded(data, created)
    expected = blobs(0, (0, 1, 2, 3))
    expected[expected == 3] = 255
    assert np.array_equal(ids, expected)
    assert created.parameters.masks.ignore == [3]


def test_minus_one_is_void(data, create):
    with_masks(data, lambda number: blobs(number, (-1, 0, 1, 2)).astype(np.int16), ending="tif")
    created = create(data.root)
    expected = blobs(0, (-1, 0, 1, 2)).astype(np.int16)
    assert np.array_equal(decoded(data, created, ending="tif"), np.where(expected < 0, 255, expected))


def test_a_palette_is_read_by_its_indices(data, create):
    def paletted(number):
        image = Image.fromarray(blobs(number, (0, 1, 2)))
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        return image

    with_masks(data, paletted)
    created = create(data.root)
    assert created.parameters.masks.encoding == "palette"
    assert np.array_equal(decoded(data, created), blobs(0, (0, 1, 2)))
    assert "dark red" in created.said


def test_colors(data, create):
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    with_masks(data, lambda number: table[blobs(number, (0, 1, 2))])
    created = create(data.root)
    assert created.parameters.masks.encoding == "colors"
    colors = list(created.parameters.masks.colors.values())
    ids = decoded(data, created)
    assert np.array_equal(np.array(colors, np.uint8)[ids], table[blobs(0, (0, 1, 2))])


def test_numbers_of_instances(data, create):
    with_masks(data, lambda number: blobs(number, tuple(range(5 + number))).astype(np.uint16), ending="tif")
    created = create(data.root)
    assert created.parameters.masks.encoding == "instances"
    assert np.array_equal(decoded(data, created, ending="tif"), (blobs(0, tuple(range(5))) > 0).astype(np.uint8))
    assert commented_readings(created.text)[0]["masks"]["encoding"] == "index"


def test_masks_that_were_saved_as_jpeg(data, create):
    with_masks(data, lambda number: Image.fromarray(blobs(number, (0, 255))), ending="jpg")
    created = create(data.root)
    assert created.parameters.masks.encoding == "threshold"
    assert np.mean(decoded(data, created, ending="jpg") == blobs(0, (0, 255)) // 255) > 0.98
    assert "JPEG" in created.said


def test_many_classes_in_jpeg_cannot_be_told_apart(data, create):
    with_masks(data, lambda number: Image.fromarray(blobs(number, (0, 90, 170, 250))), ending="jpg")
    with pytest.raises(ConfigurationError, match="Export them again as PNG"):
        create(data.root)


def test_names_that_do_not_fit_the_values(data, create):
    with_masks(data, lambda number: blobs(number, (0, 1, 2, 3)))
    with pytest.raises(ConfigurationError, match=r"2 names \(a, b\) for 4 values \(0, 1, 2, 3\)"):
        create(data.root, classes=["a", "b"])


def test_a_value_to_ignore_that_no_mask_holds(data, create):
    with_masks(data, lambda number: blobs(number, (0, 1, 2)))
    with pytest.raises(ConfigurationError, match="no mask that was read holds the value 9"):
        create(data.root, ignore=[9])


def test_one_name_more_than_values_minus_void(data, create):
    """Eleven names and twelve values: the last is void, and that is said."""
    with_masks(data, lambda number: blobs(number, (0, 1, 2, 3)))
    created = create(data.root, classes=["a", "b", "c"])
    assert created.parameters.masks.ignore == [3]
    assert "3 is one value more than there are names, so it is ignored" in created.said


# --- images ---


def with_images(data: DataSet, make, ending="tif"):
    for number in range(6):
        pixels = make(number)
        kind = {"photometric": "minisblack", "planarconfig": "contig"} if pixels.ndim == 3 else {}
        tifffile.imwrite(_made(data.root / f"images/{number}.{ending}"), pixels, **kind)
        save(data.root / f"masks/{number}.png", blobs(number, (0, 1)))


def _made(file):
    file.parent.mkdir(exist_ok=True)
    return file


def test_floating_point_images_get_a_range(data, create):
    random = np.random.default_rng(0)
    with_images(data, lambda _: random.normal(500, 100, SIZE).astype(np.float32))
    created = create(data.root)
    low, high = created.parameters.images.range
    assert low < 250
    assert 750 < high < 1200
    assert "CHECK: the range" in created.text
    assert "float32" in created.said


def test_sixteen_bits_need_nothing(data, create):
    random = np.random.default_rng(0)
    with_images(data, lambda _: random.integers(0, 60000, SIZE).astype(np.uint16))
    created = create(data.root)
    assert created.parameters.images.range is None
    assert "uint16" in created.said


def test_many_bands(data, create):
    random = np.random.default_rng(0)
    with_images(data, lambda _: random.integers(0, 255, (*SIZE, 7), np.uint8))
    created = create(data.root)
    assert "7 channels" in created.said
    assert "bands" in created.text


def test_the_cameras_orientation_is_followed(data, create):
    """Masks are upright, images lie on their side with a note in EXIF: they fit."""
    for number in range(6):
        upright = picture(number)
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.rot90(upright)).save(stream, "JPEG", exif=exif)
        _made(data.root / f"images/{number}.jpg").write_bytes(stream.getvalue())
        save(data.root / f"masks/{number}.png", blobs(number, (0, 1)))
    created = create(data.root)
    assert "48 x 40 pixels" in created.said
    assert "Unreadable" not in created.said
