"""Folds are a partition, keep groups whole, share out the classes, and depend on the seed alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_segmentation.data.split.kfold import assign_folds, held_out, samples_of_fold
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import CrossValidationParameters, SplitParameters
from unet_segmentation.parameters.data import BlockParameters

EVERY = ["train", "validation", "test"]


def tables(count, groups=None, seed=0, masks=None, splits=None):
    """The samples with their split, and what inspection measured of them."""
    random = np.random.default_rng(seed)
    names = [f"s{number:04d}" for number in range(count)]
    inspected = pd.DataFrame(
        {
            "sample_id": names,
            "image": [f"{name}.png" for name in names],
            "masks": masks or [["m.png"]] * count,
            "roi": "",
            "group": [None] * count,
            "split": [None] * count,
            "height": 8,
            "width": 8,
            "channels": 1,
            "dtype": "uint8",
            "image_sha256": names,
            "mask_sha256": names,
            "pixel_key": names,
            "class_pixels": (random.gamma(0.5, 100, (count, 3)).astype(int) + np.array([10, 0, 0])).tolist(),
        }
    )
    split = splits or random.choice(EVERY, count).tolist()
    samples = inspected.drop(columns=["class_pixels", "pixel_key"]).assign(group=groups or names, split=split)
    return samples, inspected


def cut(samples, inspected, split=None, **parameters):
    chosen = CrossValidationParameters.model_validate({"splits": EVERY} | parameters)
    return assign_folds(samples, inspected, chosen, split or SplitParameters())


def is_refused(groups):
    """Too few groups, or one so large that it may be all that one of two folds has: no training beside validation."""
    return len(set(groups)) < 6 or 2.5 * max(map(groups.count, groups)) > len(groups)


def test_a_group_that_is_all_that_is_left_for_training_and_validation_is_refused():
    with pytest.raises(ConfigurationError, match="5 samples in 1 groups"):
        cut(*tables(10, [f"g{group}" for group in (0, 0, 0, 0, 0, 1, 2, 3, 4, 5)]), folds=2, seed=0)


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.integers(0, 15), min_size=10, max_size=60).filter(lambda result: not is_refused(result)),
    folds=st.integers(2, 4),
    seed=st.integers(0, 3),
)
def test_each_sample_is_held_out_once_and_groups_stay_whole(groups, folds, seed):
    names = [f"g{group}" for group in groups]
    result = cut(*tables(len(groups), names), folds=folds, seed=seed)
    group_of = {f"s{number:04d}": name for number, name in enumerate(names)}
    out = result[result["split"] == "test"]
    assert sorted(out["sample_id"]) == sorted(group_of)
    assert set(out["fold"]) == set(range(1, folds + 1))
    for fold, rows in result.groupby("fold"):
        assert sorted(rows["sample_id"]) == sorted(group_of)
        assert set(rows["split"]) == set(EVERY)
        assert (rows.groupby(rows["sample_id"].map(group_of))["split"].nunique() == 1).all()
        assert held_out(result, fold) == sorted(out.loc[out["fold"] == fold, "sample_id"])


def test_classes_are_shared_out_better_than_at_random():
    samples, inspected = tables(60)
    result = cut(samples, inspected, folds=5)
    pixels = np.array(inspected["class_pixels"].tolist())

    def deviation(fold_of):
        shares = np.stack([pixels[fold_of == fold].sum(axis=0) for fold in range(1, 6)]) / pixels.sum(axis=0)
        return np.abs(shares - 0.2).mean()

    out = result[result["split"] == "test"].sort_values("sample_id")["fold"].to_numpy()
    assert np.bincount(out)[1:].tolist() == [12] * 5
    random = np.random.default_rng(1)
    assert deviation(out) < 0.5 * np.mean([deviation(random.permutation(out)) for _ in range(200)])


def test_validation_has_its_share_of_what_is_not_held_out():
    result = cut(*tables(100), SplitParameters(validation=0.25), folds=5)
    counts = result.groupby(["fold", "split"]).size().unstack()
    assert (counts["test"] == 20).all()
    assert (counts["validation"] == 20).all()


def test_the_seed_decides_and_the_order_of_the_rows_does_not():
    samples, inspected = tables(40)
    result = cut(samples, inspected)
    pd.testing.assert_frame_equal(result, cut(samples.iloc[::-1], inspected.sample(frac=1, random_state=0)))
    assert not result.equals(cut(samples, inspected, seed=1))


def test_only_labeled_samples_of_the_named_splits_take_part():
    masks = [["m.png"]] * 28 + [[]] * 2
    samples, inspected = tables(30, masks=masks, splits=EVERY * 10)
    result = cut(samples, inspected, folds=3, splits=["train", "validation"])
    expected = samples[(samples["split"] != "test") & (samples["masks"].map(len) > 0)]["sample_id"]
    assert set(result["sample_id"]) == set(expected)


def test_identical_images_and_blocks_stay_together():
    """Blocks are in the groups already, so that their pattern does not matter any more."""
    samples, inspected = tables(20)
    inspected.loc[[3, 17], "pixel_key"] = "same"
    split = SplitParameters(blocks=BlockParameters(pattern="(?P<row>x)(?P<column>y)", side=1))
    result = cut(samples, inspected, split, folds=4)
    pairs = result[result["sample_id"].isin(["s0003", "s0017"])]
    assert (pairs.groupby("fold")["split"].nunique() == 1).all()


def test_a_fold_gives_the_samples_their_split():
    samples, inspected = tables(12)
    result = cut(samples, inspected, folds=3)
    table = samples_of_fold(samples, result, 2)
    assert sorted(table.loc[table["split"] == "test", "sample_id"]) == held_out(result, 2)
    assert list(table.columns) == [*samples.columns.drop("split"), "split"]


@pytest.mark.parametrize(
    ("groups", "folds", "says"),
    [
        (["a", "b", "c"] * 4, 5, "12 samples in 3 groups, and each of 5 folds needs at least one"),
        (["a", "b"] * 6, 2, "each of train, validation needs at least one group"),
    ],
)
def test_too_few_groups_are_refused(groups, folds, says):
    with pytest.raises(ConfigurationError, match=rf"cross_validation\.folds: .*{says}.* or take fewer folds"):
        cut(*tables(12, groups), folds=folds)


def test_splits_without_a_sample_are_refused():
    samples, inspected = tables(6, splits=["train"] * 6)
    with pytest.raises(ConfigurationError, match=r"cross_validation\.splits: .* in validation, test"):
        cut(samples, inspected, splits=["validation", "test"])
