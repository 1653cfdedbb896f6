"""Pictures: what is drawn where."""

import numpy as np
import pytest
from PIL import Image

from unet_segmentation import visualization
from unet_segmentation.visualization import (
    class_colors,
    color_mask,
    contact_sheet,
    displayable,
    error_map,
    fitted,
    overlay,
)


def test_colors_differ_and_do_not_depend_on_their_number():
    colors = class_colors(255)
    assert colors.shape == (255, 3)
    assert colors.dtype == np.uint8
    assert len(np.unique(colors, axis=0)) == 255
    np.testing.assert_array_equal(class_colors(7), colors[:7])
    first = class_colors(12).astype(int)
    distances = np.abs(first[:, None] - first[None]).sum(axis=2) + 1000 * np.eye(12, dtype=int)
    assert distances.min() > 60
    assert first[0].sum() < 150  # the background is dark


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_every_kind_of_image_can_be_shown(channels, dtype):
    shape = (5, 7) if channels is None else (5, 7, channels)
    shown = displayable(np.random.default_rng(0).integers(0, 200, shape).astype(dtype))
    assert shown.shape == (5, 7, 3)
    assert shown.dtype == np.uint8


def test_eight_bits_stay_and_sixteen_are_stretched():
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    np.testing.assert_array_equal(displayable(pixels), pixels)
    deep = displayable((pixels.astype(np.uint16) + 1000) * 20)
    assert deep.min() == 0
    assert deep.max() == 255
    assert displayable(np.full((3, 3, 1), 7000, np.uint16)).shape == (3, 3, 3)  # nothing to stretch between


def test_mask_is_painted_in_the_classes_colors_and_ignored_pixels_in_gray():
    mask = np.array([[0, 1, 2], [255, 255, 1]], np.uint8)
    painted = color_mask(mask)
    np.testing.assert_array_equal(painted[0], class_colors(3))
    assert (painted[1, 0] == painted[1, 0, 0]).all()
    own = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    np.testing.assert_array_equal(color_mask(mask, own)[0, :2], own)


def test_overlay_leaves_background_and_ignored_pixels():
    image = np.full((1, 3, 3), 100, np.uint8)
    shown = overlay(image, np.array([[0, 255, 1]], np.uint8))
    np.testing.assert_array_equal(shown[0, :2], image[0, :2])
    np.testing.assert_array_equal(shown[0, 2], np.round((100 + class_colors(2)[1].astype(float)) / 2))


def test_errors_are_red_and_ignored_pixels_are_none():
    image = np.full((1, 4, 3), 100, np.uint8)
    shown = error_map(image, np.array([[0, 1, 255, 1]], np.uint8), np.array([[0, 0, 0, 1]], np.uint8))
    assert tuple(shown[0, 1]) == visualization.WRONG
    assert tuple(shown[0, 0]) == tuple(shown[0, 3]) == (45, 45, 45)
    assert tuple(shown[0, 2]) != visualization.WRONG


def test_small_pictures_are_repeated_and_large_ones_shrunk():
    small = np.random.default_rng(0).integers(0, 255, (10, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fitted(small, 35), small.repeat(3, axis=0).repeat(3, axis=1))
    np.testing.assert_array_equal(fitted(small, 12), small)
    assert fitted(np.zeros((1000, 500, 3), np.uint8), 100).shape == (100, 50, 3)
    assert fitted(np.zeros((5000, 1, 3), np.uint8), 100).shape == (100, 1, 3)


def test_contact_sheet_holds_every_tile_at_its_place():
    tiles = [np.full((10 + number, 20, 3), 10 * number, np.uint8) for number in range(5)]
    sheet = np.asarray(contact_sheet(tiles, columns=2, gap=3))
    assert sheet.shape[:2] == (3 * 4 + 11 + 13 + 14, 3 * 3 + 2 * 20)
    tops = [3, 3, 3 + 11 + 3, 3 + 11 + 3, 3 + 11 + 3 + 13 + 3]
    for number, (tile, top) in enumerate(zip(tiles, tops, strict=True)):
        left = 3 + (number % 2) * 23
        np.testing.assert_array_equal(sheet[top : top + tile.shape[0], left : left + 20], tile)


def test_contact_sheet_with_captions_large_tiles_and_none():
    tiles = [np.zeros((2000, 1000, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)]
    sheet = contact_sheet(tiles, captions=["a caption that is much too long for a tile" * 9, "Zellkörper"], side=256)
    assert isinstance(sheet, Image.Image)
    assert sheet.height < 300
    assert contact_sheet([]).size[0] > 0
