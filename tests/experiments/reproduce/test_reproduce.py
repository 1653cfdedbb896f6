"""`kedro reproduce` through the real command line, on the toy project under git."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import mlflow
import pytest

from tests.commands import start_kedro
from tests.conftest import PATIENCE
from tests.experiments.reproduce.toy import git, make_toy
from tests.test_cli import environment, kedro, only_run
from tests.toy_project import empty_store
from tests.tracking.stored import tell
from unet_segmentation.errors import ProjectError, TrackingError
from unet_segmentation.experiments.reproduce.reproduce import reproduce
from unet_segmentation.tracking.run_queries import find_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A project after a run, and the run's id."""
    project = make_toy(tmp_path_factory.mktemp("ran") / "toy")
    return project, succeeded(project)


def succeeded(project, *arguments, **extra):
    answer = kedro(project, "run", *arguments, **extra)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return only_run(project).info.run_id


def words_of(answer):
    """What was said under each title."""
    lines = [line.split(maxsplit=1) for line in answer.stdout.replace("Lock file", "Lock").splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def nothing_is_left(project):
    changed = git(project, "status", "--porcelain")
    trees = git(project, "worktree", "list").splitlines()
    return not changed and len(trees) == 1 and not list((project / "data").glob(".rep*"))


def test_a_run_is_made_again_with_its_parameters_and_its_uncommitted_code(tmp_path):
    toy = make_toy(tmp_path / "toy")
    nodes = toy / "src/toy/nodes.py"
    nodes.write_text(nodes.read_text().replace("FACTOR = 1.0", "from toy.new import FACTOR"))
    (toy / "src/toy/new.py").write_text("FACTOR = 7.0\n")
    run_id = succeeded(toy, "--params", "split.seed=5")
    assert only_run(toy).data.metrics["test/dice/mean"] == 7 * 3 + 3 * 5
    git(toy, "checkout", "--quiet", ".")
    (toy / "src/toy/new.py").unlink()
    (toy / "downloaded").unlink()
    (toy / "conf/cells/parameters.yml").write_text("classes: [a, b]\nsource: {folder: /else, images: '{id}.png'}\n")
    git(toy, "commit", "--quiet", "-am", "another configuration by now")
    answer = kedro(toy, "reproduce", run_id[:10])
    assert answer.returncode == 0, answer.stdout + answer.stderr
    messages = words_of(answer)
    assert messages["Scores"] == "The same: all 2 test scores agree to the last digit."
    assert messages["Weights"].startswith("The same (sha256 ")
    assert messages["Data"] == "The same (sha256 1 2 3)."
    assert messages["Versions"].startswith("The same (CPython")
    assert messages["Machine"] == "The same."
    assert "with what was not committed" in messages["Code"]
    assert "click" in messages["Lock"]
    assert "(locked: 0.0.1)" in messages["Lock"]
    assert "was reproduced" in answer.stdout
    assert "Done in" not in answer.stdout, "the last words of the second run point to what is gone"
    assert answer.stderr == ""
    assert nothing_is_left(toy)
    assert not (toy / "downloaded").exists(), "raw data was fetched again"
    assert only_run(toy).info.run_id == run_id, "the second run went into the project's store"


def test_another_result_is_said_with_its_figures(ran):
    toy, run_id = ran
    numbers = toy / "data/01_raw/cells/archives/numbers.txt"
    numbers.write_text("4 5 6")
    client = mlflow.MlflowClient(f"sqlite:///{toy / 'mlflow.db'}")
    client.set_tag(run_id, "version.torch", "0.1")
    answer = kedro(toy, "reproduce", run_id, "--env", "cells", TOY_NOISE="0.5")
    assert answer.returncode == 1
    messages = words_of(answer)
    assert messages["Scores"] == "Not the same: 1 of 2 test scores differ: test/dice/mean 3 -> 4.5."
    assert messages["Weights"].startswith("Not the same: sha256 ")
    assert messages["Data"] == "Not the same: sha256 1 2 3 -> 4 5 6."
    assert "torch 0.1 -> " in messages["Versions"]
    assert "was not reproduced" in answer.stdout
    assert nothing_is_left(toy)
    assert numbers.read_text() == "4 5 6"


def test_a_run_that_fails_the_second_time_leaves_nothing(ran):
    toy, run_id = ran
    answer = kedro(toy, "reproduce", run_id, TOY="fail")
    assert answer.returncode == 1
    assert "RuntimeError: a bug" in answer.stdout
    assert "could not be reproduced: kedro run ended with exit status 1" in answer.stderr
    assert nothing_is_left(toy)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_one_leaves_nothing(ran, tmp_path, number, status):
    toy, run_id = ran
    sign = tmp_path / "sleeping"
    sleep = environment(TOY="sleep", TOY_SIGN=str(sign))
    process = start_kedro(["reproduce", run_id], toy, sleep, separate_errors=True, new_group=True)
    until = time.monotonic() + PATIENCE
    while not sign.exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert "Traceback" not in output + errors
    assert nothing_is_left(toy)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("git.commit", "0" * 40, "is not in the repository"),
        ("git.commit", "", "was not made in a git repository"),
        ("git.dirty", "true", "the difference was not logged"),
        ("training.extra_epochs", "3", "3 more epochs"),
    ],
)
def test_what_cannot_be_made_again_is_refused_with_the_reason(ran, name, value, reason):
    toy, run_id = ran
    uri = f"sqlite:///{toy / 'mlflow.db'}"
    run = find_run(uri, run_id)
    with pytest.raises(ProjectError, match=reason):
        reproduce(uri, replace(run, tags={**run.tags, name: value}), toy, lambda line: None)
    assert nothing_is_left(toy)


def test_runs_that_were_not_finished_or_trained_nothing_are_refused(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for status, reason in (("FAILED", r"did not finish \(FAILED\)"), ("FINISHED", "trained no model")):
        run = find_run(uri, tell(tmp_path, "unet", status=status, **{"git.commit": "ab"}))
        with pytest.raises(TrackingError, match=reason):
            reproduce(uri, run, tmp_path, lambda line: None)
