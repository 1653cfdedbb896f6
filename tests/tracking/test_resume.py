"""A training that is killed and resumed by the next run, against real stores."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import subprocess
import sys
import time
from functools import partial

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.tracking.runs import (
    PARAMETERS,
    begin_training,
    client_of,
    finish,
    folder_of,
    in_a_killed_process,
    killed_training,
    log_model,
    marker,
    runs_of,
    steps_of,
    train,
    wait_until,
)
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.tracking import journal as journal_module
from unet_segmentation.tracking.journal import FOLDER, Journal
from unet_segmentation.tracking.mlflow_client import MlflowRunClient
from unet_segmentation.tracking.resume import Continuation, TrainingMarker, claim_training, decide
from unet_segmentation.tracking.uploader import upload_pending


def claim(root, parameters=PARAMETERS, **options):
    """Claim the folder, as a process that then ends does."""
    claimed = claim_training(folder_of(root), parameters, "kedro run", **options)
    claimed._lock.release()
    return claimed


@pytest.mark.parametrize("how", ["sent", "said", "at once"])
def test_a_killed_training_goes_on_in_the_same_run(root, how):
    first = killed_training(root, how)
    assert marker(root)["status"] == "RUNNING"
    run, claimed = begin_training(root)
    run.set_tags({"prepared": "again"})
    run.decide_resumption(True)
    train(run, 1, 12)
    run.log_metrics({"test/dice/mean": 0.5})
    run.log_metrics({"odd/nan": float("nan")}, step=1)
    assert finish(run, claimed).message is None
    client = client_of(root)
    (stored,) = runs_of(client)
    assert stored.info.run_id == first
    assert stored.info.status == "FINISHED"
    assert stored.data.tags.keys() & {"failure", "mlflow.note.content"} == set()
    assert stored.data.tags["prepared"] == "again"
    for name in ("train/loss", "validation/loss"):
        assert steps_of(client, stored.info.run_id, name) == dict.fromkeys(range(1, 13), 1)
    assert steps_of(client, stored.info.run_id, "test/dice/mean") == {0: 1}
    assert steps_of(client, stored.info.run_id, "odd/nan") == {1: 1}
    assert marker(root)["status"] == "FINISHED"
    assert not (root / FOLDER).exists()


def test_a_run_killed_while_it_is_opened_leaves_none(root):
    def work():
        MlflowRunClient.create = lambda *_: os.kill(os.getpid(), 9)
        begin_training(root)

    in_a_killed_process(work)
    assert (root / FOLDER).is_dir()
    run, claimed = begin_training(root)
    train(run, 1, 2)
    assert finish(run, claimed).message is None
    (stored,) = runs_of(client_of(root))
    assert stored.info.status == "FINISHED"
    assert not (root / FOLDER).exists()


def test_a_run_that_failed_goes_on_and_keeps_its_name(root):
    run, claimed = begin_training(root)
    first = run.run_id
    run.log_metrics({"test/dice/mean": 0.5})
    finish(run, claimed, "FAILED", "masks/a.png: undeclared value 7")
    before = client_of(root).get_run(first)
    run, claimed = begin_training(root, {**PARAMETERS, "source": {"archive": "elsewhere.zip"}})
    run.log_metrics({"test/dice/mean": 0.6})  # another value: the latest counts
    assert run.run_id == first
    finish(run, claimed)
    (after,) = runs_of(client_of(root))
    assert after.info.run_name == before.info.run_name
    assert after.info.start_time == before.info.start_time
    assert after.info.status == "FINISHED"
    assert after.info.end_time > before.info.end_time
    assert after.data.metrics == {"test/dice/mean": 0.6}
    assert "failure" not in after.data.tags


def test_a_run_killed_while_it_went_on_goes_on_once_more(root):
    killed_training(root, "sent")
    killed_training(root, "inconclusive")
    killed_training(root, "inconclusive")
    run, claimed = begin_training(root)
    train(run, 1, 5)
    finish(run, claimed)
    client = client_of(root)
    (stored,) = runs_of(client)
    assert stored.info.status == "FINISHED"
    assert steps_of(client, stored.info.run_id) == dict.fromkeys(range(1, 6), 1)
    assert not (root / FOLDER).exists()


def test_other_data_gets_a_run_of_its_own(root):
    killed_training(root)
    run, claimed = begin_training(root)
    run.set_tags({"prepared": "other data"})
    run.decide_resumption(False)
    run.decide_resumption(True)  # only the first word counts
    train(run, 1, 2)
    finish(run, claimed)
    first, second = runs_of(client_of(root))
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert "prepared" not in first.data.tags
    assert steps_of(client_of(root), second.info.run_id) == {1: 1, 2: 1}
    run, claimed = begin_training(root)
    finish(run, claimed)
    assert len(runs_of(client_of(root))) == 3, "a finished training is not taken up"


def test_a_changed_configuration_is_said_and_gets_a_run_of_its_own(root, caplog):
    killed_training(root)
    (journal,) = Journal.find_all(root)
    journal.remove()  # nobody is left to close the run, as after a disk was lost
    changed = {**PARAMETERS, "training": {"epochs": 20, "resume": True, "extra_epochs": None}}
    with caplog.at_level(logging.INFO):
        run, claimed = begin_training(root, changed)
    assert "not resumed, because the configuration changed: training.epochs 12 -> 20, training.seed 0 -> (none)" in (
        caplog.text
    )
    finish(run, claimed)
    first, second = runs_of(client_of(root))
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert second.data.params["training.epochs"] == "20"
    assert "training.resume" not in second.data.params


def test_many_changes_are_counted(root, caplog):
    parameters = {"a": list(range(3)), **{f"key{number}": number for number in range(9)}}
    claim(root, parameters)
    with caplog.at_level(logging.INFO):
        assert claim(root, {"a": 1}).continuation is Continuation.NEW
    assert "a [0,1,2] -> 1, key0 0 -> (none), " in caplog.text
    assert caplog.text.rstrip().endswith("key3 3 -> (none), and 5 more")


def test_resume_can_be_refused(root):
    claim(root)
    without = {**PARAMETERS, "training": {**PARAMETERS["training"], "resume": False}}
    assert claim(root, without).continuation is Continuation.NEW
    assert claim(root).continuation is Continuation.RESUME


@pytest.mark.parametrize(
    ("status", "before", "now", "decision"),
    [
        (None, {}, {}, Continuation.NEW),
        ("RUNNING", {"a": "1"}, {"a": "1"}, Continuation.RESUME),
        (
            "FAILED",
            {"a": "1"},
            {"a": "1", "training.num_workers": "3", "release.noninferiority_margin": "0"},
            Continuation.RESUME,
        ),
        ("KILLED", {"a": "1"}, {"a": "1", "training.resume": "false"}, Continuation.NEW),
        ("KILLED", {"a": "1"}, {"a": "2"}, Continuation.NEW),
        ("KILLED", {"a": "1"}, {"a": "1", "b": "1"}, Continuation.NEW),
        ("FINISHED", {"a": "1"}, {"a": "1"}, Continuation.NEW),
        ("FINISHED", {"a": "1"}, {"a": "1", "training.extra_epochs": "null"}, Continuation.NEW),
        ("FINISHED", {"a": "1"}, {"a": "1", "training.extra_epochs": "3"}, Continuation.EXTEND),
        ("FINISHED", {"a": "1"}, {"a": "2", "training.extra_epochs": "3"}, Continuation.NEW),
    ],
)
def test_marker_and_parameters_decide(status, before, now, decision):
    reports = status and TrainingMarker(status=status, pid=1, started=0.0, command="kedro run", parameters=before)
    assert decide(reports, now) is decision


def test_a_run_deleted_in_mlflow_is_replaced(root):
    killed_training(root)
    client = client_of(root)
    assert upload_pending(root) == (1, 0)
    (first,) = runs_of(client)
    client.delete_run(first.info.run_id)
    run, claimed = begin_training(root)
    run.decide_resumption(True)
    train(run, 1, 4)
    assert finish(run, claimed).message is None
    (second,) = runs_of(client)
    assert second.info.run_id != first.info.run_id
    assert second.info.status == "FINISHED"
    assert steps_of(client, second.info.run_id) == dict.fromkeys(range(1, 5), 1)


def test_another_store_gets_a_run_of_its_own(root):
    killed_training(root)
    (root / "other.db").write_bytes((root / "mlflow.db").read_bytes())
    run, claimed = begin_training(root, uri="sqlite:///other.db")
    finish(run, claimed)
    assert len(runs_of(client_of(root))) == 1
    statuses = [run.info.status for run in runs_of(mlflow.MlflowClient(f"sqlite:///{root / 'other.db'}"))]
    assert statuses.count("FINISHED") == 1


def test_a_second_start_is_refused_while_the_first_lives(root):
    code = (
        "import sys, time; from pathlib import Path; from unet_segmentation.tracking.resume import claim_training;"
        "claim = claim_training(Path(sys.argv[1]), {}, 'kedro run --env cells'); print('on', flush=True);"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder_of(root))], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    before = marker(root)
    for parameters in ({}, PARAMETERS):
        with pytest.raises(ConfigurationError, match=rf"process {process.pid}, since .* \(kedro run --env cells\)"):
            begin_training(root, parameters)
    assert claim_training(folder_of(root), PARAMETERS, "kedro search", shared=True) is None
    assert marker(root) == before
    assert not (root / FOLDER).exists()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie
    assert claim(root, {}).continuation is Continuation.RESUME, "a zombie trains no more"
    process.wait()


def test_a_worker_that_outlives_its_run_holds_nothing(root):
    child = os.fork()
    if child == 0:
        claimed = claim_training(folder_of(root), {}, "kedro run")  # held by this name until the end
        if os.fork() == 0:  # a loader's worker
            time.sleep(30)
        os.kill(os.getpid(), 9)
        del claimed
    os.waitpid(child, 0)
    assert claim(root, {}).continuation is Continuation.RESUME


@pytest.mark.slow
def test_a_worker_that_ends_releases_nothing_of_its_run(root):
    claimed = claim_training(folder_of(root), {}, "kedro run")
    child = os.fork()
    if child == 0:
        del claimed
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)

    def start():
        try:
            claim_training(folder_of(root), {}, "kedro run")
        except ConfigurationError:
            return "refused"

    assert in_a_killed_process(start) == "refused"
    claimed.finish("FINISHED")


def test_of_many_starts_at_once_one_goes_through(root):
    code = (
        "import sys, time; from pathlib import Path; from unet_segmentation.tracking.resume import claim_training\n"
        "from unet_segmentation.errors import ConfigurationError\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "try: claim = claim_training(Path(sys.argv[1]), {}, 'kedro run'); print('on', flush=True); time.sleep(60)\n"
        "except ConfigurationError: print('refused', flush=True)"
    )
    command = [sys.executable, "-c", code, str(folder_of(root)), str(time.time() + 3)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    words = sorted(process.stdout.readline().strip() for process in processes)
    for process in processes:
        process.kill()
        process.wait()
    assert words == ["on", *["refused"] * 4]


def test_a_run_that_cannot_be_opened_leaves_the_unfinished_one(root):
    claim(root)
    before = marker(root)
    claimed = claim_training(folder_of(root), {}, "kedro run")
    claimed.roll_back()
    claimed.finish("FAILED")
    assert marker(root) == before


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}'])
def test_a_marker_that_cannot_be_read_is_none(root, text):
    folder_of(root).mkdir(parents=True)
    (folder_of(root) / "run.json").write_text(text)
    assert claim(root, {}).continuation is Continuation.NEW


def test_more_epochs_go_into_the_finished_run(root):
    more = {**PARAMETERS, "training": {**PARAMETERS["training"], "extra_epochs": 3}}
    for parameters, last in ((PARAMETERS, 2), (more, 5), (more, 8)):
        run, claimed = begin_training(root, parameters)
        run.decide_resumption(True)
        train(run, 1, last)
        assert finish(run, claimed).message is None
    client = client_of(root)
    (stored,) = runs_of(client)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["training.extra_epochs"] == "3, 3"
    assert "training.extra_epochs" not in stored.data.params
    assert steps_of(client, stored.info.run_id) == dict.fromkeys(range(1, 9), 1)


@pytest.mark.slow
def test_measures_of_the_machine_count_on(root):
    for status in ("FAILED", "FINISHED"):
        run, claimed = begin_training(root, system_metrics=True, system_metrics_seconds=0.5)
        run.decide_resumption(True)
        client, run_id = client_of(root), run.run_id
        count = partial(steps_of, client, run_id, "system/cpu_utilization_percentage")
        more = len(count()) + 2
        wait_until(lambda count=count, more=more: len(count()) >= more)
        finish(run, claimed, status)
    steps = steps_of(client, run_id, "system/cpu_utilization_percentage")
    assert set(steps.values()) == {1}
    assert sorted(steps) == list(range(len(steps)))


def test_artifacts_and_datasets_are_there_once(root, tmp_path):
    samples = pd.DataFrame({"sample_id": ["a", "b"], "split": ["train", "test"], "height": [8, 8]})
    note = tmp_path / "note.txt"
    for status in ("KILLED", "FINISHED"):
        run, claimed = begin_training(root)
        run.decide_resumption(True)
        note.write_text(status)
        run.log_artifact(note, "notes")
        run.log_dataset(samples, "cells", "https://example.org/cells.zip")
        finish(run, claimed, status)
    (stored,) = runs_of(client_of(root))
    assert len(stored.inputs.dataset_inputs) == 2
    with open(client_of(root).download_artifacts(stored.info.run_id, "notes/note.txt")) as stream:
        assert stream.read() == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("first_ready", [False, True])
def test_the_run_has_one_model_in_the_end(root, tmp_path, first_ready):
    from safetensors.numpy import save_file

    from unet_segmentation.parameters import PredictorParameters

    weights = tmp_path / "best.safetensors"
    specification = {
        "architecture": "unet",
        "classes": ["a", "b"],
        "in_channels": 3,
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
    }
    header = {"specification": json.dumps(specification), "information": "{}"}
    save_file({"w": np.zeros(1, np.float32)}, weights, header)
    client = client_of(root)
    run, claimed = begin_training(root)
    run.log_metrics({"test/dice/mean": 0.5})
    image = np.zeros((8, 8, 3), np.uint8)
    if not first_ready:
        client.create_logged_model(run.experiment_id, name="unet", source_run_id=run.run_id)  # and then killed
    else:
        log_model(run, weights, PredictorParameters(), {"dice/mean": 0.5}, step=4, example=image)
    finish(run, claimed, "KILLED")
    run, claimed = begin_training(root)
    run.log_metrics({"test/dice/mean": 0.5})
    answer = log_model(run, weights, PredictorParameters(), {"dice/mean": 0.5}, step=4, example=image)
    outcome = finish(run, claimed)
    experiment = run.experiment_id
    assert answer["status"] == "logged"
    assert outcome.message is None
    (stored,) = runs_of(client)
    (output,) = stored.outputs.model_outputs
    (model,) = client.search_logged_models([experiment])
    assert (model.model_id, model.status, output.step) == (output.model_id, "READY", 4)
    assert steps_of(client, stored.info.run_id, "test/dice/mean") == {0: 1}
    assert [(metric.key, metric.value) for metric in model.metrics] == [("test/dice/mean", 0.5)]


@pytest.mark.slow
def test_a_server_that_goes_away_before_the_run_is_opened_again(root, server):
    server.open()
    first = killed_training(root, uri=server.uri, upload_timeout_seconds=2, timeout_seconds=2)
    run, claimed = begin_training(root, uri=server.uri, timeout_seconds=2)  # waits for no decision that comes later
    server.close()
    run.decide_resumption(True)
    train(run, 1, 6)
    assert run._background.uploader.client is None  # what the server does now stops nothing
    server.open()
    assert finish(run, claimed).message is None
    client = mlflow.MlflowClient(server.uri)
    assert run.run_id == first
    stored = client.get_run(first)
    assert stored.info.status == "FINISHED"
    assert steps_of(client, first) == dict.fromkeys(range(1, 7), 1)
    assert not (root / FOLDER).exists()


@pytest.mark.slow
def test_what_a_server_missed_of_two_interrupted_runs_comes_with_the_third(root, server):
    server.open()
    first = killed_training(root, uri=server.uri, upload_timeout_seconds=1, timeout_seconds=2)
    run, claimed = begin_training(root, uri=server.uri, upload_timeout_seconds=1, timeout_seconds=2)
    server.close()
    run.decide_resumption(True)
    train(run, 5, 6)
    outcome = finish(run, claimed, "KILLED", "Interrupted by Ctrl-C.")
    assert "does not answer" in outcome.message
    server.open()
    run, claimed = begin_training(root, uri=server.uri, timeout_seconds=2)
    run.decide_resumption(True)
    train(run, 1, 7)
    assert finish(run, claimed).message is None
    client = mlflow.MlflowClient(server.uri)
    assert run.run_id == first
    assert client.get_run(first).info.status == "FINISHED"
    assert steps_of(client, first) == dict.fromkeys(range(1, 8), 1)


def test_an_end_that_cannot_be_noted_stops_nothing(root, monkeypatch):
    claimed = claim_training(folder_of(root), {}, "kedro run")

    @contextlib.contextmanager
    def full(_):
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(journal_module, "atomic_write", full)
    claimed.finish("FAILED")
    assert marker(root)["status"] == "RUNNING"
