"""One run of the real command line on the `test` problem; most end-to-end tests look at what it left."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import PATIENCE, Project


class Finished:
    """A project after runs, with what they printed."""

    def __init__(self, project: Project, outputs: list[str]) -> None:
        self.project = project
        self.path = project.path
        self.outputs = outputs

    def data(self, path: str) -> Path:
        """A file of the `test` problem, as in ``data("08_reporting/metrics.json")``."""
        layer, _, rest = path.partition("/")
        return self.path / "data" / layer / "test" / rest


def succeeded(answer: subprocess.CompletedProcess[str]) -> str:
    """What a command printed, which must have succeeded."""
    assert answer.returncode == 0, answer.stdout[-4000:]
    return answer.stdout


def kill_at(project: Project, words: str, *arguments: str) -> None:
    """Kill a kedro command without warning as soon as it has printed certain words."""
    process = project.start(*arguments)
    assert process.stdout is not None
    messages = []
    for line in process.stdout:
        messages.append(line)
        if words in line:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL, "".join(messages)


def run_notebook(project: Project, name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a notebook of a project on its `test` problem; give what its cells displayed, as text."""
    for key, value in project.environment(UNET_ENV="test").items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(project.path / "notebooks" / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "notebooks are committed without outputs"
    NotebookClient(
        notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": project.path / "notebooks"}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    return [output["data"]["text/plain"] for output in outputs if "text/plain" in output.get("data", {})]


@pytest.fixture(scope="session")
def finished(make_project: Callable[[str], Project]) -> Finished:
    """A copy of the project on which `kedro run --env test` was run twice; the first run's files lie in `first/`."""
    project = make_project("finished")
    first = succeeded(project.kedro("run", "--env", "test", fresh=True))
    shutil.copytree(project.path / "data", project.path / "first")
    second = succeeded(project.kedro("run", "--env", "test"))
    return Finished(project, [first, second])
