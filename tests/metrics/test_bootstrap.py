"""Intervals beside SciPy's, beside brute force, and beside a truth that is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from unet_segmentation.metrics.bootstrap import ENTRIES, Resampling, bootstrap, bootstrap_draws, confidence_limits
from unet_segmentation.metrics.confusion_matrix import confusion_table
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.metrics.sufficient_statistics import UnitSums

CLASSES = ["background", "cytoplasm", "nucleus"]


def tables(matrices, names=None):
    """Return the tables of images with such confusion matrices."""
    names = names or [f"s{number:04d}" for number in range(len(matrices))]
    truth = [float(matrix.sum()) for matrix in matrices]
    hits = [0.9 * float(np.trace(matrix)) for matrix in matrices]
    soft = pd.DataFrame({"sample_id": names, "intersection": hits, "truth": truth, "prediction": truth})
    return EvaluationTables({"confusion": confusion_table(zip(names, matrices, strict=True)), "soft": soft})


def random_matrices(count, seed=0, classes=3):
    generator = np.random.default_rng(seed)
    matrices = generator.integers(0, 40, (count, classes, classes))
    matrices[:, range(classes), range(classes)] += generator.integers(0, 900, (count, classes))
    return list(matrices)


def of(table, score):
    return table.set_index("score").loc[score]


def test_sums_give_the_scores_of_the_table():
    matrices = random_matrices(30)
    matrices[3][:] = 0  # every pixel ignored
    matrices[4][:, 2] = matrices[4][2] = 0
    counts = tables(matrices)
    sums = UnitSums.of(counts, CLASSES)
    expected = compute_scores(counts, CLASSES)
    assert sums.names == list(expected)
    np.testing.assert_allclose(sums.scores(sums.total), list(expected.values()), rtol=1e-14)


def test_a_resample_is_scored_as_the_images_that_were_drawn():
    matrices = random_matrices(7)
    sums = UnitSums.of(tables(matrices), CLASSES)
    weights = bootstrap_draws(7, range(20), seed=1)
    assert (weights.sum(axis=1) == 7).all()
    result = sums.scores(weights @ sums.table)
    for row, drawn in zip(result, weights.astype(int), strict=True):
        again = [matrix for matrix, times in zip(matrices, drawn, strict=True) for _ in range(times)]
        expected = compute_scores(tables(again), CLASSES)
        np.testing.assert_allclose(row, list(expected.values()), rtol=1e-12)


def test_each_unit_is_drawn_as_often_as_any_other():
    weights = bootstrap_draws(50, range(20_000), seed=0)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(weights.var(), 1 - 1 / 50, atol=0.02)  # of a multinomial's counts


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_are_those_of_scipy(method):
    values = np.random.default_rng(4).gamma(0.7, size=60)  # skewed, so that the two methods differ
    units = len(values)
    rng = np.random.default_rng(0)
    resampled = (bootstrap_draws(units, range(40_000), seed=0) @ values[:, None]) / units
    jackknifed = (values.sum() - values[:, None]) / (units - 1)
    low, high = confidence_limits(np.array([values.mean()]), resampled, jackknifed, Resampling(method))
    # SciPy does not widen its intervals: it is asked for the confidence that ours amounts to.
    freedom = 2 * units / (scipy.stats.kurtosis(values, fisher=False) - 1)
    tail = scipy.stats.norm.cdf(np.sqrt(units / (units - 1)) * scipy.stats.t.ppf(0.025, min(units - 1, freedom)))
    name = {"percentile": "percentile", "bca": "BCa"}[method]
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, confidence_level=1 - 2 * tail, method=name, rng=rng
    ).confidence_interval
    spread = expected.high - expected.low
    assert low[0] == pytest.approx(expected.low, abs=0.03 * spread)
    assert high[0] == pytest.approx(expected.high, abs=0.03 * spread)


def test_the_same_seed_gives_the_same_intervals_and_another_seed_nearly_the_same():
    sums = UnitSums.of(tables(random_matrices(60)), CLASSES)
    one, again, other = (bootstrap(sums, Resampling(seed=seed)) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert not one["low"].equals(other["low"])
    np.testing.assert_allclose(one["low"], other["low"], atol=2e-3)


def test_groups_are_drawn_as_one():
    matrices = random_matrices(24)
    names = [f"s{number}" for number in range(24)]
    groups = {name: f"patient {number // 3}" for number, name in enumerate(names)}
    counts = tables(matrices, names)
    grouped = bootstrap(UnitSums.of(counts, CLASSES, groups))
    merged = [sum(matrices[place : place + 3]) for place in range(0, 24, 3)]
    alone = bootstrap(UnitSums.of(tables(merged), CLASSES))
    assert set(grouped["unit"]) == {"groups"}
    assert set(grouped["units"]) == {8}
    for score in ("dice/mean", "iou/class/nucleus", "accuracy/pixel"):
        assert of(grouped, score)[["value", "low", "high"]].tolist() == pytest.approx(
            of(alone, score)[["value", "low", "high"]].tolist(), rel=1e-12
        )
    # A mean over images stays one over images: a group of three weighs three times as much as one of one.
    assert of(grouped, "dice/per_image_mean")["value"] == pytest.approx(
        compute_scores(counts, CLASSES)["dice/per_image_mean"]
    )


def test_images_without_a_group_are_units_of_their_own():
    sums = UnitSums.of(tables(random_matrices(6)), CLASSES, {"s0000": "a", "s0001": "a", "s0002": None})
    assert sums.units == ("a", "s0002", "s0003", "s0004", "s0005")


def test_few_images_are_not_to_be_trusted_and_the_table_says_why():
    few, enough = (bootstrap(UnitSums.of(tables(random_matrices(count)), CLASSES)) for count in (19, 20))
    assert not few["trusted"].any()
    assert "19 images" in few["remark"][0]
    assert enough["trusted"].all()
    assert set(enough["remark"]) == {""}


def test_a_class_that_few_images_hold_is_not_to_be_trusted():
    matrices = random_matrices(40)
    for matrix in matrices[5:]:
        matrix[:, 2] = matrix[2] = 0
    table = bootstrap(UnitSums.of(tables(matrices), CLASSES))
    assert of(table, "dice/class/nucleus")["units"] == 5
    assert not of(table, "dice/class/nucleus")["trusted"]
    assert of(table, "dice/class/cytoplasm")["trusted"]


def test_what_is_undefined_has_no_interval():
    matrices = random_matrices(25)
    for matrix in matrices:
        matrix[:, 2] = matrix[2] = 0
    row = of(bootstrap(UnitSums.of(tables(matrices), CLASSES)), "iou/class/nucleus")
    assert np.isnan([row["value"], row["low"], row["high"]]).all()


@pytest.mark.parametrize("count", [1, 2, 30])
def test_equal_images_leave_no_doubt(count):
    row = of(bootstrap(UnitSums.of(tables([random_matrices(1)[0]] * count), CLASSES)), "dice/mean")
    assert row["low"] == pytest.approx(row["value"], rel=1e-12)
    assert row["high"] == pytest.approx(row["value"], rel=1e-12)


def population(generator, count):
    """Draw images as they come: sizes and scores vary, and large objects are found better. (count, 3, 3)."""
    cell = generator.lognormal(7, 0.5, count)
    nucleus = cell * generator.beta(4, 8, count)
    result = generator.beta(20, 2, (count, 2)) * (0.9 + 0.1 * (cell / (cell + 500)))[:, None]
    matrices = np.zeros((count, 3, 3))
    for number, size in ((1, cell - nucleus), (2, nucleus)):
        matrices[:, number, number] = size * result[:, number - 1]
        matrices[:, number, 0] = matrices[:, 0, number] = size * (1 - result[:, number - 1])
    matrices[:, 0, 0] = 16_384 - cell
    return np.rint(matrices).astype(np.int64)


def sums_of(matrices):
    """The table of sums, without data frames."""
    from unet_segmentation.metrics.confusion_matrix import ClassCounts
    from unet_segmentation.metrics.definitions import dice_per_class

    counts = ClassCounts.of(matrices)
    image = dice_per_class(counts).mean(axis=1)
    return np.concatenate([counts.tp, counts.support, counts.predicted, image[:, None]], axis=1).astype(float)


def two_scores(sums, images):
    dice = 2 * sums[..., :3] / (sums[..., 3:6] + sums[..., 6:9])
    return np.stack([dice.mean(axis=-1), dice[..., 2], sums[..., 9] / images], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("images", [100, 1000])
def test_intervals_hold_the_truth_as_often_as_they_say(images, method):
    truth = two_scores(sums_of(population(np.random.default_rng(99), 1_000_000)).sum(axis=0), 1_000_000)
    resampling, trials = Resampling(method, resamples=500), 1000
    generator = np.random.default_rng(7)
    held = np.zeros(3)
    for _ in range(trials):
        table = sums_of(population(generator, images))
        weights = bootstrap_draws(images, range(resampling.resamples), int(generator.integers(1 << 30)))
        jackknifed = two_scores(table.sum(axis=0) - table, images - 1)
        value = two_scores(table.sum(axis=0), images)
        low, high = confidence_limits(value, two_scores(weights @ table, images), jackknifed, resampling)
        held += (low <= truth) & (truth <= high)
    assert (held / trials >= 0.93).all(), held / trials
    assert (held / trials <= 0.97).all(), held / trials


def test_memory_is_bounded(monkeypatch):
    from unet_segmentation.metrics import bootstrap as intervals

    sizes = []
    monkeypatch.setattr(
        intervals,
        "bootstrap_draws",
        lambda units, some, seed: sizes.append(units * len(some)) or np.ones((len(some), units)),
    )
    sums = UnitSums.of(tables(random_matrices(1000)), CLASSES)
    bootstrap(sums)
    assert max(sizes) <= ENTRIES
    assert sum(sizes) == 10_000 * 1000
