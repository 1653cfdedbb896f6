"""The run command as a user meets it: messages, exit statuses, and how the tracked run ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from tests.commands import KEDRO, run_kedro, start_kedro
from tests.conftest import PATIENCE
from tests.toy_project import make_toy_project
from unet_segmentation.cli import runs


def environment(**extra: str) -> dict[str, str]:
    dropped = {"MLFLOW_TRACKING_URI", "KEDRO_ENV", "PYTHONWARNINGS", "UNET_TRACEBACK", "TOY", "COLUMNS"}
    return {key: value for key, value in os.environ.items() if key not in dropped} | extra


def kedro(project: Path, *arguments: str, cwd: str = ".", **extra: str) -> subprocess.CompletedProcess:
    return run_kedro(arguments, project / cwd, environment(**extra), separate_errors=True)


def only_run(project: Path):
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return run


@pytest.fixture
def toy(tmp_path):
    return make_toy_project(tmp_path / "toy")


def test_kedro_lists_the_projects_commands(root):
    answer = subprocess.run(
        [KEDRO, "--help"], cwd=root, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    actual = answer.stdout.partition("Project specific commands from ")[2].partition("Project specific")[0]
    assert "unet_segmentation/cli/__init__.py" in actual
    for command in ("run", "mlflow", "problem", "compare", "leaderboard", "reproduce"):
        assert f"\n  {command} " in actual


def test_what_every_command_imports_is_light(root):
    code = (
        "import sys, unet_segmentation.cli, unet_segmentation.settings, unet_segmentation.hooks;"
        "heavy = {'torch', 'mlflow', 'lightning', 'pandas', 'plotly', 'matplotlib', 'cv2', 'albumentations'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.slow
def test_a_run_is_quiet_says_its_nodes_and_where_to_look(toy):
    answer = kedro(toy, "run")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    lines = answer.stdout.splitlines()
    assert [line[9:] for line in lines[:6]] == [
        "cells: 4 nodes",
        "1/4 download",
        "2/4 train",
        "epoch 3 of 3: loss [0.33]",
        "3/4 plot",
        "4/4 score",
    ]
    run = only_run(toy)
    assert lines[6].startswith("Done in ")
    assert lines[6].endswith("dice/mean 0.9321, iou/mean 0.8000")
    link = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?workflowType=machine_learning"
    assert f"http://127.0.0.1:5000{link}" in lines[-1]
    assert len(lines) == 9
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {
        "train/loss": pytest.approx(1 / 3),
        "validation/loss": pytest.approx(2 / 3),
        "test/dice/mean": 0.9321,
        "test/iou/mean": 0.8,
    }
    assert run.data.params["source.folder"] == "/nowhere"
    assert run.data.tags["command"] == "kedro run"
    client = mlflow.MlflowClient(f"sqlite:///{toy / 'mlflow.db'}")
    assert [item.path for item in client.list_artifacts(run.info.run_id, "figures")] == ["figures/curves.html"]
    assert [item.path for item in client.list_artifacts(run.info.run_id, "evaluation")] == ["evaluation/metrics.json"]


@pytest.mark.slow
def test_threads_log_to_the_one_run_also_from_a_subfolder(toy):
    answer = kedro(toy, "run", "--runner", "ThreadRunner", cwd="conf/base")
    assert answer.returncode == 0, answer.stderr
    assert "chatter" not in answer.stdout
    run = only_run(toy)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train/loss"] == pytest.approx(1 / 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("data", "masks/a.png holds the undeclared value 7: declare it in masks.values"),
        ("full", "The disk is full. data/x.bin could not be written."),
    ],
)
def test_a_known_error_is_one_message(toy, mode, words):
    answer = kedro(toy, "run", TOY=mode)
    assert answer.returncode == 1
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr + answer.stdout
    assert '--from-nodes "train"' in answer.stdout
    run = only_run(toy)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"]


@pytest.mark.slow
def test_a_bug_keeps_its_traceback(toy):
    answer = kedro(toy, "run", TOY="bug")
    assert answer.returncode == 1
    assert "RuntimeError: a bug" in answer.stderr
    assert "Traceback" in answer.stderr
    assert only_run(toy).data.tags["failure"] == "RuntimeError: a bug"


@pytest.mark.slow
def test_the_traceback_of_a_known_error_can_be_asked_for(toy):
    answer = kedro(toy, "run", TOY="data", UNET_TRACEBACK="1")
    assert "Traceback" in answer.stderr
    assert "DataError" in answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "mode", "status"),
    [(signal.SIGINT, "sleep", 130), (signal.SIGINT, "swallow", 130), (signal.SIGTERM, "sleep", 143)],
)
def test_an_interrupted_run_is_killed(toy, number, mode, status):
    command = ("run", "--params", "split.seed=1")
    process = start_kedro(command, toy, environment(TOY=mode), separate_errors=True, new_group=True)
    until = time.monotonic() + PATIENCE
    while not (toy / "sleeping").exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, number)  # a terminal's Ctrl-C reaches the whole group
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert "Traceback" not in output + errors
    assert "Interrupted by" in errors
    assert "kedro run --params split.seed=1 starts again." in errors
    run = only_run(toy)
    assert run.info.status == "KILLED"
    assert "Interrupted by" in run.data.tags["failure"]
    assert run.data.metrics["train/loss"] == pytest.approx(1 / 3)


@pytest.mark.slow
def test_an_unreachable_server_stops_the_run_before_the_download(toy):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    answer = kedro(toy, "run", MLFLOW_TRACKING_URI=uri)
    assert time.monotonic() - began < 20
    assert answer.returncode == 1
    assert uri in answer.stderr
    assert "cannot be reached" in answer.stderr
    assert "MLFLOW_TRACKING_URI" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (toy / "downloaded").exists()
    assert not (toy / ".tracking").exists()


@pytest.mark.slow
def test_tracking_can_be_switched_off(toy):
    (toy / "conf" / "local" / "mlflow.yml").write_text("enabled: false\n")
    (toy / "mlflow.db").unlink()
    answer = kedro(toy, "run")
    assert answer.returncode == 0, answer.stderr
    assert "MLflow" not in answer.stdout
    assert not (toy / "mlflow.db").exists()
    assert not (toy / ".tracking").exists()


@pytest.mark.slow
def test_a_typo_in_tracking_yml(toy):
    (toy / "conf" / "local" / "mlflow.yml").write_text("enable: false\n")
    answer = kedro(toy, "run")
    assert answer.returncode == 1
    assert "enable: there is no such setting; did you mean 'enabled'?" in answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--params", "trainin.seed=3"], "did you mean 'training'?"),
        (["--env", "cels"], "Did you mean 'cells'?"),
        (["--pipelines", "trainin"], "There is no pipeline 'trainin'. Did you mean 'training'?"),
        (["--nodes", "trian"], "There is no node 'trian'. Did you mean 'train'?"),
        (["--from-nodes", "trian"], "There is no node 'trian'. Did you mean 'train'?"),
        (["--to-outputs", "metric"], "There is no dataset 'metric'. Did you mean 'metrics'?"),
        (["--pipelines", "training"], "downloads ("),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(toy, arguments, words):
    answer = kedro(toy, "run", *arguments)
    assert answer.returncode == 1
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    if words == "downloads (":
        assert "kedro run --pipelines data_ingestion --env cells" in answer.stderr


@pytest.mark.slow
def test_nothing_to_do_makes_no_run(toy):
    assert kedro(toy, "run").returncode == 0
    answer = kedro(toy, "run", "--only-missing-outputs")
    assert answer.returncode == 0, answer.stderr
    assert "Nothing to do" in answer.stdout
    assert only_run(toy).info.status == "FINISHED"


def test_comparing_commands_take_margin_and_bootstrap_from_the_problem(monkeypatch):
    problem = {"problem": "toy", "source": {"folder": "data", "images": "{id}.png"}, "classes": ["a", "b"]}
    settings = {"bootstrap": {"resamples": 500}, "release": {"noninferiority_margin": 0.02}}
    monkeypatch.setattr(runs, "read_parameters", lambda environment: problem | settings)
    margin, bootstrap = runs._comparison_parameters(None, None)
    assert (margin, bootstrap.resamples) == (0.02, 500)
    assert runs._comparison_parameters(None, 0.5)[0] == 0.5
