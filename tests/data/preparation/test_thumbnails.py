import cv2
import numpy as np
import pytest

from unet_segmentation.data.audit.thumbnails import SIDE, SIGNATURE, signature
from unet_segmentation.data.synthetic.cells import draw_sample


def random_image(height, width, channels, dtype=np.uint8, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def stretched(plane):
    return (plane - plane.min()) / np.ptp(plane) * 255


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [64, 256, 512])
def test_gray_is_the_mean_over_areas_stretched(side, channels):
    image = random_image(side, side, channels)
    areas = image.astype(float).mean(axis=2).reshape(SIDE, side // SIDE, SIDE, side // SIDE).mean(axis=(1, 3))
    # halving rounds to whole gray levels, which stretching magnifies
    tolerance = 1 + 255 * 2 / np.ptp(areas) if side > 128 else 1
    difference = signature(image)["gray"] - stretched(areas)
    assert np.abs(difference).max() <= tolerance
    assert abs(difference.mean()) < 0.15 * tolerance


def test_color_is_the_first_and_last_channel_less_gray():
    image = random_image(64, 96, 3)
    image[..., 1] = 90
    areas = image.astype(float).reshape(16, 4, 16, 6, 3).mean(axis=(1, 3))
    color = signature(image)["color"]
    for plane, channel in zip(color, (0, 2), strict=True):
        assert np.abs(plane - stretched(areas[..., channel] - areas.mean(axis=2))).max() <= 1
    assert not signature(image[..., :1])["color"].any()
    assert not signature(image[..., :1].repeat(3, axis=2))["color"].any()


def test_16_bits_are_as_8_bits_and_faint_contrast_survives():
    image = draw_sample(0, 0, 128)[0]
    deep = image.astype(np.uint16)
    assert (signature(deep * 257)["gray"] - signature(image)["gray"].astype(int)).__abs__().max() <= 3
    faint = signature(20_000 + deep)["gray"].astype(int)
    assert np.abs(faint - signature(image)["gray"]).max() <= 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_constant_images_are_all_zero(dtype):
    for channels in (1, 3, 7):
        record = signature(np.full((300, 200, channels), 77, dtype))
        assert not record["gray"].any()
        assert not record["color"].any()


def test_classes_are_those_in_the_middle_of_each_area():
    ids = np.repeat(np.repeat(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 251, 5, 0), 3, 1).astype(np.uint8)
    ids[ids == 7] = 255
    record = signature(random_image(*ids.shape, 3), ids)
    np.testing.assert_array_equal(record["classes"], ids[2::5, 1::3])
    assert (record["height"], record["width"]) == ids.shape
    assert (signature(random_image(50, 40, 1))["classes"] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 900, 3), (33, 31, 2), (1000, 7, 4), (360, 480, 12), (257, 511, 3)])
def test_any_shape_and_memory_layout_gives_the_same_bytes(shape):
    image = random_image(*shape)
    record = signature(image, image[..., 0])
    assert record.dtype == SIGNATURE
    assert record.nbytes <= 3000
    turned = np.rot90(np.rot90(image, -1).copy())  # a view with negative strides
    assert signature(turned, turned[..., 0]).tobytes() == record.tobytes()


def test_threads_do_not_change_it():
    image = random_image(360, 480, 3)
    before, records = cv2.getNumThreads(), []
    for threads in (1, 4):
        cv2.setNumThreads(threads)
        records.append(signature(image).tobytes())
    cv2.setNumThreads(before)
    assert records[0] == records[1]


def test_more_than_four_channels_are_their_first_middle_and_last():
    image = random_image(100, 100, 9)
    assert signature(image).tobytes() == signature(image[..., [0, 4, 8]]).tobytes()
