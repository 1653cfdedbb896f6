"""Runs side by side, read from a real store."""

from __future__ import annotations

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner

from tests.tracking.stored import dice_of, tables, tell
from unet_segmentation.cli import runs as run_commands
from unet_segmentation.errors import ConfigurationError, DataError, TrackingError
from unet_segmentation.experiments import run_comparison
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.sufficient_statistics import groups_of
from unet_segmentation.reporting.leaderboard_chart import leaderboard_chart
from unet_segmentation.tracking import run_queries
from unet_segmentation.tracking.model_registry import CHAMPION


def without_samples(result):
    return {name: table for name, table in result.items() if name != "samples"}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A store with runs that are better, alike, worse, tested otherwise, or not tested at all."""
    from tests.toy_project import empty_store

    root = tmp_path_factory.mktemp("told")
    (root / "mlflow.db").write_bytes(empty_store())
    worse = tables(40, 0.3, seed=2)
    ids = {
        "worse": tell(root, "worse", result=worse),
        "good": tell(root, "good", result=tables(40, 0.1), intervals=True, **{"data.sha256": "ab" * 32}),
        "twin": tell(root, "twin", result=tables(40, 0.101, seed=5), plan='{"epochs": 2}'),
        "elsewhere": tell(root, "elsewhere", result=tables(30, 0.01, names="t")),
        "validated": tell(root, "validated", result=tables(40, 0.05), split="validation"),
        "renamed": tell(root, "renamed", result=tables(40, 0.1), classes=["background", "nucleus"]),
        "old": tell(root, "old", result={"confusion": worse["confusion"]}),
        "untested": tell(root, "untested"),
        "sweep": (sweep := tell(root, "sweep", result=tables(40, 0.2, seed=7), status="KILLED")),
        "variant": tell(
            root, "variant", result=without_samples(tables(40, 0.2)), problem="swept", **{"mlflow.parentRunId": sweep}
        ),
        "failed": tell(root, "failed", result=worse, status="FAILED"),
    }
    return root, f"sqlite:///{root / 'mlflow.db'}", ids


def test_the_leaderboard_is_in_order_and_compares_with_the_best(told):
    _, uri, ids = told
    table = run_comparison.leaderboard(uri, "cells", margin=0.02)
    assert list(table["run"]) == ["good", "twin", "worse", "elsewhere", "validated", "renamed", "old"]
    assert list(table["verdict"]) == ["best", "equivalent", "worse", *["other samples"] * 3, "no counts"]
    assert list(table["run_id"])[:3] == [ids["good"], ids["twin"], ids["worse"]]
    values = {name: dice_of(result["confusion"]) for name, result in
              {"good": tables(40, 0.1), "worse": tables(40, 0.3, seed=2)}.items()}  # fmt: skip
    by_run = table.set_index("run")
    assert by_run.loc["worse", "value"] == pytest.approx(values["worse"], abs=1e-12)
    assert by_run.loc["worse", "difference"] == pytest.approx(values["worse"] - values["good"], abs=1e-12)
    assert by_run.loc["worse", "difference_high"] < 0
    assert by_run.loc["worse", "p_value"] < 0.001
    assert (by_run.loc["good", "low"], by_run.loc["good", "high"]) == (0.85, 0.95)
    assert by_run.loc["good", ["encoder", "epochs", "seed", "data"]].tolist() == ["resnet18", "12", "3", "ab" * 6]
    assert by_run.loc["twin", "epochs"] == "2", "a time budget, say, came to other epochs than the parameters name"
    assert by_run.loc[["good", "elsewhere", "old"], ["difference", "p_value"]].isna().all(axis=None)


def test_the_chart_shows_every_run_once_and_leaves_hollow_what_is_not_compared(told):
    table = run_comparison.leaderboard(told[1], "cells", margin=0.02)
    figure = leaderboard_chart(table)
    assert sorted(value for trace in figure.data for value in trace.x) == sorted(table["value"])
    hollow = {trace.name for trace in figure.data if trace.marker.symbol == "circle-open"}
    assert hollow == {"tested on other samples", "no counts per image"}
    (best,) = [trace for trace in figure.data if trace.name == "best"]
    assert best.x[0] + best.error_x.array[0] == pytest.approx(0.95)
    assert best.x[0] - best.error_x.arrayminus[0] == pytest.approx(0.85)
    assert figure.layout.yaxis.categoryarray[-1].startswith("good")  # Plotly's axis begins below


def test_a_leaderboard_without_scores_says_so(told):
    _, uri, _ = told
    with pytest.raises(TrackingError, match="No finished run of camvid"):
        run_comparison.leaderboard(uri, "camvid")
    with pytest.raises(ConfigurationError, match="Did you mean 'dice/mean'"):
        run_comparison.leaderboard(uri, "cells", "dice/maen")


@pytest.mark.parametrize(
    ("other", "reason"),
    [("elsewhere", "same samples"), ("validated", "test split, the other on the validation"), ("renamed", "classes")],
)
def test_what_was_tested_otherwise_is_refused_with_the_reason(told, other, reason):
    _, uri, ids = told
    first, second = (run_queries.load_evaluation(uri, ids[name]) for name in ("good", other))
    with pytest.raises(DataError, match=reason):
        run_comparison.compare_evaluations(first, second)


def test_a_variant_of_a_sweep_has_the_data_of_the_run_above_it(told):
    _, uri, ids = told
    (variant,) = run_queries.finished_runs(uri, "swept")
    assert variant.parent_run_id == ids["sweep"]
    with pytest.raises(TrackingError, match=r"no artifact data/samples\.parquet"):
        run_queries.load_evaluation(uri, variant.run_id)
    result = run_queries.load_evaluation(uri, variant.run_id, variant.parent_run_id)
    assert result.tables.confusion.equals(tables(40, 0.2)["confusion"]), "its own counts"
    table = run_comparison.compare_evaluations(run_queries.load_evaluation(uri, ids["good"]), result).set_index("score")
    assert table.loc["dice/mean", "challenger"] == pytest.approx(dice_of(tables(40, 0.2)["confusion"]))


def test_samples_of_a_group_stay_together():
    samples = pd.DataFrame({"sample_id": ["a", "b", "c"], "group": ["g", None, "g"]})
    assert groups_of(samples) == {"a": "g", "c": "g"}


@pytest.mark.parametrize(("images", "units"), [(25, 25), (12, 12)])
def test_too_few_images_are_said(images, units):
    result = tables(images, 0.1)
    counts = EvaluationTables({name: result[name] for name in ("confusion", "soft")})
    evaluation = run_queries.Evaluation(counts, result["samples"], ["a", "b"], "test")
    assert run_comparison.count_units(evaluation) == units
    assert (run_comparison.small_sample_warning(units) is None) == (units >= 20)
    grouped = evaluation._replace(samples=result["samples"].assign(group="patient"))
    assert run_comparison.count_units(grouped) == 1
    assert "1 test images" in run_comparison.small_sample_warning(1)


# -- the commands


@pytest.fixture
def call(told, monkeypatch):
    """Call a command over the store, and give what it printed and its exit status."""
    root, uri, _ = told
    monkeypatch.setattr(run_commands, "open_store", lambda env: (root, uri, env or "cells"))

    def call(command, *arguments):
        answer = CliRunner().invoke(command, list(arguments))
        return answer.exit_code, answer.output

    return call


def test_compare_shows_scores_classes_and_a_sentence(told, call, tmp_path):
    file = tmp_path / "all.csv"
    status, output = call(run_commands.compare, "good", "worse", "twin", "--margin", "0.02", "--output", str(file))
    assert status == 0, output
    rows = [line.split() for line in output.splitlines()]
    (worse, twin) = [row for row in rows if row and row[0] == "dice/mean"]
    values = dice_of(tables(40, 0.1)["confusion"]), dice_of(tables(40, 0.3, seed=2)["confusion"])
    assert worse[1:4] == [f"{values[0]:.4f}", f"{values[1]:.4f}", f"{values[1] - values[0]:+.4f}"]
    assert worse[-1] == "worse"
    assert sum(bool(row) and row[0] == "dice/class/cell" for row in rows) == 2
    assert not any(row and row[0] == "iou/class/cell" for row in rows)
    assert f"By dice/mean, worse ({told[2]['worse'][:8]}) is worse than good" in output
    assert twin[-1] == "equivalent"
    table = pd.read_csv(file)
    assert set(table["other"]) == {told[2]["worse"], told[2]["twin"]}
    assert {"score", "reference_value", "other_value", "difference", "low", "high", "p_value", "verdict"} <= set(table)
    assert "iou/class/cell" in set(table["score"])


def test_compare_writes_a_page_that_fetches_nothing(call, tmp_path):
    file = tmp_path / "a.html"
    status, output = call(run_commands.compare, "good", "worse", "--score", "iou/mean", "--output", str(file))
    assert status == 0, output
    page = file.read_text()
    assert "By iou/mean, worse" in page
    assert "iou/class/cell" in page
    assert "src=" not in page
    assert "href=" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["good", "elsewhere"], "cannot be compared with good"),
        (["good", "good"], "cannot be compared with itself"),
        (["good", "worse", "--score", "dice/maen"], "Did you mean 'dice/mean'"),
        (["good", "worse", "--output", "a.txt"], "ends in .csv or .html"),
        (["good", "goood"], "There is no run called 'goood'"),
    ],
)
def test_a_wrong_question_is_one_message(call, arguments, words):
    status, output = call(run_commands.compare, *arguments)
    assert status == 1
    assert words in output
    assert "Traceback" not in output


def test_a_single_run_is_compared_with_the_champion(told, call):
    root, uri, ids = told
    status, output = call(run_commands.compare, "worse")
    assert status == 1
    assert "has no champion to compare worse" in output
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("cells")
    (root / "model").mkdir()
    client.create_model_version("cells", (root / "model").as_uri(), run_id=ids["good"])
    client.set_registered_model_alias("cells", CHAMPION, "1")
    status, output = call(run_commands.compare, "worse")
    assert status == 0, output
    assert "is worse than good" in output


def test_the_leaderboard_is_printed_in_plain_columns(call):
    status, output = call(run_commands.leaderboard, "--margin", "0.02")
    assert status == 0, output
    header, first, second, *_ = output.splitlines()
    assert header.split()[:4] == ["RUN", "ID", "WHEN", "DICE/MEAN"]
    assert first.split()[0] == "good"
    assert "0.8500 to 0.9500" in first
    assert "equivalent" in second
