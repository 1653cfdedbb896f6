"""The gallery: the right samples, in the right order."""

import numpy as np
import pandas as pd
import pytest

from unet_segmentation.figures.gallery import Shown, gallery, legend, pick


def table(count: int, undefined: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(0).permutation(count) / count
    scores = [*values, *[np.nan] * undefined]
    return pd.DataFrame({"sample_id": [f"s{number}" for number in range(len(scores))], "iou/image_mean": scores})


def test_worst_median_and_best_are_picked():
    picked = pick(table(101, undefined=5), "iou/image_mean", 3)
    assert [section for section, _, _ in picked] == ["Worst"] * 3 + ["Median"] * 3 + ["Best"] * 3
    ranks = [round(score * 101) for _, _, score in picked]
    assert ranks == [0, 1, 2, 49, 50, 51, 98, 99, 100]


@pytest.mark.parametrize("count", range(12))
def test_no_sample_comes_twice(count):
    picked = pick(table(count, undefined=2), "iou/image_mean", 4)
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
