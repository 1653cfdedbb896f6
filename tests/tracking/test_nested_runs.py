"""Runs within a run, against a real store."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest

from tests.tracking.test_resumed_runs import PARAMETERS, begin, finish, runs_of, steps_of
from tests.tracking.test_run import client_of
from unet_segmentation.tracking import NullRun

KILLED = """
import sys, time
from pathlib import Path
from tests.tracking.test_nested_runs import open_child
from tests.tracking.test_resumed_runs import begin
run, training = begin(Path(sys.argv[1]))
run.resumes(True)
child = open_child(run, Path(sys.argv[1]))
child.log_metrics({"train/loss": 1.0}, step=1, time=100.0)
child.run_id
print(run._process.pid, flush=True)
time.sleep(60)
"""


def open_child(run, folder, name="a"):
    return run.child(name, folder / f"{name}.json", {"variant": name})


def by_name(client):
    return {run.info.run_name: run for run in runs_of(client)}


def test_children_lie_below_their_run_and_are_told_apart(root):
    run, training = begin(root)
    first, second = open_child(run, root, "a"), open_child(run, root, "b")
    for step in (1, 2, 3):
        first.log_metrics({"train/loss": 1 / step}, step=step)
        second.log_metrics({"train/loss": 10 / step}, step=step)
    first.log_params({"model.base_channels": 4})
    run.log_metrics({"own": 7.0})
    (root / "table.csv").write_text("a,b\n")
    second.log_artifact(root / "table.csv", "evaluation")
    first.close("FINISHED")
    second.close("FAILED", "too wide")
    assert first.run_id != second.run_id
    assert run.run_id not in {first.run_id, second.run_id}
    assert finish(run, training).message is None
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
    run, training = begin(root)
    open_child(run, root).log_metrics({"x": 1.0})
    finish(run, training, "KILLED", "Interrupted.")
    child = by_name(client_of(root))["a"]
    assert (child.info.status, child.data.tags["failure"]) == ("KILLED", "Interrupted.")


@pytest.mark.parametrize("with_sender", [False, True])
def test_a_child_of_a_killed_run_goes_on_as_the_same_one(root, with_sender):
    command = [sys.executable, "-c", KILLED, str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    sender = psutil.Process(int(process.stdout.readline()))
    if with_sender:
        sender.suspend()
    process.kill()
    process.wait()
    if with_sender:
        sender.kill()
        sender.wait()
    run, training = begin(root)
    run.resumes(True)
    child = open_child(run, root)
    for step in (1, 2):
        child.log_metrics({"train/loss": 1 / step}, step=step, time=100.0 * step)
    child.close("FINISHED")
    finish(run, training)
    client = client_of(root)
    assert sorted(entry.info.run_name for entry in runs_of(client) if "variant" in entry.data.tags) == ["a"]
    assert len(runs_of(client)) == 2
    stored = by_name(client)["a"]
    assert stored.info.status == "FINISHED"
    assert steps_of(client, stored.info.run_id) == {1: 1, 2: 1}
    assert stored.data.tags["mlflow.parentRunId"] == run.run_id


def test_a_child_moves_to_the_run_that_shows_it_now_and_keeps_its_times(root):
    run, training = begin(root)
    child = run.child("a", root / "a.json", {}, started=1000.0)
    child.close("FINISHED", time=2000.0)
    finish(run, training)
    other, training = begin(root)
    again = other.child("a", root / "a.json", {}, started=time.time())
    again.close("FINISHED", time=2000.0)
    finish(other, training)
    stored = by_name(client_of(root))["a"]
    assert json.loads((root / "a.json").read_text())["run_id"] == stored.info.run_id
    assert stored.data.tags["mlflow.parentRunId"] == other.run_id
    assert (stored.info.start_time, stored.info.end_time) == (1_000_000, 2_000_000)


def test_a_child_that_was_deleted_in_mlflow_is_made_anew(root):
    run, training = begin(root)
    child = open_child(run, root)
    child.close("FINISHED")
    finish(run, training)
    client = client_of(root)
    client.delete_run(json.loads((root / "a.json").read_text())["run_id"])
    run, training = begin(root)
    child = open_child(run, root)
    child.close("FINISHED")
    finish(run, training)
    assert by_name(client)["a"].info.status == "FINISHED"


def test_where_nothing_is_tracked_a_child_keeps_nothing(tmp_path):
    child = NullRun().child("a", tmp_path / "a.json", {})
    child.log_metrics({"x": 1.0})
    child.close("FINISHED")
    assert child.run_id is None
    assert not (tmp_path / "a.json").exists()
