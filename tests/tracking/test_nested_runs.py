"""Nested runs, against a real store."""

from __future__ import annotations

import json
import time

import pytest

from tests.tracking.runs import (
    PARAMETERS,
    begin_training,
    client_of,
    finish,
    in_a_killed_process,
    runs_of,
    steps_of,
    wait_until,
)
from unet_segmentation.tracking import Run


def open_nested(run, folder, name="a"):
    return run.start_nested_run(name, folder / f"{name}.json", {"variant": name})


def by_name(client):
    return {run.info.run_name: run for run in runs_of(client)}


def test_children_lie_below_their_run_and_are_told_apart(root):
    run, claim = begin_training(root)
    first, second = open_nested(run, root, "a"), open_nested(run, root, "b")
    for step in (1, 2, 3):
        first.log_metrics({"train/loss": 1 / step}, step=step)
        second.log_metrics({"train/loss": 10 / step}, step=step)
    first.log_params({"model.base_channels": 4})
    run.log_metrics({"own": 7.0})
    (root / "table.csv").write_text("a,b\n")
    second.log_artifact(root / "table.csv", "evaluation")
    first.close("FINISHED")
    second.close("FAILED", "too wide")
    assert finish(run, claim).message is None
    client = client_of(root)
    runs = runs_of(client)
    assert len(runs) == 3
    parent = client.get_run(run.run_id)
    a, b = by_name(client)["a"], by_name(client)["b"]
    assert {child.data.tags["mlflow.parentRunId"] for child in (a, b)} == {parent.info.run_id}
    assert "mlflow.parentRunId" not in parent.data.tags
    assert a.data.metrics == {"train/loss": 1 / 3}
    assert b.data.metrics == {"train/loss": 10 / 3}
    assert parent.data.metrics == {"own": 7.0}
    assert a.data.params == {"model.base_channels": "4"}
    assert (a.info.status, b.info.status, parent.info.status) == ("FINISHED", "FAILED", "FINISHED")
    assert b.data.tags["failure"] == "too wide"
    assert [file.path for file in client.list_artifacts(b.info.run_id, "evaluation")] == ["evaluation/table.csv"]
    assert a.data.tags["problem"] == PARAMETERS["problem"]


def test_a_child_that_nobody_closes_ends_as_its_run_does(root):
    run, claim = begin_training(root)
    open_nested(run, root).log_metrics({"x": 1.0})
    finish(run, claim, "KILLED", "Interrupted.")
    child = by_name(client_of(root))["a"]
    assert (child.info.status, child.data.tags["failure"]) == ("KILLED", "Interrupted.")


@pytest.mark.parametrize("sent", [False, True])
def test_a_child_of_a_killed_run_goes_on_as_the_same_one(root, sent):
    def work():
        run, _ = begin_training(root)
        open_nested(run, root).log_metrics({"train/loss": 1.0}, step=1, time=100.0)
        if sent:
            wait_until(lambda: not any(run._journal.pending()))

    in_a_killed_process(work)
    run, claim = begin_training(root)
    run.decide_resumption(True)
    child = open_nested(run, root)
    for step in (1, 2):
        child.log_metrics({"train/loss": 1 / step}, step=step, time=100.0 * step)
    child.close("FINISHED")
    finish(run, claim)
    client = client_of(root)
    assert sorted(entry.info.run_name for entry in runs_of(client) if "variant" in entry.data.tags) == ["a"]
    assert len(runs_of(client)) == 2
    stored = by_name(client)["a"]
    assert stored.info.status == "FINISHED"
    assert steps_of(client, stored.info.run_id) == {1: 1, 2: 1}
    assert stored.data.tags["mlflow.parentRunId"] == run.run_id


def test_a_child_moves_to_the_run_that_shows_it_now_and_keeps_its_times(root):
    run, claim = begin_training(root)
    child = run.start_nested_run("a", root / "a.json", {}, started=1000.0)
    child.close("FINISHED", time=2000.0)
    finish(run, claim)
    other, claim = begin_training(root)
    again = other.start_nested_run("a", root / "a.json", {}, started=time.time())
    again.close("FINISHED", time=2000.0)
    finish(other, claim)
    stored = by_name(client_of(root))["a"]
    assert json.loads((root / "a.json").read_text())["run_id"] == stored.info.run_id
    assert stored.data.tags["mlflow.parentRunId"] == other.run_id
    assert (stored.info.start_time, stored.info.end_time) == (1_000_000, 2_000_000)


def test_a_child_that_was_deleted_in_mlflow_is_made_anew(root):
    run, claim = begin_training(root)
    child = open_nested(run, root)
    child.close("FINISHED")
    finish(run, claim)
    client = client_of(root)
    client.delete_run(json.loads((root / "a.json").read_text())["run_id"])
    run, claim = begin_training(root)
    child = open_nested(run, root)
    child.close("FINISHED")
    finish(run, claim)
    assert by_name(client)["a"].info.status == "FINISHED"


def test_where_nothing_is_tracked_a_child_keeps_nothing(tmp_path):
    child = Run().start_nested_run("a", tmp_path / "a.json", {})
    child.log_metrics({"x": 1.0})
    child.close("FINISHED")
    assert child.run_id is None
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("closed", [False, True])
def test_a_child_that_cannot_be_closed_leaves_no_open_run(root, closed):
    run, claim = begin_training(root)
    child, other = open_nested(run, root, "a"), open_nested(run, root, "b")
    wait_until(lambda: not any(run._journal.pending()))
    client = client_of(root)
    client.delete_run(json.loads((root / "a.json").read_text())["run_id"])
    if closed:
        child.close("FINISHED")
        other.close("FINISHED")
    result = finish(run, claim)
    assert "MLflow refused" in result.message
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert by_name(client)["b"].info.status == "FINISHED"
    assert not list(root.glob(".tracking"))


def test_a_run_that_was_deleted_leaves_no_open_child(root):
    run, claim = begin_training(root)
    open_nested(run, root)
    wait_until(lambda: not any(run._journal.pending()))
    client = client_of(root)
    client.delete_run(run.run_id)
    assert "MLflow refused" in finish(run, claim).message
    assert by_name(client)["a"].info.status == "FINISHED"
