"""The gallery: the right samples, in the right order."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from unet_segmentation.reporting.prediction_gallery import (
    EMBEDDED_SIDE,
    SHOWN_CLASSES,
    Shown,
    class_gallery,
    encode_pictures,
    gallery,
    legend,
    pick_by_class,
    select_examples,
)
from unet_segmentation.visualization import color_mask


def table(count: int, undefined: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(0).permutation(count) / count
    scores = [*values, *[np.nan] * undefined]
    return pd.DataFrame({"sample_id": [f"s{number}" for number in range(len(scores))], "iou/per_image_mean": scores})


def test_worst_median_and_best_are_picked():
    picked = select_examples(table(101, undefined=5), "iou/per_image_mean", 3)
    assert [section for section, _, _ in picked] == ["Worst"] * 3 + ["Median"] * 3 + ["Best"] * 3
    ranks = [round(score * 101) for _, _, score in picked]
    assert ranks == [0, 1, 2, 49, 50, 51, 98, 99, 100]


@pytest.mark.parametrize("count", range(12))
def test_no_sample_comes_twice(count):
    picked = select_examples(table(count, undefined=2), "iou/per_image_mean", 4)
    names = [name for _, name, _ in picked]
    assert len(set(names)) == len(names)
    assert len(names) == (count if count < 3 else 3 * min(4, count // 3))
    scores = [score for _, _, score in picked]
    assert scores == sorted(scores)


@pytest.mark.parametrize("shapes", [[], [(30, 40)], [(1, 1), (700, 300), (64, 64)]])
def test_gallery_takes_any_sizes(shapes):
    samples = [
        Shown("Worst", f"sample {number}", 0.5, np.zeros((*shape, 1), np.uint16), *np.zeros((2, *shape), np.uint8))
        for number, shape in enumerate(shapes)
    ]
    picture = gallery(samples, ["background", "cell"], "IoU")
    assert picture.width > 900
    assert picture.height >= 30 * len(shapes)


def test_legend_breaks_into_lines():
    few, many = legend(["a", "b"], 600), legend([f"class number {number}" for number in range(60)], 600)
    assert few.width == many.width == 600
    assert many.height > 5 * few.height


def counts(rows: list[tuple[str, int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["sample_id", "truth", "prediction", "count"])


def test_of_images_where_a_class_is_missed_the_one_with_most_of_it_is_the_worst():
    """Four images without a hit, one with half, one with all; `b` has the most missed, `c` the most false pixels."""
    table = pd.DataFrame({"sample_id": list("abcdef"), "iou/class/cell": [0.0, 0.0, 0.0, 0.0, 0.5, 1.0]})
    confusion = counts(
        [("a", 1, 0, 5), ("b", 1, 0, 70), ("c", 0, 1, 60), ("d", 0, 1, 1), ("e", 1, 1, 9), ("f", 1, 1, 3)]
    )
    picked = pick_by_class(table.assign(**{"iou/class/background": np.nan}), confusion, ["background", "cell"])
    assert picked == [("cell", "worst", "b", 0.0), ("cell", "median", "d", 0.0), ("cell", "best", "f", 1.0)]


@pytest.mark.parametrize("count", range(1, 6))
def test_no_image_comes_twice_for_a_class(count):
    table = pd.DataFrame({"sample_id": list("abcde")[:count], "iou/class/cell": np.arange(count) / 10})
    picked = pick_by_class(table, counts([]), ["cell"])
    assert len({name for _, _, name, _ in picked}) == len(picked) == min(count, 3)
    assert picked[0][1] == ("only" if count == 1 else "worst")
    assert [section for _, section, _, _ in picked][1:] == (["median", "best"] if count > 2 else ["best"][: count - 1])


def test_all_images_alike_give_one():
    table = pd.DataFrame({"sample_id": list("abcd"), "iou/class/cell": 0.0})
    assert [section for _, section, _, _ in pick_by_class(table, counts([]), ["cell"])] == ["worst", "median"]


def test_the_weakest_of_many_classes_are_shown():
    classes = [f"class {number}" for number in range(50)]
    table = pd.DataFrame({"sample_id": ["a", "b", "c"]})
    table = table.assign(**{f"iou/class/class_{number}": (50 - number) / 50 for number in range(50)})
    right = [("a", number, number, 50 - number) for number in range(50)]
    confusion = counts([*right, *(("a", number, (number + 1) % 50, 50) for number in range(50))])
    shown = list(dict.fromkeys(name for name, _, _, _ in pick_by_class(table, confusion, classes)))
    assert shown == classes[: -SHOWN_CLASSES - 1 : -1]


def test_the_gallery_by_class_has_a_row_for_each():
    sample = Shown("worst", "a", 0.5, np.zeros((30, 40, 3), np.uint8), *np.zeros((2, 30, 40), np.uint8))
    one = class_gallery([("cell", sample), ("cell", sample)], ["background", "cell"])
    two = class_gallery([("cell", sample), ("background", sample)], ["background", "cell"])
    assert one.height < two.height
    assert class_gallery([], ["background"]).height > 0


@pytest.mark.parametrize("shape", [(30, 40), (700, 500), (5000, 30)])
def test_pictures_for_the_page_are_small_and_the_masks_exact(shape):
    random = np.random.default_rng(0)
    mask = random.integers(0, 3, shape).astype(np.uint8)
    pictures = encode_pictures(Shown("Worst", "a", 0.5, np.zeros((*shape, 1), np.uint16), mask, mask))
    image, truth, _, errors = (np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in pictures)
    assert max(truth.shape) <= EMBEDDED_SIDE
    assert image.shape == truth.shape == errors.shape
    if max(shape) <= EMBEDDED_SIDE:
        np.testing.assert_array_equal(truth, color_mask(mask))
