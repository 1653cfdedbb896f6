"""A training that is killed and taken up by the next run, against real stores."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest

from tests.conftest import PATIENCE
from tests.specs import make_spec
from tests.tracking.test_run import client_of
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.tracking import unfinished
from unet_segmentation.tracking.run import start_run
from unet_segmentation.tracking.settings import TrackingSettings
from unet_segmentation.tracking.spool import FOLDER, Spool, new_name
from unet_segmentation.tracking.unfinished import begin_training, mark_delivered

PARAMETERS = {"problem": "cells", "training": {"epochs": 12, "seed": 0}, "model": {"encoder": "resnet18"}}
STARTED = 1_700_000_000  # stored times of the epochs count from here

KILLED = """
import json, sys, time
from pathlib import Path
from tests.tracking.test_resumed_runs import begin, train
run, training = begin(Path(sys.argv[1]), **json.loads(sys.argv[2]))
if sys.argv[3] != "at once":
    if sys.argv[3] != "undecided":
        run.resumes(True)
    train(run, 1, 4)
    run.log_metrics({"test/dice/mean": 0.5})
    run.log_metrics({"odd/nan": float("nan")}, step=1)
if sys.argv[3] == "sent":
    run.run_id
    while any(run._spool.pending()):
        time.sleep(0.02)
print(run._process.pid, flush=True)
time.sleep(60)
"""


def begin(root, parameters=PARAMETERS, **settings):
    training = begin_training(folder_of(root), parameters, "kedro run", new_name())
    chosen = TrackingSettings(**{"system_metrics": False, "upload_timeout_seconds": 20, **settings})
    return start_run(
        chosen, root=root, problem="cells", parameters=parameters, command="kedro run", training=training
    ), training


def folder_of(root):
    return root / "data" / "06_models" / "cells"


def train(run, first, last):
    for epoch in range(first, last + 1):
        run.log_metrics({"train/loss": 1 / epoch, "validation/loss": 2 / epoch}, step=epoch, time=STARTED + epoch)


def finish(run, training, status="FINISHED", reason=None):
    outcome = run.finish(status, reason)
    training.finish(status)
    return outcome


def killed(root, how="sent", with_sender=False, **settings):
    """Start a training in a process of its own, and kill it."""
    command = [sys.executable, "-c", KILLED, str(root), json.dumps(settings), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    sender = psutil.Process(int(process.stdout.readline()))
    if with_sender:
        sender.suspend()  # it must not see the run's end
    process.kill()
    process.wait()
    if with_sender:
        sender.kill()
        sender.wait()


def runs_of(client):
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return sorted(client.search_runs(experiments), key=lambda run: run.info.start_time)


def steps_of(client, run_id, name="train/loss"):
    return Counter(point.step for point in client.get_metric_history(run_id, name))


def marker(root):
    return json.loads((folder_of(root) / "run.json").read_text())


@pytest.mark.parametrize(
    ("how", "with_sender"), [("sent", False), ("sent", True), ("said", False), ("at once", False), ("at once", True)]
)
def test_a_killed_training_goes_on_in_the_same_run(root, how, with_sender):
    killed(root, how, with_sender)
    assert marker(root)["status"] == "RUNNING"
    run, training = begin(root)
    run.set_tags({"prepared": "again"})
    run.resumes(True)
    train(run, 1, 12)
    run.log_metrics({"test/dice/mean": 0.5})
    run.log_metrics({"odd/nan": float("nan")}, step=1)
    assert finish(run, training).message is None
    client = client_of(root)
    (stored,) = runs_of(client)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags.keys() & {"failure", "mlflow.note.content"} == set()
    assert stored.data.tags["prepared"] == "again"
    for name in ("train/loss", "validation/loss"):
        assert steps_of(client, stored.info.run_id, name) == dict.fromkeys(range(1, 13), 1)
    assert steps_of(client, stored.info.run_id, "test/dice/mean") == {0: 1}
    assert steps_of(client, stored.info.run_id, "odd/nan") == {1: 1}
    assert marker(root)["status"] == "FINISHED"
    assert not (root / FOLDER).exists()


def test_a_run_that_failed_goes_on_and_keeps_its_name(root):
    run, training = begin(root)
    first = run.run_id
    run.log_metrics({"test/dice/mean": 0.5})
    finish(run, training, "FAILED", "masks/a.png: undeclared value 7")
    before = client_of(root).get_run(first)
    run, training = begin(root, {**PARAMETERS, "source": {"archive": "elsewhere.zip"}})
    run.log_metrics({"test/dice/mean": 0.6})  # another value: the latest counts
    assert run.run_id == first, "asking for the id settles that it is taken up"
    finish(run, training)
    (after,) = runs_of(client_of(root))
    assert after.info.run_name == before.info.run_name
    assert after.info.start_time == before.info.start_time
    assert after.info.status == "FINISHED"
    assert after.info.end_time > before.info.end_time
    assert after.data.metrics == {"test/dice/mean": 0.6}
    assert "failure" not in after.data.tags


@pytest.mark.slow
def test_a_run_killed_while_it_went_on_goes_on_once_more(root):
    killed(root, "sent", with_sender=True)
    killed(root, "undecided", with_sender=True)
    killed(root, "undecided")
    run, training = begin(root)
    train(run, 1, 5)
    finish(run, training)
    client = client_of(root)
    (stored,) = runs_of(client)
    assert stored.info.status == "FINISHED"
    assert steps_of(client, stored.info.run_id) == dict.fromkeys(range(1, 6), 1)
    assert not (root / FOLDER).exists()


def test_other_data_gets_a_run_of_its_own(root):
    killed(root)
    run, training = begin(root)
    run.set_tags({"prepared": "other data"})
    run.resumes(False)
    run.resumes(True)  # only the first word counts
    train(run, 1, 2)
    finish(run, training)
    first, second = runs_of(client_of(root))
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert "prepared" not in first.data.tags
    assert steps_of(client_of(root), second.info.run_id) == {1: 1, 2: 1}
    run, training = begin(root)
    finish(run, training)
    assert len(runs_of(client_of(root))) == 3, "a finished training is not taken up"


def test_a_changed_configuration_is_said_and_gets_a_run_of_its_own(root, caplog):
    killed(root, "sent", with_sender=True)
    spool = Spool(root / FOLDER / marker(root)["spools"][0])
    spool.remove()  # nobody is left to close the run, as after a disk was lost
    changed = {**PARAMETERS, "training": {"epochs": 20, "resume": True, "extra_epochs": None}}
    with caplog.at_level(logging.INFO):
        run, training = begin(root, changed)
    assert "not taken up, because the configuration changed: training.epochs 12 -> 20, training.seed 0 -> (none)" in (
        caplog.text
    )
    finish(run, training)
    first, second = runs_of(client_of(root))
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert second.data.params["training.epochs"] == "20"
    assert "training.resume" not in second.data.params


def test_many_changes_are_counted(root, caplog):
    parameters = {"a": list(range(3)), **{f"key{number}": number for number in range(9)}}
    begin_training(folder_of(root), parameters, "kedro run", None)
    with caplog.at_level(logging.INFO):
        assert not begin_training(folder_of(root), {"a": 1}, "kedro run", None).takes_up
    assert "a [0,1,2] -> 1, key0 0 -> (none), " in caplog.text
    assert caplog.text.rstrip().endswith("key3 3 -> (none), and 5 more")


def test_resume_can_be_refused(root):
    begin_training(folder_of(root), PARAMETERS, "kedro run", None)
    without = {**PARAMETERS, "training": {**PARAMETERS["training"], "resume": False}}
    assert not begin_training(folder_of(root), without, "kedro run", None).takes_up
    assert begin_training(folder_of(root), PARAMETERS, "kedro run", None).takes_up


def test_a_run_deleted_in_mlflow_is_replaced(root):
    killed(root)
    client, until = client_of(root), time.monotonic() + PATIENCE
    while (root / FOLDER).exists() and time.monotonic() < until:
        time.sleep(0.1)
    (first,) = runs_of(client)
    client.delete_run(first.info.run_id)
    run, training = begin(root)
    run.resumes(True)
    train(run, 1, 4)
    assert finish(run, training).message is None
    (second,) = runs_of(client)
    assert second.info.run_id != first.info.run_id
    assert second.info.status == "FINISHED"
    assert steps_of(client, second.info.run_id) == dict.fromkeys(range(1, 5), 1)


def test_another_store_gets_a_run_of_its_own(root):
    killed(root)
    (root / "other.db").write_bytes((root / "mlflow.db").read_bytes())
    run, training = begin(root, uri="sqlite:///other.db")
    finish(run, training)
    assert len(runs_of(client_of(root))) == 1
    statuses = [run.info.status for run in runs_of(mlflow.MlflowClient(f"sqlite:///{root / 'other.db'}"))]
    assert statuses.count("FINISHED") == 1


def test_a_second_start_is_refused_while_the_first_lives(root):
    code = (
        "import sys, time; from pathlib import Path; from unet_segmentation.tracking.unfinished import begin_training;"
        "begin_training(Path(sys.argv[1]), {}, 'kedro run --env cells', None); print('on', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder_of(root))], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    before = marker(root)
    for parameters in ({}, PARAMETERS):
        with pytest.raises(ConfigurationError, match=rf"process {process.pid}, since .* \(kedro run --env cells\)"):
            begin(root, parameters)
    assert begin_training(folder_of(root), PARAMETERS, "kedro search", "spool", shared=True) is None
    assert marker(root) == before
    assert not (root / FOLDER).exists()
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert begin_training(folder_of(root), {}, "kedro run", None).takes_up, "a zombie trains no more"
    process.wait()


def test_of_many_starts_at_once_one_goes_through(root):
    code = (
        "import sys, time; from pathlib import Path; from unet_segmentation.tracking.unfinished import begin_training\n"
        "import psutil; from unet_segmentation.errors import ConfigurationError\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "try: begin_training(Path(sys.argv[1]), {}, 'kedro run', None); print('on', flush=True); time.sleep(60)\n"
        "except ConfigurationError: print('refused', flush=True)"
    )
    command = [sys.executable, "-c", code, str(folder_of(root)), str(time.time() + 3)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    words = sorted(process.stdout.readline().strip() for process in processes)
    for process in processes:
        process.kill()
        process.wait()
    assert words == ["on", *["refused"] * 4]


def test_a_process_number_that_was_given_again_is_not_the_run(root):
    begin_training(folder_of(root), {}, "kedro run", None)
    other = marker(root) | {"pid": os.getppid(), "process_started": time.time() - 1e6}
    (folder_of(root) / "run.json").write_text(json.dumps(other))
    assert begin_training(folder_of(root), {}, "kedro run", None).takes_up


def test_a_run_that_cannot_be_opened_leaves_the_unfinished_one(root):
    begin_training(folder_of(root), PARAMETERS, "kedro run", "spool")
    before = marker(root)
    training = begin_training(folder_of(root), {}, "kedro run", "another")
    training.withdraw()
    training.finish("FAILED")
    assert marker(root) == before


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}'])
def test_a_marker_that_cannot_be_read_is_none(root, text):
    folder_of(root).mkdir(parents=True)
    (folder_of(root) / "run.json").write_text(text)
    assert not begin_training(folder_of(root), {}, "kedro run", None).takes_up


def test_more_epochs_go_into_the_finished_run(root):
    more = {**PARAMETERS, "training": {**PARAMETERS["training"], "extra_epochs": 3}}
    for parameters, last in ((PARAMETERS, 2), (more, 5), (more, 8)):
        run, training = begin(root, parameters)
        run.resumes(True)
        train(run, 1, last)
        assert finish(run, training).message is None
    client = client_of(root)
    (stored,) = runs_of(client)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["training.extra_epochs"] == "3, 3"
    assert "training.extra_epochs" not in stored.data.params
    assert steps_of(client, stored.info.run_id) == dict.fromkeys(range(1, 9), 1)


def test_measures_of_the_machine_count_on(root):
    for status in ("FAILED", "FINISHED"):
        run, training = begin(root, system_metrics=True, system_metrics_seconds=0.5)
        client, until, run_id = client_of(root), time.monotonic() + PATIENCE, run.run_id
        seen = len(steps_of(client, run_id, "system/cpu_utilization_percentage"))
        while len(steps_of(client, run_id, "system/cpu_utilization_percentage")) < seen + 2:
            assert time.monotonic() < until
            time.sleep(0.2)
        finish(run, training, status)
    steps = steps_of(client, run_id, "system/cpu_utilization_percentage")
    assert set(steps.values()) == {1}
    assert sorted(steps) == list(range(len(steps)))


def test_artifacts_and_datasets_are_there_once(root, tmp_path):
    samples = pd.DataFrame({"sample_id": ["a", "b"], "split": ["train", "test"], "height": [8, 8]})
    note = tmp_path / "note.txt"
    for status in ("KILLED", "FINISHED"):
        run, training = begin(root)
        run.resumes(True)
        note.write_text(status)
        run.log_artifact(note, "notes")
        run.log_dataset(samples, "cells", "https://example.org/cells.zip")
        finish(run, training, status)
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
    header = {"specification": json.dumps(make_spec().to_json()), "information": "{}"}
    save_file({"w": np.zeros(1, np.float32)}, weights, header)
    client = client_of(root)
    run, training = begin(root)
    run.log_metrics({"test/dice/mean": 0.5})
    image = np.zeros((8, 8, 3), np.uint8)
    if not first_ready:
        client.create_logged_model(run.experiment_id, name="unet", source_run_id=run.run_id)  # and then killed
    else:
        run.log_model(weights, PredictorParameters(), {"dice/mean": 0.5}, step=4, example=image)
    finish(run, training, "KILLED")
    run, training = begin(root)
    run.log_metrics({"test/dice/mean": 0.5})
    answer = run.log_model(weights, PredictorParameters(), {"dice/mean": 0.5}, step=4, example=image)
    experiment = run.experiment_id
    outcome = finish(run, training)
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
    server.start()
    killed(root, uri=server.uri, upload_timeout_seconds=2, timeout_seconds=2, with_sender=True)
    run, training = begin(root, uri=server.uri, timeout_seconds=2)  # does not wait for a decision that comes later
    server.kill()
    run.resumes(True)
    train(run, 1, 6)
    time.sleep(3)
    run.check()  # what the server does now stops nothing
    server.start()
    assert finish(run, training).message is None
    client = mlflow.MlflowClient(server.uri)
    (stored,) = runs_of(client)
    assert stored.info.status == "FINISHED"
    assert steps_of(client, stored.info.run_id) == dict.fromkeys(range(1, 7), 1)
    assert not (root / FOLDER).exists()


@pytest.mark.slow
def test_what_a_server_missed_of_two_interrupted_runs_comes_with_the_third(root, server):
    server.start()
    killed(root, uri=server.uri, upload_timeout_seconds=1, timeout_seconds=2, with_sender=True)
    run, training = begin(root, uri=server.uri, upload_timeout_seconds=1, timeout_seconds=2)
    server.kill()
    run.resumes(True)
    train(run, 5, 6)
    outcome = finish(run, training, "KILLED", "Interrupted by Ctrl-C.")
    assert "does not answer" in outcome.message
    server.start()
    run, training = begin(root, uri=server.uri, timeout_seconds=2)
    run.resumes(True)
    train(run, 1, 7)
    assert finish(run, training).message is None
    client = mlflow.MlflowClient(server.uri)
    (stored,) = runs_of(client)
    assert stored.info.status == "FINISHED"
    assert steps_of(client, stored.info.run_id) == dict.fromkeys(range(1, 8), 1)


def test_the_working_folder_is_told_that_its_result_was_delivered(tmp_path):
    mark_delivered(tmp_path)  # no plan: nothing to tell
    (tmp_path / "plan.json").write_text('{"fingerprint": "ab12"}')
    mark_delivered(tmp_path)  # no folder
    (tmp_path / "ab12").mkdir()
    mark_delivered(tmp_path)
    assert (tmp_path / "ab12" / "delivered").read_bytes() == b""


def test_an_end_that_cannot_be_noted_stops_nothing(root, monkeypatch):
    training = begin_training(folder_of(root), {}, "kedro run", None)

    @contextlib.contextmanager
    def full(_):
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(unfinished, "whole", full)
    training.finish("FAILED")
    assert marker(root)["status"] == "RUNNING"
