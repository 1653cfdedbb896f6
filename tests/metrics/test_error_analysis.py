"""Failure patterns: right correlations, and silence where nothing can be said."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from unet_segmentation.metrics.error_analysis import find_patterns, image_features, large_groups


def facts(count: int, **columns) -> pd.DataFrame:
    random = np.random.default_rng(0)
    table = {"sample_id": [f"s{number}" for number in range(count)], "error": random.random(count)}
    table |= {name: random.random(count) for name in ("size", "brightness", "foreground")}
    return pd.DataFrame(table | {"group": ""} | columns)


def pattern(table: pd.DataFrame, name: str) -> pd.Series:
    return find_patterns(table).set_index("pattern").loc[name]


def test_facts_are_what_was_inspected():
    scores = pd.DataFrame({"sample_id": ["b", "a", "never"], "iou/per_image_mean": [0.25, 0.5, np.nan]})
    samples = pd.DataFrame({"sample_id": ["a", "b", "c"], "group": ["patient 1", None, "x"]})
    inspected = pd.DataFrame(
        {
            "sample_id": ["a", "b", "c"],
            "height": [10, 40, 1],
            "width": [40, 90, 1],
            "channel_mean": [[10.0, 20.0, 60.0], [7.0], [1.0]],
            "class_pixels": [[300, 60, 40], [0, 0, 0], [1, 0, 0]],
        }
    )
    result = image_features(scores, samples, inspected)
    assert result["sample_id"].tolist() == ["b", "a"]
    assert result["error"].tolist() == [0.75, 0.5]
    assert result["size"].tolist() == [60.0, 20.0]
    assert result["brightness"].tolist() == [7.0, 30.0]
    assert np.isnan(result["foreground"][0])
    assert result["foreground"][1] == 0.25
    assert result["group"].tolist() == ["", "patient 1"]


def test_rho_is_the_correlation_of_ranks():
    random = np.random.default_rng(1)
    brightness = random.integers(0, 12, 90)  # with ties
    table = facts(90, brightness=brightness.astype(float), error=0.5 - brightness / 40 + random.normal(0, 0.1, 90))
    row = pattern(table, "brightness")
    expected = np.corrcoef(rankdata(table["brightness"]), rankdata(table["error"]))[0, 1]
    assert row["rho"] == pytest.approx(expected, abs=1e-12)
    assert row["low"] < row["rho"] < row["high"] < 0
    assert row["sentence"].startswith("The darker the image, the larger its error (strong: Spearman's rho -0.")


def test_the_interval_holds_no_correlation_as_often_as_it_says():
    random = np.random.default_rng(2)
    names = ["error", "size", "brightness", "foreground"]
    trials = [facts(40, **dict(zip(names, random.random((4, 40)), strict=True))) for _ in range(130)]
    rows = pd.concat([find_patterns(trial).head(3) for trial in trials])
    holds = (rows["low"] <= 0) & (rows["high"] >= 0)
    assert 0.92 <= holds.mean() <= 0.98
    assert rows["sentence"].str.startswith("No clear relation").tolist() == holds.tolist()


def test_few_images_and_images_that_are_all_alike_say_nothing():
    few = find_patterns(facts(19))
    assert few["sentence"].str.startswith("Only 19 images: too few").sum() == 3
    assert few[["rho", "low", "high", "p_value"]].isna().all(axis=None)
    assert pattern(facts(30, size=128.0), "size")["sentence"] == "All 30 images have the same size."
    assert pattern(facts(30, error=0.0), "size")["sentence"] == "All 30 images have the same error."
    assert find_patterns(facts(0))["images"].tolist() == [0, 0, 0, 0]


def test_perfect_order_has_an_interval():
    table = facts(50, size=np.arange(50.0), error=np.arange(50) / 50)
    row = pattern(table, "size")
    assert row["rho"] == pytest.approx(1)
    assert 0.9 < row["low"] <= row["high"] <= 1


def test_groups_are_compared_where_there_are_any():
    random = np.random.default_rng(3)
    groups = np.repeat(["plate 1", "plate 2", "single"], [30, 30, 2])
    error = random.normal(0.2, 0.05, 62) + np.repeat([0.0, 0.3, 0.0], [30, 30, 2])
    table = facts(62, group=groups, error=error)
    row = pattern(table, "group")
    assert row["images"] == 60
    assert "The 2 groups differ" in row["sentence"]
    assert row["sentence"].index("plate 1") < row["sentence"].index("plate 2")
    same = facts(60, group=np.tile(["a", "b", "c"], 20))
    assert pattern(same, "group")["sentence"].startswith("No clear difference between 3 groups (Kruskal-Wallis p = 0.")
    assert "no groups" in pattern(facts(60), "group")["sentence"]
    assert "no two groups" in pattern(facts(60, group=[f"g{n}" for n in range(60)]), "group")["sentence"]
    assert large_groups(facts(60, group="one")).empty
