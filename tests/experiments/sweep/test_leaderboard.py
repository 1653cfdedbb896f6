"""The leaderboard and the frontier, against plain means and brute force."""

import json

import numpy as np
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.metrics.test_multi_seed import CLASSES, RESAMPLING, tables_of
from unet_segmentation.datasets import CSVDataset
from unet_segmentation.experiments.child_training import Outcome
from unet_segmentation.experiments.sweep.leaderboard import costs_table, leaderboard, pareto_front, runs_table
from unet_segmentation.experiments.sweep.report_page import cost_lines, frontier_chart, score_lines, summary, sweep_page
from unet_segmentation.experiments.variants import Variant
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.metrics.sufficient_statistics import UnitSums

RIGHT = {"weak": 0.5, "good": 0.9, "same": 0.9}
SEEDS = (0, 1, 2)


def swept():
    """Three variants with three seeds; and one that fails with all but the last."""
    results, sums = [], {}
    for seed in SEEDS:
        for place, (name, right) in enumerate(RIGHT.items()):
            tables = tables_of(10 * seed + place, right)
            actual = compute_scores(tables, CLASSES)
            costs = {
                "seconds": 9.0,
                "training_seconds": 3.0 + place,
                "prediction_images_per_second": 10.0 * (place + 1),
            }
            result = Outcome(
                "finished", fingerprint="f", epochs=2, best_epoch=1, scores=actual, costs=costs, parameters=7,
                multiply_adds=1000 * (place + 1),
            )  # fmt: skip
            results.append((Variant(name, seed, {}, {}), result))
            sums[name, seed] = UnitSums.of(tables, CLASSES)
        results.append((Variant("broken", seed, {}, {}), Outcome("failed", "no such thing <b>")))
    return results, sums


def summary_of(runs, costs, table, confidence=0.95, data=""):
    chart = frontier_chart(table, costs, "dice/mean")
    actual = summary(
        table, runs, costs, chart, budget="Equal epochs.", score="dice/mean", margin=0.05, confidence=confidence,
        data=data,
    )  # fmt: skip
    return json.loads(json.dumps(actual, allow_nan=False))  # as the file has it


def page_of(runs, costs, table, confidence=0.95):
    return sweep_page("toy", summary_of(runs, costs, table, confidence), runs, costs)


def ranked():
    results, sums = swept()
    runs = runs_table(results)
    return runs, costs_table(results), leaderboard(runs, sums, "dice/mean", 0.05, RESAMPLING)


def test_means_spread_and_verdicts():
    runs, _, table = ranked()
    assert table["variant"].tolist()[2:] == ["weak", "broken"]
    by_name = table.set_index("variant")
    for name in RIGHT:
        values = runs.loc[runs["variant"] == name, "dice/mean"]
        assert np.isclose(by_name.loc[name, "value"], values.mean())
        assert np.isclose(by_name.loc[name, "spread"], np.std(values, ddof=1))
        assert by_name.loc[name, "low"] < by_name.loc[name, "value"] < by_name.loc[name, "high"]
    assert table["verdict"].tolist() == ["best", "equivalent", "worse", "failed"]
    assert by_name.loc["broken", ["seeds", "failed"]].tolist() == [0, 3]
    assert by_name.loc["weak", "difference"] == by_name.loc["weak", "value"] - table["value"].max()


def test_seeds_that_failed_are_left_out_of_the_pairs():
    results, sums = swept()
    results = [
        (variant, Outcome("failed", "lost") if (variant.name, variant.seed) == ("weak", 0) else result)
        for variant, result in results
    ]
    del sums["weak", 0]
    table = leaderboard(runs_table(results), sums, "dice/mean", 0.05, RESAMPLING).set_index("variant")
    runs = runs_table(results).set_index(["variant", "seed"])["dice/mean"].astype(float)
    best = table.index[0]
    expected = np.mean([runs["weak", seed] - runs[best, seed] for seed in (1, 2)])
    assert np.isclose(table.loc["weak", "difference"], expected)
    assert table.loc["weak", ["seeds", "failed"]].tolist() == [2, 1]


def test_where_everything_failed_there_is_still_a_table_and_a_page():
    results = [(Variant("a", 0, {}, {}), Outcome("failed", "no"))]
    runs, costs = runs_table(results), costs_table(results)
    table = leaderboard(runs, {}, "dice/mean", 0.05, RESAMPLING)
    assert table["verdict"].tolist() == ["failed"]
    assert "a, seed 0 failed" in page_of(runs, costs, table)


def test_a_page_is_made_of_the_files_of_a_sweep_with_failures(tmp_path):
    runs, costs, table = ranked()
    entries = yaml.safe_load((ROOT / "conf/base/catalog_sweep.yml").read_text())
    loaded = []
    for name, frame in (("runs", runs), ("costs", costs), ("leaderboard", table)):
        options = entries[f"sweep_{name}"]["load_args"]
        file = CSVDataset(filepath=str(tmp_path / f"{name}.csv"), load_args=options)
        file.save(frame)
        loaded.append(file.load())
    runs, costs, table = loaded
    page = page_of(runs, costs, table)
    assert "nan" not in page[page.index("<h2>All runs") : page.index("<script>")]


def test_what_differs_from_time_to_time_has_a_table_of_its_own():
    runs, costs, table = ranked()
    measured = {"seconds", "training_seconds", "prediction_images_per_second", "peak_memory_mib"}
    assert measured <= set(costs.columns)
    assert not measured & {*runs.columns, *table.columns}


def test_the_page_says_all_and_escapes_reasons():
    runs, costs, table = ranked()
    page = page_of(runs, costs, table, confidence=0.9)
    assert "no such thing &lt;b&gt;" in page
    assert all(name in page for name in RIGHT)
    assert "src=" not in page.split("<script>")[0]
    assert "intervals of 90 %" in page
    assert len(score_lines(table)) == len(cost_lines(table, costs)) == 4


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_the_frontier_is_what_nobody_beats(points):
    actual = pareto_front(*zip(*points, strict=True))
    for (cost, score), on in zip(points, actual, strict=True):
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert on == (not beaten)
