"""Releases of the `test` problem through the real command line, one after the other, as a user makes them."""

import json
import re
import sqlite3
import subprocess
from pathlib import Path

import mlflow
import pytest

from tests.conftest import PATIENCE, Project
from tests.end_to_end.conftest import succeeded

pytestmark = pytest.mark.slow

LEARNS = "training.epochs=30,training.optimizer.learning_rate=0.01"


@pytest.fixture(scope="module")
def project(make_project) -> Project:
    """A project with one evaluated run."""
    project = make_project("release", with_store=True)
    succeeded(project.kedro("run", "--env", "test", "--params", LEARNS))
    return project


def train(project: Project, parameters: str) -> str:
    """Train and evaluate anew; give the run's id."""
    succeeded(project.kedro("run", "--env", "test", "--pipelines", "training,evaluation", "--params", parameters))
    return run_here(project)


def run_here(project: Project) -> str:
    return json.loads((project.path / "data/08_reporting/test/logged_model.json").read_text())["run_id"]


def decision(project: Project) -> dict:
    return json.loads((project.path / "data/08_reporting/test/release/decision.json").read_text())


def aliases(project: Project) -> dict[str, int]:
    result = mlflow.MlflowClient(f"sqlite:///{project.path}/mlflow.db").get_registered_model("test").aliases
    return {name: int(version) for name, version in result.items()}


def refused(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 1, answer.stdout[-4000:]
    assert "Traceback" not in answer.stdout
    assert answer.stdout.count("Error: ") == 1
    return " ".join(answer.stdout.split())


def test_releases_from_the_first_to_a_rollback(project):
    kedro = project.kedro
    assert "No model of test was released yet" in refused(kedro("rollback", "--env", "test"))
    first = run_here(project)
    output = succeeded(kedro("release", "--env", "test"))
    assert not re.search(r"warning|deprecat|traceback", output, re.IGNORECASE), output
    assert re.search(r"Released: version 1 of test, the first\. dice/mean 0\.\d{4}, compared with no champion", output)
    assert "gives the counts of all 5 images exactly" in output
    assert aliases(project) == {"champion": 1}

    # The same training once more: no better, and not worse.
    second = train(project, LEARNS)
    assert second != first
    output = succeeded(kedro("release", "--env", "test"))
    assert "+0.0000 [+0.0000, +0.0000]: not worse by more than the margin of 0.015" in output
    assert aliases(project) == {"champion": 2, "previous": 1}

    # A training of a single step.
    worse = train(project, "training.epochs=1,training.min_steps_per_epoch=1,training.batch_size=16")
    message = refused(kedro("release", "--env", "test"))
    assert "Error: Refused: " in message
    assert "version 2 stays the champion" in message
    assert re.search(
        r"dice/mean 0\.\d{4} against 0\.\d{4} of version 2, -0\.\d{4} \[-0\.\d{4}, -0\.\d{4}\]: worse", message
    )
    assert aliases(project) == {"champion": 2, "previous": 1}
    assert decision(project)["outcome"] == "refused"
    page = (project.path / "data/08_reporting/test/release/decision.md").read_text()
    assert page.startswith("Refused: ")
    with sqlite3.connect(f"file:{project.path}/mlflow.db?mode=ro", uri=True) as database:
        newest = "select run_uuid, status, artifact_uri from runs order by start_time desc limit 1"
        run_id, status, place = database.execute(newest).fetchone()
        tags = dict(database.execute("select key, value from tags where run_uuid = ?", [run_id]).fetchall())
    assert status == "FAILED"
    assert tags["failure"].startswith("Refused: ")
    assert tags["release.outcome"] == "refused"
    kept = mlflow.artifacts.download_artifacts(f"{place}/release/decision.md")
    assert Path(kept).read_text() == page

    # By force, with a reason.
    assert "say why, with --reason" in refused(kedro("release", "--env", "test", "--force"))
    output = succeeded(kedro("release", "--env", "test", "--force", "--reason", "the customer insists"))
    assert re.search(r"Released by force, by \S+ \(the customer insists\): version 3 of test", output)
    client = mlflow.MlflowClient(f"sqlite:///{project.path}/mlflow.db")
    version = client.get_model_version("test", "3")
    assert version.run_id == worse
    assert version.tags["reason"] == "the customer insists"
    assert version.tags["forced_by"]
    assert version.description.startswith("Released by force")

    # And back.
    output = succeeded(kedro("rollback", "--env", "test", "--reason", "nuclei are missed"))
    assert f"The champion of test is version 2 again (run {second})." in output
    assert aliases(project) == {"champion": 2, "previous": 3}
    assert "nuclei are missed" in client.get_model_version("test", "3").tags["rolled_back"]

    # An older run, by the beginning of its id; what lies in data/ is another.
    output = succeeded(kedro("release", "--env", "test", "--run", first[:10]))
    assert "Released: version 4 of test" in output
    assert decision(project)["run_id"] == first
    assert aliases(project) == {"champion": 4, "previous": 2}


def test_two_releases_at_once_leave_one_champion(project):
    """It follows the first test. Of two processes whoever comes second says so."""
    client = mlflow.MlflowClient(f"sqlite:///{project.path}/mlflow.db")
    before = aliases(project)["champion"]
    processes = [
        project.start("release", "--env", "test", "--force", "--reason", "a test", "--run", run)
        for run in (client.get_model_version("test", version).run_id for version in ("2", "3"))
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes) == [0, 1], outputs
    assert "Another release is at work in" in outputs[codes.index(1)]
    assert aliases(project) == {"champion": before + 1, "previous": before}
    assert client.get_model_version("test", str(before + 1)).run_id == decision(project)["run_id"]


def test_a_run_with_a_class_removed_is_refused(project):
    """It follows the others, which leave a champion of three classes."""
    before = aliases(project)
    file = project.path / "conf" / "test" / "parameters.yml"
    text = file.read_text()
    changed = text.replace("classes: [background, cytoplasm, nucleus]", "classes: [background, cytoplasm]")
    changed = changed.replace("encoding: index", "values: {0: background, 1: cytoplasm, 2: background}")
    assert changed.count("nucleus") == 0
    file.write_text(changed)
    try:
        succeeded(project.kedro("run", "--env", "test"))
        message = refused(project.kedro("release", "--env", "test"))
    finally:
        file.write_text(text)
    assert f"The run lacks nucleus, which the champion, version {before['champion']}, has." in message
    assert aliases(project) == before
