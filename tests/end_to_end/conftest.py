"""One run of the real command line on the `test` problem; most end-to-end tests look at what it left."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Project


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


@pytest.fixture(scope="session")
def finished(make_project: Callable[[str], Project]) -> Finished:
    """A copy of the project on which `kedro run --env test` was run twice; the first run's files lie in `first/`."""
    project = make_project("finished")
    first = succeeded(project.kedro("run", "--env", "test"))
    shutil.copytree(project.path / "data", project.path / "first")
    second = succeeded(project.kedro("run", "--env", "test"))
    return Finished(project, [first, second])
