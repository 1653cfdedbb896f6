"""The search, with trainings that only pretend: what counts is who trains what, and what is kept."""

import math
import multiprocessing
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
import yaml

from tests.specs import make_spec
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.experiments.search import optuna_search as searching
from unet_segmentation.experiments.search.best_config import best_folder, write_best
from unet_segmentation.experiments.search.search_space import read_space
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import SearchParameters
from unet_segmentation.reporting.search_charts import history_chart, importance_chart
from unet_segmentation.tracking import Run

RATE, WIDTH = "training.optimizer.learning_rate", "model.base_channels"
SPACE = {RATE: {"low": 1e-4, "high": 1e-1, "log": True}, WIDTH: [2, 4, 8]}


def pretended(variant, prepared, place, report=None):
    """Come to a score that rises with width and rate; three epochs, as long as nobody ends it."""
    assert "test" not in set(prepared.samples["split"])
    score = (
        variant.parameters.model.base_channels / 100
        + (4 + math.log10(variant.parameters.training.optimizer.learning_rate)) / 10
    )
    for epoch in (1, 2, 3):
        if report(epoch, {"validation/dice/mean": score * epoch / 3}, time.time()):
            break
    info = ModelInfo(make_spec(), epoch, {"validation/dice/mean": score})
    nowhere = place / "nothing"
    return {}, SimpleNamespace(info=info, last=nowhere, best=nowhere)


@pytest.fixture
def seen(prepared):
    return replace(prepared, samples=prepared.samples[prepared.samples["split"] != "test"])


def open_search(folder, prepared, space=SPACE, **settings):
    chosen = SearchParameters(space=space, **{"n_trials": 6, "n_startup_trials": 2, **settings})
    return searching.open_search(folder, read_space(chosen.space, prepared.parameters), chosen, prepared)


def run(folder, prepared, **settings):
    search = open_search(folder, prepared, **settings)
    searching.run_trials(search, Run())
    return search


@pytest.fixture(autouse=True)
def _pretend(monkeypatch):
    monkeypatch.setattr(searching, "train_variant", pretended)


def test_the_same_seed_draws_the_same_and_the_best_is_the_highest(seen, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (searching.trials_table(run(tmp_path / name, seen)) for name in "ab")
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))
    assert len(one) == 6
    assert one[RATE].nunique() > 3
    best = searching.find_best_trial(open_search(tmp_path / "a", seen))
    assert best.parameters[WIDTH] == one.loc[one["value"].idxmax(), WIDTH]


def test_it_goes_on_from_its_store_and_another_space_is_another_study(seen, tmp_path):
    run(tmp_path, seen, n_trials=3)
    assert len(searching.trials_table(run(tmp_path, seen, n_trials=3))) == 3
    assert len(searching.trials_table(run(tmp_path, seen, n_trials=5))) == 5
    assert len(searching.trials_table(run(tmp_path, seen, space={WIDTH: [2, 3]}, n_trials=2))) == 2


@pytest.mark.slow
def test_bad_trials_are_pruned_and_failed_ones_stop_nobody(seen, tmp_path, monkeypatch):
    def failing(variant, *given):
        if variant.parameters.model.base_channels == 4:
            raise ConfigurationError("no such width")
        return pretended(variant, *given)

    monkeypatch.setattr(searching, "train_variant", failing)
    search = run(tmp_path, seen, n_trials=14)
    table = searching.trials_table(search)
    assert len(table) == 14
    failed = table[table["state"] == "failed"]
    assert set(failed[WIDTH]) == {4}
    assert set(failed["reason"]) == {"no such width"}
    pruned = table[table["state"] == "pruned"]
    assert len(pruned)
    assert (pruned["epochs"] < 3).all()
    importance = searching.importance_table(search)
    assert set(importance["parameter"]) == {RATE, WIDTH}
    assert importance["importance"].sum() == pytest.approx(1)
    assert len(history_chart(table, "validation/dice/mean").data) == 3
    assert len(importance_chart(importance).data[0].x) == 2


def test_nothing_is_pruned_where_minutes_bound_the_trials(seen, tmp_path, caplog):
    caplog.set_level("INFO")
    training = seen.parameters.training.model_copy(update={"max_time_minutes": 1.0})
    minutes = seen.parameters.model_copy(update={"training": training})
    table = searching.trials_table(run(tmp_path, replace(seen, parameters=minutes), n_trials=14))
    assert set(table["state"]) == {"finished"}
    assert set(table["epochs"]) == {3}
    assert "no trial is pruned: where training.max_time_minutes" in caplog.text


def _search_slowly(folder, prepared, killed):
    def slow(*given):
        (folder / f"at-{os.getpid()}").touch()
        time.sleep(60 if killed else 0.05)
        return pretended(*given)

    searching.train_variant = slow
    run(folder, prepared, n_trials=8)


def test_a_killed_trial_is_queued_again_with_the_same_values(seen, tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_search_slowly, args=(tmp_path, seen, True))
    process.start()
    while not list(tmp_path.glob("at-*")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    search = run(tmp_path, seen, n_trials=3)
    table = searching.trials_table(search)
    assert table["state"].tolist()[0] == "killed"
    assert table.loc[1, [RATE, WIDTH]].tolist() == table.loc[0, [RATE, WIDTH]].tolist()
    assert Counter(table["state"])["killed"] == 1
    assert len(table) == 4  # three that count


def test_two_processes_share_the_trials_and_draw_different_ones(seen, tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_search_slowly, args=(tmp_path, seen, False)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    search = open_search(tmp_path, seen)
    trials = search.study.get_trials()
    assert len(trials) == 8
    assert len(list(tmp_path.glob("at-*"))) == 2  # processes
    assert len({trial.params[RATE] for trial in trials}) == 8


def test_nothing_finished_is_said_with_the_reason(seen, tmp_path, monkeypatch):
    def broken(*_):
        raise ConfigurationError("no such thing")

    monkeypatch.setattr(searching, "train_variant", broken)
    search = run(tmp_path, seen, n_trials=2)
    with pytest.raises(ConfigurationError, match="no such thing"):
        searching.find_best_trial(search)
    assert searching.importance_table(search).empty
    assert importance_chart(searching.importance_table(search)).layout.annotations


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({}, "nothing to search"),
        ({"model.base_chanels": [2]}, "base_channels"),
        ({WIDTH: {"low": 0, "high": 3}}, "base_channels"),
        ({"images.range": [1, 2]}, "preparation"),
    ],
)
def test_a_wrong_space_is_refused(prepared, space, words):
    with pytest.raises(ConfigurationError, match=words):
        read_space(SearchParameters(space=space).space, prepared.parameters)


@pytest.mark.parametrize("values", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, [], 3])
def test_a_range_that_is_none_is_refused(values):
    with pytest.raises(ValueError, match=r"low|list"):
        SearchParameters(space={WIDTH: values})


def test_lists_can_be_drawn(seen, tmp_path):
    search = run(tmp_path, seen, space={"training.optimizer.betas": [[0.9, 0.999], [0.8, 0.99]]}, n_trials=2)
    assert searching.find_best_trial(search).parameters["training.optimizer.betas"] in ([0.9, 0.999], [0.8, 0.99])


BEST = searching.BestTrial("s", 3, "validation/dice/mean", 0.5, 9, {WIDTH: 8})


def test_the_best_parameters_are_a_problem(prepared, tmp_path):
    folder = write_best(tmp_path, BEST, prepared.parameters)
    written = yaml.safe_load((folder / "parameters.yml").read_text())
    expected = prepared.parameters.model_dump(mode="json")
    expected["model"]["base_channels"] = 8
    expected.pop("problem")
    for section in ("source", "classes", "model", "augmentation", "predictor"):
        assert written[section] == expected[section]
    assert folder.name == "toy_best"
    write_best(tmp_path, replace(BEST, parameters={WIDTH: 16}), prepared.parameters)
    assert yaml.safe_load((folder / "parameters.yml").read_text())["model"]["base_channels"] == 16


@pytest.mark.parametrize("how", ["changed", "foreign", "empty"])
def test_what_is_not_a_search_s_is_not_overwritten(prepared, tmp_path, how):
    file = tmp_path / "toy_best" / "parameters.yml"
    if how == "changed":
        write_best(tmp_path, BEST, prepared.parameters)
        file.write_text(file.read_text().replace("base_channels: 8", "base_channels: 9"))
    else:
        file.parent.mkdir()
        if how == "foreign":
            file.write_text("model: {}\n")
    before = {path: path.read_bytes() for path in Path(tmp_path).rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match="not be overwritten"):
        best_folder(tmp_path, "toy")
    assert before == {path: path.read_bytes() for path in Path(tmp_path).rglob("*") if path.is_file()}


def test_optuna_keeps_its_own_loudness(seen, tmp_path, capsys):
    before = optuna.logging.get_verbosity()
    run(tmp_path, seen, n_trials=1)
    assert optuna.logging.get_verbosity() == before
    assert "[I " not in capsys.readouterr().err
