"""The split keeps what belongs together, matches shares, stays as it was, and tells what leaks."""

import itertools
import logging
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_segmentation.data.split.split import COLUMNS, split_samples
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.data import BlockParameters, SplitParameters

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
            "roi": "",
            "group": groups if groups is not None else [None] * count,
            "split": official if official is not None else [None] * count,
            "height": 8,
            "width": 8,
            "channels": 3,
            "dtype": "uint8",
            "image_sha256": hashes if hashes is not None else names,
            "mask_sha256": names,
            "pixel_key": hashes if hashes is not None else names,
            "class_pixels": np.asarray(pixels).tolist(),
        }
    )


def _split(table, folder=None, pairs=None, **parameters):
    """Split all samples; what was found does not matter here."""
    return _split_and_findings(table, folder, pairs, **parameters)[0]


def _split_and_findings(table, folder=None, pairs=None, usable=None, **parameters):
    usable = pd.Series(True, index=table.index) if usable is None else usable
    return split_samples(table, usable, SplitParameters(**parameters), folder, pairs, _names(table))


def _names(table):
    return list("abcde")[: len(table["class_pixels"].iloc[0]) if len(table) else 3]


def _of_kind(findings, kind):
    return [entry for entry in findings if entry.kind == kind]


def _counts(samples):
    return samples["split"].value_counts().to_dict()


def test_single_samples_give_exact_counts_and_the_contract():
    samples = _split(_table(100))
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
    samples = _split(table, seed=seed)
    assert (samples.groupby("group")["split"].nunique() == 1).all()
    assert set(samples["split"]) == set(SHARES)
    places = list(range(len(table)))
    order.shuffle(places)
    shuffled = _split(table.iloc[places], seed=seed)
    pd.testing.assert_frame_equal(samples, shuffled)


def test_seeds_differ():
    splits = {tuple(_split(_table(40), seed=seed)["split"]) for seed in range(5)}
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
        split = _split(_table(60, pixels=pixels), seed=seed)["split"]
        stratified.append(_mismatch(split, pixels))
        at_random.append(_mismatch(pd.Series(random.permutation(split)), pixels))
    assert np.mean(stratified) < 0.5 * np.mean(at_random)


def test_class_shares_of_groups_match_better_than_at_random():
    stratified, at_random = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        groups = random.integers(0, 40, 200)
        of_group = random.gamma(0.3, 1000, (40, 5)) + np.array([1000, 0, 0, 0, 1])
        pixels = (of_group[groups] * random.uniform(0.5, 1.5, (200, 1))).astype(int)
        names, places = np.unique(groups, return_inverse=True)
        split = _split(_table(200, [f"g{group}" for group in groups], pixels=pixels), seed=seed)["split"]
        stratified.append(_mismatch(split, pixels))
        chance = random.choice(list(SHARES), len(names), p=list(SHARES.values()))
        at_random.append(_mismatch(pd.Series(chance[places]), pixels))
    assert np.mean(stratified) < 0.5 * np.mean(at_random)


def test_identical_images_are_one_group_across_groups():
    hashes = [f"h{number}" for number in range(30)]
    hashes[3] = hashes[17] = hashes[25] = "same"
    groups = [f"g{number // 2}" for number in range(30)]
    for seed in range(10):
        samples = _split(_table(30, groups, hashes=hashes), seed=seed)
        joined = samples.loc[[2, 3, 16, 17, 24, 25]]
        assert joined["split"].nunique() == 1
        assert set(joined["group"]) == {"g1"}


def test_an_official_split_is_kept():
    official = ["train"] * 10 + ["validation"] * 3 + ["test"] * 2
    assert _split(_table(15, official=official))["split"].tolist() == official


def test_a_missing_validation_split_is_cut_from_training():
    official = ["train"] * 20 + ["test"] * 10
    samples = _split(_table(30, official=official))
    assert (samples["split"][20:] == "test").all()
    assert _counts(samples) == {"train": 17, "validation": 3, "test": 10}


def test_samples_without_a_split_beside_official_ones_are_for_training():
    official = ["validation"] * 3 + ["test"] * 3 + [None] * 4
    samples = _split(_table(10, official=official))
    assert _counts(samples) == {"train": 4, "validation": 3, "test": 3}


def test_identical_images_across_official_splits_are_an_error_and_stay():
    """s0, s1 (train) and s3 (validation) show the same as s5 (test); s2 and s4 agree in the bytes alone."""
    table = _table(6, official=["train", "train", "train", "validation", "validation", "test"])
    table["pixel_key"] = ["same", "same", "", "same", "", "same"]
    table["image_sha256"] = ["0", "1", "bytes", "3", "bytes", "5"]
    samples, findings = _split_and_findings(table)
    assert samples["split"].tolist() == table["split"].tolist()
    result = _of_kind(findings, "identical_across_splits")
    assert [(entry.sample_id, entry.other) for entry in result] == [
        ("s0000", "s0005"),
        ("s0001", "s0005"),
        ("s0002", "s0004"),
        ("s0003", "s0005"),
    ]
    assert result[0].severity == "error"
    assert result[0].file == "s0000.png"
    assert "s0005.png, which is officially for test" in result[0].message


def test_groups_across_official_splits_are_told():
    table = _table(6, ["g", "g", "h", "h", "g", "i"], ["train", "train", "train", "train", "test", "validation"])
    samples, findings = _split_and_findings(table)
    assert samples["split"].tolist() == table["split"].tolist()
    (entry,) = _of_kind(findings, "group_across_splits")
    assert (entry.severity, entry.other, entry.message) == ("warning", "s0004", "g lies in train and test")


def test_unknown_pixels_are_equal_to_nothing():
    samples = _split(_table(30, hashes=[""] * 30))
    assert samples["group"].nunique() == 30


@pytest.mark.parametrize(
    ("count", "groups", "parameters", "message"),
    [
        (2, None, {}, r"2 samples in 2 groups.*train, validation, test.*at least 3 groups: add samples$"),
        (10, ["one"] * 10, {}, r"10 samples in 1 groups.*source.group"),
        (4, None, {"folds": 5}, r"each of 5 folds needs at least one group"),
        (0, None, {}, r"0 samples"),
    ],
)
def test_too_few_samples_are_an_error_and_have_no_split(tmp_path, count, groups, parameters, message):
    samples, findings = _split_and_findings(_table(count, groups), tmp_path, **parameters)
    (entry,) = findings
    assert (entry.kind, entry.severity, entry.sample_id) == ("too_few_samples", "error", "")
    assert re.search(message, entry.message)
    assert list(samples.columns) == COLUMNS
    assert samples["split"].tolist() == [None] * count
    assert not list(tmp_path.iterdir())


def test_samples_that_cannot_be_used_have_no_split():
    table = _table(6)
    usable = pd.Series([True, True, False, False, True, True])
    samples, findings = _split_and_findings(table, usable=usable)
    assert samples["sample_id"].tolist() == ["s0000", "s0001", "s0004", "s0005"]
    assert not _of_kind(findings, "too_few_samples")
    _, findings = _split_and_findings(table, usable=~usable)
    assert "4 more have errors and do not count" in findings[0].message


def test_three_samples_are_enough():
    assert _counts(_split(_table(3))) == {"train": 1, "validation": 1, "test": 1}


def test_classes_that_a_split_lacks_are_told():
    official = ["train"] * 3 + ["validation"] * 3 + ["test"] * 3
    pixels = np.full((9, 3), 1000)
    pixels[:3, 1] = 0
    pixels[3:6, 2] = [0, 99, 0]
    pixels[6:, 0] = 0
    _, findings = _split_and_findings(_table(9, official=official, pixels=pixels))
    assert [(entry.kind, entry.severity, entry.message) for entry in findings] == [
        ("absent_in_training", "error", "b: no pixel in the 3 training samples"),
        ("rare_in_split", "warning", "c: 99 pixels in the 3 validation samples"),
        ("rare_in_split", "warning", "a: no pixels in the 3 test samples"),
    ]


def test_a_class_that_occurs_nowhere_is_not_told_again():
    pixels = np.full((9, 3), 1000) * [1, 1, 0]
    assert not _split_and_findings(_table(9, pixels=pixels))[1]


def test_near_identical_images_on_two_sides_are_told():
    table = _table(6, official=["train", "train", "validation", "validation", "test", "test"])
    rows = [("s0004", "s0000"), ("s0000", "s0001"), ("s0002", "s0005"), ("s0003", "gone")]
    pairs = pd.DataFrame(rows, columns=["sample_id", "other"])
    result = _of_kind(_split_and_findings(table, pairs=pairs)[1], "near_identical_across_splits")
    assert [(entry.sample_id, entry.other) for entry in result] == [("s0000", "s0004"), ("s0002", "s0005")]
    assert result[0].severity == "warning"


@pytest.mark.parametrize("sizes", [(10, 10, 10), (1, 1, 28), (28, 1, 1, 1), (5, 5, 5, 5, 1)])
def test_no_split_is_empty_however_large_the_groups(sizes):
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    for seed in range(5):
        samples = _split(_table(len(groups), groups), seed=seed)
        assert set(samples["split"]) == set(SHARES)
        assert _counts(samples)["train"] == max(_counts(samples).values())


def test_a_class_of_a_single_sample_goes_to_training():
    pixels = np.ones((30, 3), int) * 10
    pixels[:, 2] = 0
    pixels[7, 2] = 4
    for seed in range(10):
        samples = _split(_table(30, pixels=pixels), seed=seed)
        assert samples["split"][7] == "train"


# Folds


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(st.integers(0, 25), min_size=30, max_size=80),
    folds=st.integers(3, 6),
    seed=st.integers(0, 99),
    remembered=st.booleans(),
)
def test_over_all_folds_every_sample_is_tested_once(groups, folds, seed, remembered):
    groups = [f"g{group}" for group in [*groups, *range(30, 38)]]
    table = _table(len(groups), groups)
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) if remembered else None
        splits = [_split(table, where, folds=folds, fold=fold, seed=seed) for fold in range(folds)]
    tested = np.stack([(samples["split"] == "test").to_numpy() for samples in splits])
    assert (tested.sum(axis=0) == 1).all()
    for samples in splits:
        assert set(samples["split"]) == set(SHARES)
        assert (samples.groupby("group")["split"].nunique() == 1).all()


def test_two_folds():
    samples = [_split(_table(21), folds=2, fold=fold) for fold in range(2)]
    assert ((samples[0]["split"] == "test") != (samples[1]["split"] == "test")).all()
    assert [set(entry["split"]) for entry in samples] == [set(SHARES)] * 2


def test_a_fold_beside_which_a_single_group_is_left_has_too_few():
    table = _table(30, ["large"] * 25 + [f"g{number}" for number in range(5)])
    result = [_split_and_findings(table, folds=2, fold=fold)[1] for fold in range(2)]
    (entry,) = _of_kind(result[0] + result[1], "too_few_samples")
    assert "25 samples in 1 groups, and each of train, validation" in entry.message


def test_folds_are_of_one_size_and_validation_is_a_share_of_the_rest():
    for fold in range(5):
        samples = _split(_table(103), folds=5, fold=fold, validation=0.25)
        counts = _counts(samples)
        assert counts["test"] in {20, 21}
        assert counts["validation"] == round(0.25 * (103 - counts["test"]))


def test_class_shares_of_folds_match_better_than_at_random():
    stratified, at_random = [], []
    for seed in range(10):
        random = np.random.default_rng(seed)
        pixels = random.gamma(0.3, 1000, (60, 3)).astype(int) + np.array([1000, 0, 1])
        for fold in range(5):
            tested = _split(_table(60, pixels=pixels), folds=5, fold=fold, seed=seed)["split"] == "test"
            for mask, kept in ((tested.to_numpy(), stratified), (random.permutation(tested), at_random)):
                kept.append(np.abs(pixels[mask].sum(axis=0) / pixels.sum(axis=0) - 0.2).sum())
    assert np.mean(stratified) < 0.5 * np.mean(at_random)


def test_folds_beside_an_official_test_are_for_validation():
    official = ["train"] * 20 + ["validation"] * 5 + ["test"] * 10
    held_out = []
    for fold in range(5):
        samples = _split(_table(35, official=official), folds=5, fold=fold)
        assert (samples["split"] == "test").tolist() == [name == "test" for name in official]
        held_out += samples.loc[samples["split"] == "validation", "sample_id"].tolist()
    assert sorted(held_out) == [f"s{number:04d}" for number in range(25)]


def test_folds_beside_an_official_validation_split_are_for_testing():
    official = ["train"] * 20 + ["validation"] * 5
    samples = _split(_table(25, official=official), folds=4, fold=1)
    assert _counts(samples) == {"train": 15, "validation": 5, "test": 5}
    assert (samples["split"][20:] == "validation").all()


# Blocks


def test_neighboring_tiles_are_parted_at_borders_of_blocks_alone():
    places = [(raster, row, column) for raster in "ab" for row in range(12) for column in range(12)]
    table = _table(len(places))
    table["sample_id"] = [f"map {raster}_{row}_{column}" for raster, row, column in places]
    blocks = BlockParameters(pattern=r"^map (?P<raster>\w)_(?P<row>\d+)_(?P<column>\d+)$", side=4)
    samples = _split(table, blocks=blocks).set_index("sample_id")["split"]
    assert set(samples) == set(SHARES)
    parted = 0
    for (r1, y1, x1), (r2, y2, x2) in itertools.combinations(places, 2):
        if r1 == r2 and max(abs(y1 - y2), abs(x1 - x2)) == 1:
            differ = samples[f"map {r1}_{y1}_{x1}"] != samples[f"map {r2}_{y2}_{x2}"]
            assert not differ or (y1 // 4, x1 // 4) != (y2 // 4, x2 // 4)
            parted += differ
    assert parted


def test_blocks_are_joined_with_groups_and_identical_images():
    table = _table(40, hashes=["same" if n in {0, 35} else f"h{n}" for n in range(40)])
    table["sample_id"] = [f"{n // 2:03d}_{n % 2}" for n in range(40)]
    table.loc[[1, 20], "group"] = "flight"
    blocks = {"pattern": r"^(?P<row>\d+)_(?P<column>\d+)$", "side": 2}
    for seed in range(5):
        samples = _split(table, blocks=blocks, seed=seed)
        joined = samples.loc[[0, 1, 2, 3, 20, 21, 22, 23, 32, 33, 34, 35]]  # blocks of 0, of 20 and of 35
        assert joined["group"].nunique() == 1
        assert joined["split"].nunique() == 1
        assert samples["group"].nunique() == 8


@pytest.mark.parametrize("pattern", [r"^(?P<row>\d+)_(?P<column>\d+)$", r"(?P<row>s)(?P<column>\d+)"])
def test_a_name_that_is_no_tile_is_refused(pattern):
    with pytest.raises(DataError, match=r"s0000 is not named like a tile.*" + re.escape(repr(pattern))):
        _split(_table(10), blocks=BlockParameters(pattern=pattern, side=4))


# What is remembered


def _sides(samples):
    return samples.set_index("sample_id")["split"]


def test_no_sample_changes_sides_when_others_are_added(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.gamma(0.3, 1000, (300, 5)).astype(int) + np.array([1000, 0, 0, 0, 1])
    order = random.permutation(300)
    before = pd.Series(dtype=object, index=pd.Index([], dtype="str"))
    for count in range(100, 301, 10):
        table = _table(300, pixels=pixels).iloc[np.sort(order[:count])]
        samples = _split(table, tmp_path)
        now = _sides(samples)
        assert (now[before.index] == before).all()
        before = now
    assert _counts(samples) == {"train": 195, "validation": 45, "test": 60}
    chance = [_mismatch(pd.Series(random.permutation(samples["split"])), pixels) for _ in range(20)]
    assert _mismatch(samples["split"], pixels) < 0.5 * np.mean(chance)
    assert len(list(tmp_path.iterdir())) == 1


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), folds=st.sampled_from([None, 3]))
def test_no_group_crosses_whatever_came_before(data, seed, folds):
    """Random groups, copies, official labels, and a first split of some of the samples in other groups."""
    count = data.draw(st.integers(24, 60))
    labels = data.draw(st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=count, max_size=count))
    copies = data.draw(st.lists(st.integers(0, 200), min_size=count, max_size=count))
    official = data.draw(
        st.one_of(
            st.none(), st.lists(st.sampled_from([None, "train", "validation", "test"]), min_size=count, max_size=count)
        )
    )
    groups = [None if label is None else f"g{label}" for label in labels]
    hashes = [f"h{copy}" for copy in copies]
    with tempfile.TemporaryDirectory() as folder:
        first = _table(count).iloc[: data.draw(st.integers(12, count))]
        before = _sides(_split(first, Path(folder), folds=folds, seed=seed))
        table = _table(count, groups, official, hashes=hashes)
        samples, findings = _split_and_findings(table, Path(folder), folds=folds, seed=seed)
        again, _ = _split_and_findings(table.iloc[::-1], Path(folder), folds=folds, seed=seed)
    pd.testing.assert_frame_equal(samples, again)
    if _of_kind(findings, "too_few_samples"):
        return
    named = _sides(samples)
    kept = [None] * count if official is None else official
    if folds and "test" in kept:
        kept = ["train" if name == "validation" else name for name in kept]
    for members in _joined(groups, hashes):
        if len({kept[place] for place in members} - {None}) <= 1:
            assert named.iloc[members].nunique() == 1
    if official is None and folds is None:
        alone = samples["group"].map(samples["group"].value_counts()) == 1
        same = samples.loc[alone & samples["sample_id"].isin(before.index), "sample_id"]
        assert (named[same] == before[same]).all()


def _joined(groups, hashes):
    """Join places with a common group or hash, the slow and plain way."""
    joined = []
    for place, (group, code) in enumerate(zip(groups, hashes, strict=True)):
        names = {group or place, code}
        touched = [entry for entry in joined if entry[1] & names]
        joined = [entry for entry in joined if not entry[1] & names]
        joined.append(({place}.union(*(entry[0] for entry in touched)), names.union(*(entry[1] for entry in touched))))
    return [sorted(members) for members, _ in joined]


def test_a_new_sample_that_joins_two_sides_moves_the_fewer(tmp_path, caplog):
    table = _table(40)
    before = _sides(_split(table, tmp_path))
    trained = before[before == "train"].index[:2]
    tested = before[before == "test"].index[:1]
    table.loc[table["sample_id"].isin([*trained, *tested]), "group"] = "joined"
    with caplog.at_level(logging.WARNING):
        after = _sides(_split(table, tmp_path))
    assert set(after[[*trained, *tested]]) == {"train"}
    assert (after != before).sum() == 1
    assert "1 groups hold samples that were on different sides before" in caplog.text
    assert "1 samples change sides" in caplog.text
    pd.testing.assert_series_equal(_sides(_split(table, tmp_path)), after)


def test_removed_samples_are_remembered_but_do_not_count(tmp_path):
    table = _table(100)
    before = _sides(_split(table, tmp_path))
    some = table[table["sample_id"].map(before).to_numpy() != "test"]
    fewer = _split(pd.concat([some, table[~table.index.isin(some.index)].iloc[:4]]), tmp_path)
    assert _counts(fewer)["test"] == 4
    new = _table(160).iloc[100:]
    grown = _split(pd.concat([some, new]), tmp_path)
    assert _counts(grown)["test"] == 28  # a fifth of 140, although 20 are remembered
    pd.testing.assert_series_equal(_sides(_split(pd.concat([table, new]), tmp_path))[before.index], before)


def test_a_side_that_has_lost_all_samples_is_told(tmp_path):
    table = _table(30)
    before = _sides(_split(table, tmp_path))
    left = table[table["sample_id"].map(before) != "test"]
    _, (entry,) = _split_and_findings(left, tmp_path)
    assert entry.kind == "too_few_samples"
    assert "delete the file to split from scratch" in entry.message


def test_another_seed_share_or_block_is_another_memory_and_another_fold_is_not(tmp_path):
    table = _table(40)
    first = _sides(_split(table, tmp_path, seed=1))
    assert (_sides(_split(table, tmp_path, seed=2)) != first).any()
    assert _counts(_split(table, tmp_path, seed=1, test=0.5)) != first.value_counts().to_dict()
    pd.testing.assert_series_equal(_sides(_split(table, tmp_path, seed=1)), first)
    added = pd.concat([table, _table(60).iloc[40:]])
    zero = _split(table, tmp_path, folds=3, fold=0).set_index("sample_id")["split"]
    one = _split(added, tmp_path, folds=3, fold=1).set_index("sample_id")["split"]
    assert (one[zero[zero == "test"].index] != "test").all()


def test_without_a_folder_nothing_is_remembered():
    pd.testing.assert_frame_equal(_split(_table(50)), _split(_table(50)))


def test_odd_names_are_remembered(tmp_path):
    table = _table(20)
    names = ["NA", "null", 'a "b", c', "two\nlines", "1e5", "001", "#1", "naïve ü", " spaces ", "cr\rlf"]
    table.loc[:9, "sample_id"] = names
    before = _sides(_split(table, tmp_path))
    grown = pd.concat([table, _table(40).iloc[20:]])
    pd.testing.assert_series_equal(_sides(_split(grown, tmp_path))[before.index], before)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) - 3],
        lambda text: text.replace("train", "trian", 1),
        lambda text: text.replace("sample_id", "sample", 1),
        lambda text: text.replace("s0001", "s0000", 1),
        lambda text: "",
        lambda text: text + 'a,"train\n',
        lambda text: text.replace(",", ";"),
    ],
)
def test_a_damaged_memory_is_refused(tmp_path, damage):
    _split(_table(20), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(damage(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(str(file)) + r"[\s\S]*delete it to split from scratch"):
        _split(_table(20), tmp_path)
