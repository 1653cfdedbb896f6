"""Means over networks, against the networks one by one."""

import numpy as np
import pandas as pd
import pytest

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.bootstrap import Resampling, bootstrap
from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.multi_seed import MultiSeedSums
from unet_segmentation.metrics.paired_comparison import compare, compare_sums
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.metrics.soft_overlap import soft_overlap_sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums

CLASSES = ["a", "b", "c"]
RESAMPLING = Resampling(resamples=400)


def tables_of(seed, right=0.7, images=12):
    """The tables of a network that is right at a share of the pixels."""
    truth = np.random.default_rng(0).integers(0, 3, (images, 8, 8), dtype=np.uint8)
    random = np.random.default_rng(seed)
    guess = np.where(random.random(truth.shape) < right, truth, random.integers(0, 3, truth.shape)).astype(np.uint8)
    names = [f"i{number}" for number in range(images)]
    confusion = confusion_table(
        (name, confusion_matrix(*pair, 3)) for name, *pair in zip(names, truth, guess, strict=True)
    )
    one_hot = np.moveaxis(np.eye(3, dtype=np.float32)[guess], -1, 1)
    soft = pd.DataFrame([soft_overlap_sums(*pair)._asdict() for pair in zip(truth, one_hot, strict=True)])
    soft.insert(0, "sample_id", names)
    return EvaluationTables({"confusion": confusion, "soft": soft})


def sums_of(*seeds, **options):
    return MultiSeedSums([UnitSums.of(tables_of(seed, **options), CLASSES) for seed in seeds])


def test_the_mean_of_the_scores_of_each():
    result = sums_of(1, 2, 3)
    each = [compute_scores(tables_of(seed), CLASSES) for seed in (1, 2, 3)]
    expected = [np.mean([one[name] for one in each]) for name in result.names]
    np.testing.assert_allclose(result.scores(result.total), expected)


def test_one_network_alone_has_the_intervals_that_it_has_anyway():
    (alone,) = sums_of(1).models
    pd.testing.assert_frame_equal(bootstrap(sums_of(1), RESAMPLING), bootstrap(alone, RESAMPLING))


def test_compared_alone_as_two_networks_are():
    expected = compare(tables_of(1, 0.8), tables_of(2), CLASSES, margin=0.01, resamples=400)
    result = compare_sums(sums_of(1, right=0.8), sums_of(2), RESAMPLING, margin=0.01)
    pd.testing.assert_frame_equal(result, expected)


def test_several_seeds_tell_more_than_one():
    """Seeds average out: the interval of a mean over seeds is narrower where networks differ by chance alone."""
    width = [
        compare_sums(sums_of(*actual), sums_of(*reference), RESAMPLING, margin=0.01).set_index("score").loc["dice/mean"]
        for actual, reference in (((1,), (2,)), (tuple(range(10, 18)), tuple(range(20, 28))))
    ]
    one, eight = (row["high"] - row["low"] for row in width)
    assert eight < one / 2


def test_networks_tested_on_other_images_have_no_mean():
    with pytest.raises(DataError, match="same images"):
        MultiSeedSums([*sums_of(1).models, *sums_of(1, images=11).models])
