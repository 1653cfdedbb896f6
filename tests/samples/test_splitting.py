"""The split keeps what belongs together, matches shares, and depends on nothing but samples and seed."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_segmentation.errors import DataError
from unet_segmentation.parameters.preparation import SplitParameters
from unet_segmentation.samples.splitting import COLUMNS, split_samples

SHARES = {"train": 0.65, "validation": 0.15, "test": 0.2}


def _table(count, groups=None, official=None, pixels=None, hashes=None):
    names = [f"s{number:04d}" for number in range(count)]
    if pixels is None:
        pixels = np.random.default_rng(0).integers(1, 100, (count, 3))
    return pd.DataFrame(
        {
            "sample_id": names,
            "image": [f"{name}.png" for name in names],
            "masks": [[f"{name}_m.png"] for name in names],
            "group": groups if groups is not None else [None] * count,
            "split": official if official is not None else [None] * count,
            "height": 8,
            "width": 8,
            "channels": 3,
            "dtype": "uint8",
            "image_sha256": hashes if hashes is not None else names,
            "mask_sha256": names,
            "pixel_sha256": hashes if hashes is not None else names,
            "class_pixels": np.asarray(pixels).tolist(),
        }
    )


def _counts(samples):
    return samples["split"].value_counts().to_dict()


def test_single_samples_give_exact_counts_and_the_contract():
    samples = split_samples(_table(100), SplitParameters())
    assert list(samples.columns) == COLUMNS
    assert _counts(samples) == {"train": 65, "validation": 15, "test": 20}
    assert samples["group"].tolist() == samples["sample_id"].tolist()


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=20, max_size=80),
    seed=st.integers(0, 1000),
    order=st.randoms(use_true_random=False),
)
def test_no_group_crosses_and_the_order_of_rows_is_nothing(groups, seed, order):
    groups += [20, 21, 22]
    table = _table(len(groups), [f"g{group}" for group in groups])
    samples = split_samples(table, SplitParameters(seed=seed))
    assert (samples.groupby("group")["split"].nunique() == 1).all()
    assert set(samples["split"]) == set(SHARES)
    places = list(range(len(table)))
    order.shuffle(places)
    shuffled = split_samples(table.iloc[places], SplitParameters(seed=seed))
    pd.testing.assert_frame_equal(samples, shuffled)


def test_seeds_differ():
    splits = {tuple(split_samples(_table(40), SplitParameters(seed=seed))["split"]) for seed in range(5)}
    assert len(splits) == 5


def _mismatch(samples, pixels):
    """Sum over splits and classes of |share of the class's pixels in the split - wanted share|."""
    total = pixels.sum(axis=0)
    return sum(
        np.abs(pixels[(samples == name).to_numpy()].sum(axis=0) / total - share).sum() for name, share in SHARES.items()
    )


def test_class_shares_match_better_than_at_random():
    stratified, at_random = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        pixels = random.gamma(0.3, 1000, (60, 5)).astype(int) + np.array([1000, 0, 0, 0, 1])
        split = split_samples(_table(60, pixels=pixels), SplitParameters(seed=seed))["split"]
        stratified.append(_mismatch(split, pixels))
        at_random.append(_mismatch(pd.Series(random.permutation(split)), pixels))
    assert np.mean(stratified) < 0.5 * np.mean(at_random)


def test_identical_images_are_one_group_across_groups():
    hashes = [f"h{number}" for number in range(30)]
    hashes[3] = hashes[17] = hashes[25] = "same"
    groups = [f"g{number // 2}" for number in range(30)]
    for seed in range(10):
        samples = split_samples(_table(30, groups, hashes=hashes), SplitParameters(seed=seed))
        joined = samples.loc[[2, 3, 16, 17, 24, 25]]
        assert joined["split"].nunique() == 1
        assert set(joined["group"]) == {"g1"}


def test_an_official_split_is_kept():
    official = ["train"] * 10 + ["validation"] * 3 + ["test"] * 2
    assert split_samples(_table(15, official=official), SplitParameters())["split"].tolist() == official


def test_a_missing_validation_split_is_cut_from_training():
    official = ["train"] * 20 + ["test"] * 10
    samples = split_samples(_table(30, official=official), SplitParameters())
    assert (samples["split"][20:] == "test").all()
    assert _counts(samples) == {"train": 17, "validation": 3, "test": 10}


def test_samples_without_a_split_beside_official_ones_are_for_training():
    official = ["validation"] * 3 + ["test"] * 3 + [None] * 4
    samples = split_samples(_table(10, official=official), SplitParameters())
    assert _counts(samples) == {"train": 4, "validation": 3, "test": 3}


def test_identical_images_across_official_splits_are_told_and_stay(caplog):
    hashes = ["same", "b", "c", "d", "e", "same"]
    official = ["train", "train", "train", "validation", "test", "test"]
    with caplog.at_level(logging.WARNING):
        samples = split_samples(_table(6, official=official, hashes=hashes), SplitParameters())
    assert samples["split"].tolist() == official
    assert "s0000.png, s0005.png" in caplog.text


def test_too_few():
    with pytest.raises(DataError, match=r"2 samples in 2 groups.*at least 3 groups"):
        split_samples(_table(2), SplitParameters())
    with pytest.raises(DataError, match=r"10 samples in 1 groups.*source.group"):
        split_samples(_table(10, ["one"] * 10), SplitParameters())
    assert _counts(split_samples(_table(3), SplitParameters())) == {"train": 1, "validation": 1, "test": 1}


@pytest.mark.parametrize("sizes", [(10, 10, 10), (1, 1, 28), (28, 1, 1, 1), (5, 5, 5, 5, 1)])
def test_no_split_is_empty_however_large_the_groups(sizes):
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    for seed in range(5):
        samples = split_samples(_table(len(groups), groups), SplitParameters(seed=seed))
        assert set(samples["split"]) == set(SHARES)
        assert _counts(samples)["train"] == max(_counts(samples).values())


def test_a_class_of_a_single_sample_goes_to_training():
    pixels = np.ones((30, 3), int) * 10
    pixels[:, 2] = 0
    pixels[7, 2] = 4
    for seed in range(10):
        samples = split_samples(_table(30, pixels=pixels), SplitParameters(seed=seed))
        assert samples["split"][7] == "train"
