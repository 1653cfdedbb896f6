from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time

import pandas as pd
import pytest
from mlflow.models import Model

from tests.tracking.runs import begin as begin_run
from tests.tracking.runs import client_of, in_a_killed_process, wait_until
from unet_segmentation import tracking
from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.journal import FOLDER
from unet_segmentation.tracking.uploader import upload_pending

PARAMETERS = {"model": {"architecture": "unet", "encoder": "resnet18"}, "classes": ["a", "b"], "seed": None}


def begin(root, **settings):
    return begin_run(root, PARAMETERS, **settings)


def test_everything_a_run_says_arrives(root, tmp_path, monkeypatch):  # noqa: PLR0915 - one run, looked at from all sides
    (root / "mlflow.db").unlink()  # it is created
    monkeypatch.chdir(tmp_path)  # the store belongs to the project's root, whatever the current directory
    run = begin(root, system_metrics=True, system_metrics_seconds=0.5)
    assert tracking.active_run() is run
    began = time.perf_counter()
    figure = tmp_path / "curves.json"
    figure.write_text('{"data": [{"y": [1, 2], "type": "scatter"}], "layout": {}}')
    note = tmp_path / "note.md"
    note.write_text("first")
    threads = [threading.Thread(target=lambda e=e: run.log_metrics({"train/loss": 1 / e}, step=e)) for e in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.log_metrics({"odd/nan": float("nan")}, time=1_000_000.5)
    run.set_tags({"data.sha256": "0" * 64})
    run.log_artifact(note, "notes")
    note.unlink()  # what was logged no longer depends on the file
    run.log_figure_html(figure, "figures")
    samples = pd.DataFrame({"sample_id": ["a", "b", "c"], "split": ["train", "train", "test"], "height": [8, 8, 8]})
    run.log_dataset(samples, "cells", "https://example.org/cells.zip")
    output = time.perf_counter() - began
    run_id = run.run_id
    client = client_of(root)
    wait_until(lambda: "system/cpu_utilization_percentage" in client.get_run(run_id).data.metrics)
    outcome = run.finish("FINISHED")
    assert output < 1.0, "saying something must not wait for MLflow"
    assert outcome.message is None
    assert outcome.link.endswith(f"/runs/{run_id}?workflowType=machine_learning")
    assert not (root / FOLDER).exists()
    assert tracking.active_run().enabled is False

    stored = client.get_run(run_id)
    assert stored.info.status == "FINISHED"
    assert stored.info.run_name.startswith("unet resnet18 · ")
    assert stored.data.params == {
        "model.architecture": "unet",
        "model.encoder": "resnet18",
        "classes": '["a","b"]',
        "seed": "null",
    }
    points = client.get_metric_history(run_id, "train/loss")
    assert sorted((point.step, point.value) for point in points) == [(e, 1 / e) for e in range(1, 9)]
    (nan,) = client.get_metric_history(run_id, "odd/nan")
    assert nan.timestamp == 1_000_000_500
    assert stored.data.metrics["system/cpu_utilization_percentage"] >= 0
    assert stored.data.tags["problem"] == "cells"
    assert stored.data.tags["data.sha256"] == "0" * 64
    assert "version.torch" in stored.data.tags
    assert {item.path for item in client.list_artifacts(run_id)} >= {"notes", "figures"}
    page = client.download_artifacts(run_id, "figures/curves.html")
    with open(page) as stream:
        html = stream.read()
    assert "plotly.js v" in html
    assert 'src="http' not in html
    splits = {entry.tags[0].value: entry.dataset.name for entry in stored.inputs.dataset_inputs}
    assert splits == {"train": "cells train", "test": "cells test"}
    assert stored.info.artifact_uri.startswith((root / "mlartifacts").as_uri())
    assert not (tmp_path / "mlruns").exists()


def test_a_second_run_goes_into_the_same_experiment(root):
    ids = []
    for status in ("FINISHED", "FAILED"):
        run = begin(root)
        ids.append((run.run_id, run.experiment_id))
        run.finish(status, None if status == "FINISHED" else "masks/a.png: undeclared value 7")
    assert ids[0][1] == ids[1][1]
    failed = client_of(root).get_run(ids[1][0])
    assert failed.info.status == "FAILED"
    assert failed.data.tags["failure"] == "masks/a.png: undeclared value 7"
    assert "undeclared value 7" in failed.data.tags["mlflow.note.content"]


def test_what_mlflow_refuses_stops_nothing(root):
    run = begin(root)
    run_id = run.run_id
    run.log_params({"model.encoder": "resnet34"})  # was resnet18: MLflow refuses to change a parameter
    run.log_metrics({"a bad name: ?": 1.0, "good": 2.0})
    run.log_metrics({"fine": 1.0})
    outcome = run.finish("FINISHED")
    assert "refused" in outcome.message
    stored = client_of(root).get_run(run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params["model.encoder"] == "resnet18"
    assert stored.data.metrics["fine"] == 1.0


def test_a_run_whose_process_is_killed_is_closed_as_killed_by_the_next_command(root):
    def work():
        run = begin(root)
        run.log_metrics({"train/loss": 0.5}, step=3)
        return run.run_id

    run_id = in_a_killed_process(work)
    assert client_of(root).get_run(run_id).info.status == "RUNNING"
    run = begin(root)
    run.finish("FINISHED")
    stored = client_of(root).get_run(run_id)
    assert stored.info.status == "KILLED"
    assert "was killed" in stored.data.tags["failure"]
    assert stored.data.metrics == {"train/loss": 0.5}
    assert not (root / FOLDER).exists()


def test_a_run_that_goes_on_is_left_alone_by_other_commands(root):
    run = begin(root)
    assert upload_pending(root) == (0, 0)
    assert client_of(root).get_run(run.run_id).info.status == "RUNNING"
    assert run.finish("FINISHED").message is None


def test_a_store_that_is_no_database(root):
    (root / "mlflow.db").write_text("this is no database, and longer than a header of SQLite would be" * 9)
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be opened"):
        begin(root)


def test_a_deleted_experiment_is_named_at_once(root):
    run = begin(root)
    experiment = run.experiment_id
    run.finish("FINISHED")
    client_of(root).delete_experiment(experiment)
    with pytest.raises(TrackingError, match="'cells' was deleted"):
        begin(root)
    assert not (root / FOLDER).exists()
    assert not tracking.active_run().enabled


@pytest.mark.parametrize("uri", ["./mlruns", "file:///somewhere/mlruns"])
def test_a_folder_is_no_store(root, uri):
    with pytest.raises(TrackingError, match="no longer keeps runs in folders"):
        begin(root, uri=uri)


@pytest.mark.slow
def test_code_is_noted_even_of_a_run_that_ends_at_once(root, tmp_path, monkeypatch):
    for command in ("init --quiet", "commit --quiet --allow-empty -m first"):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command.split()], cwd=root, check=True)
    (root / "src").mkdir()
    (root / "src/new.py").write_text("ONE = 1\n")
    slow = tmp_path / "bin/git"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 0.3\nexec {shutil.which("git")} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    begin(root).finish("FINISHED")
    client = client_of(root)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.data.tags["git.dirty"] == "true"
    assert "code/uncommitted.diff" in {file.path for file in client.list_artifacts(run.info.run_id, "code")}


def test_a_model_is_tagged_with_its_problem_wherever_the_experiment_is_set(root):
    def build(folder):
        folder.mkdir(parents=True)
        Model(artifact_path="model").save(str(folder / "MLmodel"))

    run = begin(root, experiment="an experiment of several problems")
    reply = run.log_model(build, {}, step=1)
    run.finish("FINISHED")
    client = client_of(root)
    assert client.get_experiment(run.experiment_id).name == "an experiment of several problems"
    assert client.get_logged_model(reply["model_id"]).tags["problem"] == "cells"
