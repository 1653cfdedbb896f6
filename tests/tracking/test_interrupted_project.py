"""An interrupted `kedro run`, as a user meets it: the toy project, its training resumable as that of the real one."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.commands import start_kedro
from tests.conftest import PATIENCE
from tests.test_cli import environment, kedro, only_run
from tests.toy_project import make_toy_project


@pytest.fixture
def toy(tmp_path):
    project = make_toy_project(tmp_path / "toy")
    catalog = project / "conf" / "base" / "catalog.yml"
    resume = 'mlflow: {artifact: training, resume: {folder: "data/06_models/${problem:}"}}'
    catalog.write_text(catalog.read_text().replace("mlflow: {artifact: training}", resume))
    folder = folder_of(project)
    (folder / "ab12").mkdir(parents=True)
    (folder / "plan.json").write_text('{"fingerprint": "ab12"}')
    return project


def folder_of(project):
    return project / "data" / "06_models" / "cells"


def sleeping(project):
    """Start a run that comes as far as its training, and no further."""
    process = start_kedro(["run"], project, environment(TOY="sleep"), new_group=True)
    until = time.monotonic() + PATIENCE
    while not (project / "sleeping").exists() and time.monotonic() < until:
        time.sleep(0.05)
    (project / "sleeping").unlink()
    return process


@pytest.mark.slow
def test_a_run_that_is_killed_twice_goes_on_with_the_next(toy):
    first = sleeping(toy)
    refused = kedro(toy, "run", "--params", "split.seed=1")
    assert refused.returncode == 1
    assert f"This training runs already: process {first.pid}, since" in refused.stderr
    assert f"kill {first.pid}" in refused.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=PATIENCE)

    second = sleeping(toy)
    os.killpg(second.pid, signal.SIGINT)
    output, _ = second.communicate(timeout=PATIENCE)
    assert "The interrupted run of " in output
    assert "kedro run will resume" in output
    assert not (folder_of(toy) / "ab12" / "delivered").exists()

    answer = kedro(toy, "run")
    assert answer.returncode == 0, answer.stderr
    run = only_run(toy)
    assert run.info.status == "FINISHED"
    assert "failure" not in run.data.tags
    assert f"/runs/{run.info.run_id}?" in answer.stdout
    assert json.loads((folder_of(toy) / "run.json").read_text())["status"] == "FINISHED"
    assert (folder_of(toy) / "ab12" / "delivered").exists()
    assert not (toy / ".tracking").exists()


def test_without_tracking_and_with_other_pipelines(toy):
    (toy / "conf" / "local" / "mlflow.yml").write_text("enabled: false\n")
    assert kedro(toy, "run", TOY="data").returncode == 1
    before = (folder_of(toy) / "run.json").read_text()
    assert json.loads(before)["status"] == "FAILED"
    assert kedro(toy, "run", "--pipelines", "data_ingestion").returncode == 0
    assert (folder_of(toy) / "run.json").read_text() == before, "a run that does not train takes no part"
    answer = kedro(toy, "run", "--params", "split.seed=1,split.test=0.3")
    assert answer.returncode == 0, answer.stderr
    assert "is not resumed, because the configuration changed: split.seed (none) -> 1, split.test (none) -> 0.3" in (
        answer.stdout
    )
