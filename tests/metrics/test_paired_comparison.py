"""Paired comparison beside SciPy's permutation test, brute force and properties."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from tests.metrics.test_bootstrap import CLASSES, random_matrices, tables
from unet_segmentation.errors import DataError
from unet_segmentation.metrics.bootstrap import Resampling
from unet_segmentation.metrics.paired_comparison import compare, permutation_test, verdict
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.metrics.sufficient_statistics import UnitSums


def spoiled(matrices, share, seed=1, classes=None):
    """Move a share of the hits of each image to other predictions; the truth stays."""
    generator = np.random.default_rng(seed)
    result = []
    for matrix in matrices:
        worse = matrix.copy()
        for number in classes or range(len(matrix)):
            lost = generator.binomial(worse[number, number], share)
            worse[number, number] -= lost
            worse[number, (number + 1) % len(matrix)] += lost
        result.append(worse)
    return result


def row(table, score):
    return table.set_index("score").loc[score]


def test_a_run_is_tied_with_itself():
    run = tables(random_matrices(40))
    table = compare(run, run, CLASSES, margin=0.001)
    assert set(table["verdict"]) == {"equivalent"}
    assert (table["difference"] == 0).all()
    assert (table["p_value"] == 1).all()


def test_values_are_those_of_the_two_runs_and_the_difference_is_between_them():
    good = random_matrices(40)
    bad = spoiled(good, 0.1)
    table = compare(tables(bad), tables(good), CLASSES, margin=0.01)
    for name, expected in (
        ("challenger", compute_scores(tables(bad), CLASSES)),
        ("champion", compute_scores(tables(good), CLASSES)),
    ):
        assert dict(zip(table["score"], table[name], strict=True)) == pytest.approx(expected)
    np.testing.assert_allclose(table["difference"], table["challenger"] - table["champion"])
    assert row(table, "dice/mean")["verdict"] == "worse"
    assert row(table, "dice/mean")["p_value"] < 0.001
    other_way = compare(tables(good), tables(bad), CLASSES, margin=0.01)
    assert row(other_way, "dice/mean")["verdict"] == "better"
    np.testing.assert_allclose(other_way["p_value"], table["p_value"], atol=0.02)


def test_the_pairing_finds_what_two_intervals_cannot():
    from unet_segmentation.metrics.bootstrap import bootstrap

    good = random_matrices(40)
    bad = spoiled(good, 0.02)
    alone = [bootstrap(UnitSums.of(tables(run), CLASSES)).set_index("score").loc["iou/mean"] for run in (bad, good)]
    assert alone[0]["high"] > alone[1]["low"]  # the intervals overlap
    assert row(compare(tables(bad), tables(good), CLASSES, margin=0.001), "iou/mean")["verdict"] == "worse"


def test_the_permutation_test_is_scipys():
    """For a mean over images, exchanging two networks on an image is SciPy's paired test."""
    first = random_matrices(25)
    second = spoiled(first, 0.03, seed=2)
    second[::2] = first[::2]
    actual, reference = (UnitSums.of(tables(run), CLASSES) for run in (first, second))
    result = permutation_test(actual, reference, Resampling(resamples=20_000))
    values = [
        [compute_scores(tables([matrix]), CLASSES)["dice/per_image_mean"] for matrix in run] for run in (first, second)
    ]
    expected = scipy.stats.permutation_test(
        values, lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis), permutation_type="samples",
        n_resamples=20_000, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert result[actual.names.index("dice/per_image_mean")] == pytest.approx(expected.pvalue, abs=0.01)


@pytest.mark.slow
def test_the_permutation_test_is_what_all_exchanges_give():
    first = random_matrices(8)
    second = spoiled(random_matrices(8), 0.0)
    for place, matrix in enumerate(spoiled(first, 0.05, seed=3)):
        second[place] = matrix if place % 3 else first[place]
    actual, reference = (UnitSums.of(tables(run), CLASSES) for run in (first, second))
    names = actual.names

    def difference(swaps):
        runs = [
            [(a, b)[swap] for a, b, swap in zip(first, second, swaps, strict=True)],
            [(b, a)[swap] for a, b, swap in zip(first, second, swaps, strict=True)],
        ]
        one, two = (compute_scores(tables(run), CLASSES) for run in runs)
        return np.abs([one[name] - two[name] for name in names])

    observed = difference([0] * 8)
    all_of_them = np.array([difference(swaps) for swaps in product((0, 1), repeat=8)])
    expected = (all_of_them >= observed - 1e-12).mean(axis=0)
    np.testing.assert_allclose(permutation_test(actual, reference, Resampling(resamples=20_000)), expected, atol=0.015)


@pytest.mark.slow
def test_two_networks_that_differ_by_chance_are_called_different_as_seldom_as_promised():
    generator = np.random.default_rng(5)
    called = wrong = 0
    for _ in range(300):
        base = random_matrices(40, seed=int(generator.integers(1 << 30)))
        one, two = (tables(spoiled(base, 0.05, seed=int(generator.integers(1 << 30)))) for _ in range(2))
        result = row(compare(one, two, CLASSES, margin=0.0, resamples=400), "dice/mean")
        called += result["verdict"] in ("better", "worse")
        wrong += result["p_value"] <= 0.05
    assert called / 300 < 0.09
    assert 0.02 < wrong / 300 < 0.09


def test_one_class_that_falls_is_named():
    good = random_matrices(60)
    table = compare(tables(spoiled(good, 0.15, classes=[2])), tables(good), CLASSES, margin=0.01)
    assert row(table, "recall/class/nucleus")["verdict"] == "worse"
    assert row(table, "recall/class/cytoplasm")["verdict"] == "equivalent"


def test_p_values_of_classes_are_corrected_for_their_number():
    good = random_matrices(60)
    table = compare(tables(spoiled(good, 0.002)), tables(good), CLASSES, margin=0.01)
    of_classes = table[table["score"].str.startswith("recall/class/")]
    expected, running = {}, 0.0
    for place, (score, p) in enumerate(
        sorted(of_classes.set_index("score")["p_value"].items(), key=lambda one: one[1])
    ):
        running = max(running, min(1.0, p * (3 - place)))
        expected[score] = running
    assert of_classes.set_index("score")["p_adjusted"].to_dict() == pytest.approx(expected)
    whole = row(table, "dice/mean")
    assert whole["p_adjusted"] == whole["p_value"]


def test_a_class_that_neither_knows_is_undefined():
    matrices = random_matrices(25)
    for matrix in matrices:
        matrix[:, 2] = matrix[2] = 0
    table = compare(tables(matrices), tables(matrices), CLASSES, margin=0.01)
    assert row(table, "dice/class/nucleus")["verdict"] == "undefined"


def test_the_order_of_the_images_does_not_matter():
    good = random_matrices(30)
    names = [f"s{number:04d}" for number in range(30)]
    order = np.random.default_rng(0).permutation(30)
    shuffled = tables([good[place] for place in order], [names[place] for place in order])
    bad = tables(spoiled(good, 0.1))
    pd.testing.assert_frame_equal(
        compare(bad, shuffled, CLASSES, margin=0.01, resamples=200),
        compare(bad, tables(good), CLASSES, margin=0.01, resamples=200),
    )


def test_groups_are_exchanged_as_one():
    good = random_matrices(12)
    bad = spoiled(good, 0.1)
    groups = {f"s{number:04d}": f"g{number // 4}" for number in range(12)}
    table = compare(tables(bad), tables(good), CLASSES, margin=0.01, groups=groups)
    # Of three groups, all on one side or all on the other is as large: 2 of 8 exchanges.
    assert row(table, "accuracy/pixel")["p_value"] == pytest.approx(0.25, abs=0.02)


def test_other_samples_are_refused():
    run = random_matrices(5)
    with pytest.raises(DataError, match=r"not tested on the same samples: 1 .*s0004"):
        compare(tables(run), tables(run[:4]), CLASSES, margin=0.01)


def test_other_masks_are_refused():
    run = random_matrices(5)
    other = [matrix.copy() for matrix in run]
    other[2][0, 0] += 1
    with pytest.raises(DataError, match=r"not tested on the same masks: those of 1 samples? differ.*s0002"):
        compare(tables(run), tables(other), CLASSES, margin=0.01)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.01, 0.01, "equivalent"),
        (0.001, 0.009, "equivalent"),
        (0.001, 0.02, "better"),
        (-0.02, -0.001, "worse"),
        (-0.02, 0.001, "inconclusive"),
        (np.nan, np.nan, "undefined"),
    ],
)
def test_verdicts(low, high, expected):
    assert verdict(low, high, 0.01) == expected
