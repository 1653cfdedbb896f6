"""`kedro problem` as a user meets it, through the real command line."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import BIN, PATIENCE, Project
from tests.data.onboarding.fabrication import DataSet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(make_project) -> Project:
    return make_project("problems")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    data = DataSet(tmp_path_factory.mktemp("files"))
    for number in range(24):
        data.pair(f"images/{number:02d}.png", f"masks/{number:02d}.png", values=(0, 128, 255))
    return data.root


def parameters(project: Project, name: str) -> dict:
    return yaml.safe_load((project.path / "conf" / name / "parameters.yml").read_text())


def test_from_a_folder_to_a_checked_problem(project, files):
    answer = project.kedro("problem", "new", "mine", "--images", str(files), "--classes", "around,cell,nucleus")
    assert answer.returncode == 0, answer.stdout
    assert parameters(project, "mine")["masks"]["values"] == {0: "around", 128: "cell", 255: "nucleus"}
    for words in ("24 images have one", "128 (", "kedro problem audit mine", "kedro run --env mine", "onboarding.png"):
        assert words in answer.stdout
    assert "\x1b[" not in answer.stdout
    assert (project.path / "data/08_reporting/mine/onboarding.png").is_file()

    checked = project.kedro("problem", "audit", "mine")
    assert checked.returncode == 0, checked.stdout
    page = project.path / "data/08_reporting/mine/audit.html"
    assert page.is_file()
    summary = checked.stdout.partition("Samples   24 inspected")[2]
    assert "nucleus" in summary
    assert "Verdict   passed" in summary
    assert str(page) in summary
    assert not (project.path / "mlflow.db").exists()
    assert not list((project.path / "data").glob("06_models/mine/*"))

    table = project.kedro("problem", "list").stdout
    row = next(line for line in table.splitlines() if line.startswith("mine "))
    assert row.split()[:4] == ["mine", "3", "24", "here"]


def test_data_with_errors_end_with_the_message_and_the_page(project, files):
    text = (project.path / "conf/mine/parameters.yml").read_text() if (project.path / "conf/mine").is_dir() else None
    if text is None:
        project.kedro("problem", "new", "mine", "--images", str(files), "--classes", "around,cell,nucleus")
        text = (project.path / "conf/mine/parameters.yml").read_text()
    broken = project.path / "conf/broken"
    broken.mkdir()
    (broken / "parameters.yml").write_text(text.replace("values: {0: around, 128: cell, 255: nucleus}", "offset: 0"))
    answer = project.kedro("problem", "audit", "broken")
    assert answer.returncode == 1
    assert "Traceback" not in answer.stdout
    assert answer.stdout.count("Error: ") == 1
    assert "values: {0: around, 128: cell, 255: nucleus}" in answer.stdout  # the way out
    assert "Verdict   failed" in answer.stdout
    assert (project.path / "data/08_reporting/broken/audit.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["new", "x", "--images", "/nowhere/at/all"], "There is no folder /nowhere/at/all"),
        (["new", "a b", "--images", "."], "cannot be the name of a problem"),
        (["new", "test", "--images", "."], "is reserved by the project"),
        (["new", "x", "--images", "FILES", "--classes", "a,,b"], "a name is empty"),
        (["new", "x", "--images", "FILES", "--ignore-values", "a"], "whole numbers"),
        (["new", "x", "--images", "FILES", "--masks", "FILES"], "the same folder"),
        (["new", "x", "--images", "FILES", "--classes", "a,b,c,d,e"], "5 names"),
        (["audit", "wbcc"], "Did you mean 'wbc'?"),
        (["audit", "wbc", "--params", "masks.encodin=index"], "did you mean 'encoding'?"),
    ],
)
def test_a_mistake_is_one_message(project, files, arguments, words):
    answer = project.kedro("problem", *[str(files) if part == "FILES" else part for part in arguments])
    assert answer.returncode == 1, answer.stdout
    assert words in " ".join(answer.stdout.split())
    assert "Traceback" not in answer.stdout
    assert not (project.path / "conf/x").exists()


def test_on_a_terminal_it_asks(project, files):
    """Answers are typed on a real terminal."""
    terminal, other_end = pty.openpty()
    command = [BIN / "kedro", "problem", "new", "typed", "--images", str(files)]
    process = subprocess.Popen(
        command, cwd=project.path, env=project.environment(), stdin=other_end, stdout=other_end, stderr=other_end
    )
    os.close(other_end)
    os.write(terminal, b"none\nplasma\nbody\nkernel\n1\n")
    shown = b""
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:  # the other end was closed
        pass
    os.close(terminal)
    assert process.wait(timeout=PATIENCE) == 0, shown.decode()
    assert parameters(project, "typed")["classes"] == ["plasma", "body", "kernel"]
    assert "What are the classes called?" in shown.decode()


def test_the_list_imports_nothing_heavy(project):
    code = (
        "import sys; from pathlib import Path; "
        "from unet_segmentation.data.onboarding.list_problems import list_problems;"
        "list_problems(Path('.'), Path('conf'));"
        "print(sorted({'torch', 'mlflow', 'pandas', 'cv2', 'scipy', 'PIL', 'kedro'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.path,
        env={**project.environment(), "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "[]"
