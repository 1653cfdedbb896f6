"""A run that was killed is taken up by the next one of the same configuration: one MLflow run, each point once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import psutil
import pytest

from tests.toy_project import empty_store
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.tracking import store as stores
from unet_segmentation.tracking.spool import FOLDER
from unet_segmentation.tracking.unfinished import begin_training, mark_delivered

ROOT = Path(__file__).parents[2]
RUN = """
import json, os, sys, time
from pathlib import Path
from unet_segmentation.tracking.run import start_run
from unet_segmentation.tracking.settings import TrackingSettings
from unet_segmentation.tracking.spool import new_name
from unet_segmentation.tracking.unfinished import begin_training
root, wish = Path(sys.argv[1]), json.loads(sys.argv[2])
chosen = {"epochs": 3, "resume": True, "more_epochs": None} | wish.get("training", {})
parameters = {"problem": "cells", "training": chosen}
training = begin_training(root / "data/06_models/cells", parameters, "kedro run", new_name())
settings = TrackingSettings(system_metrics=False, flush_seconds=30)
run = start_run(settings, root=root, problem="cells", parameters=parameters, command="kedro run", training=training)
if "resumes" in wish:
    run.resumes(wish["resumes"])
for epoch in wish["epochs"]:
    run.log_metrics({"train/loss": 1 / epoch}, step=epoch, time=1000.0 + epoch)
run.log_metrics({"test/dice": 0.5})
if wish.get("wait"):
    run.resumes(True)
    print(run.run_id, flush=True)
    time.sleep(120)
status = wish.get("status", "FINISHED")
outcome = run.finish(status, None if status == "FINISHED" else "because")
training.finish(status)
print(outcome.link)
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    return tmp_path


def start(project, **wish):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(project), json.dumps(wish)], stdout=subprocess.PIPE, text=True, env=environment
    )


def ended(project, **wish):
    process = start(project, **wish)
    assert process.wait(120) == 0
    until = time.monotonic() + 30
    while (project / FOLDER).exists() and time.monotonic() < until:
        time.sleep(0.1)


def killed(project, *, with_sender=False, **wish):
    """Start a run, and kill it outright when it has said everything."""
    process = start(project, wait=True, **wish)
    assert process.stdout.readline().strip()
    senders = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    for sender in senders if with_sender else ():
        sender.kill()
    process.wait()


def runs_of(project):
    """Status, epochs of the loss, and points of the test score of every MLflow run, oldest first."""
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cells")
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return [
        (
            run.info.status,
            sorted(point.step for point in client.get_metric_history(run.info.run_id, "train/loss")),
            len(client.get_metric_history(run.info.run_id, "test/dice")),
        )
        for run in found
    ]


@pytest.mark.parametrize("with_sender", [False, True])
def test_a_killed_run_is_taken_up(project, with_sender):
    killed(project, epochs=[1, 2], with_sender=with_sender)
    ended(project, epochs=[1, 2, 3], resumes=True)
    assert runs_of(project) == [("FINISHED", [1, 2, 3], 1)]


def test_a_failed_run_is_taken_up_and_its_failure_forgotten(project):
    ended(project, epochs=[1], status="FAILED")
    ended(project, epochs=[1, 2, 3], resumes=True)
    assert runs_of(project) == [("FINISHED", [1, 2, 3], 1)]
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cells").experiment_id])
    assert "failure" not in run.data.tags


def test_other_data_make_another_run(project):
    killed(project, epochs=[1, 2])
    ended(project, epochs=[1, 2, 3], resumes=False)
    assert runs_of(project) == [("KILLED", [1, 2], 1), ("FINISHED", [1, 2, 3], 1)]


@pytest.mark.parametrize("training", [{"epochs": 5}, {"resume": False}])
def test_another_configuration_makes_another_run(project, training):
    killed(project, epochs=[1, 2])
    ended(project, epochs=[1, 2, 3], training=training)
    assert [status for status, *_ in runs_of(project)] == ["KILLED", "FINISHED"]


def test_a_finished_run_is_followed_by_a_new_one_unless_epochs_are_added(project):
    ended(project, epochs=[1, 2])
    ended(project, epochs=[1, 2])
    assert len(runs_of(project)) == 2
    ended(project, epochs=[1, 2, 3, 4], training={"more_epochs": 2}, resumes=True)
    assert runs_of(project)[-1] == ("FINISHED", [1, 2, 3, 4], 1)
    assert len(runs_of(project)) == 2


def test_a_deleted_run_is_not_taken_up(project):
    ended(project, epochs=[1], status="KILLED")
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cells").experiment_id])
    client.delete_run(run.info.run_id)
    ended(project, epochs=[1, 2, 3], resumes=True)
    assert runs_of(project) == [("FINISHED", [1, 2, 3], 1)]


def test_a_second_live_start_is_refused_and_changes_nothing(tmp_path):
    begin_training(tmp_path, {"training": {"epochs": 3}}, "kedro run", None)
    marker = json.loads((tmp_path / "run.json").read_text())
    parent = psutil.Process(os.getppid())
    marker |= {"pid": parent.pid, "process_started": parent.create_time()}
    (tmp_path / "run.json").write_text(json.dumps(marker))
    with pytest.raises(ConfigurationError, match=rf"process {parent.pid}, since .* kill {parent.pid}"):
        begin_training(tmp_path, {"training": {"epochs": 3}}, "kedro run", None)
    assert json.loads((tmp_path / "run.json").read_text()) == marker


def test_what_changed_is_said(tmp_path, caplog):
    caplog.set_level("INFO", "unet_segmentation")
    begin_training(tmp_path, {"training": {"epochs": 12}}, "kedro run", None)
    assert not begin_training(tmp_path, {"training": {"epochs": 20}}, "kedro run", None).takes_up
    assert "because the configuration changed: training.epochs 12 -> 20" in caplog.text
    assert begin_training(tmp_path, {"training": {"epochs": 20}}, "kedro run", None).takes_up


def test_the_working_folder_is_told_that_its_result_was_delivered(tmp_path):
    mark_delivered(tmp_path)  # no plan: nothing to tell
    (tmp_path / "plan.json").write_text('{"fingerprint": "0123"}')
    (tmp_path / "0123").mkdir()
    mark_delivered(tmp_path)
    assert (tmp_path / "0123/delivered").is_file()


def test_a_new_database_is_whole_or_absent(tmp_path, monkeypatch):
    from mlflow.store.tracking import sqlalchemy_store

    whole = sqlalchemy_store.SqlAlchemyStore

    def half(uri, artifacts):
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", half)
    with pytest.raises(KeyboardInterrupt):
        stores.make_database(tmp_path / "mlflow.db")
    assert not list(tmp_path.iterdir())

    class Overtaken(whole):
        def __init__(self, uri, artifacts):
            super().__init__(uri, artifacts)
            (tmp_path / "mlflow.db").write_bytes(b"of another run")

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", Overtaken)
    stores.make_database(tmp_path / "mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert (tmp_path / "mlflow.db").read_bytes() == b"of another run"
