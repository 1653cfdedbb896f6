"""The parts of a reproduction: what is asked for, what is linked, what a lock file pins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.experiments.reproduce.toy import git
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.experiments.reproduce.run_diff import diff_runs, pins
from unet_segmentation.experiments.reproduce.run_snapshot import RunSnapshot
from unet_segmentation.experiments.reproduce.sandbox_project import (
    configure,
    copy_plan,
    extract_commit,
    share_raw_data,
    temporary_project,
)
from unet_segmentation.parameters import TrainingParameters
from unet_segmentation.tracking.run_queries import RunRecord
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.resume import find_run_directory


def record(**changes):
    values = {"run_id": "a" * 32, "name": "unet", "problem": "cells", "status": "FINISHED", "started": 0.0,
              "parameters": {}, "metrics": {}, "tags": {}, "link": ""}  # fmt: skip
    return RunRecord(**{**values, **changes})


def recipe(commit="", parameters=None, plan=None, **changes):
    return RunSnapshot(
        record(**changes), parameters or {}, commit, None, None, plan or {"fingerprint": "0123456789abcdef"}
    )


def training_plan(accelerator, devices):
    hardware = {"accelerator": accelerator, "devices": devices, "num_nodes": 1, "precision": "32-true"}
    hashes = ("data", "split", "plan", "network", "initial_weights", "augmentation")
    return TrainingPlan(
        parameters=TrainingParameters(),
        versions={},
        inputs=dict.fromkeys(hashes, "0"),
        hardware=hardware | {"num_threads": 1, "num_workers": 0},
        batch_size=4,
        patch_size=32,
        cycles=(2,),
        steps_per_epoch=3,
        foreground={},
        class_weights=None,
        samples={"train": ("a",), "validation": ("b",)},
    )


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus", "handed_over"),
    [
        ("cpu", 1, [], True),
        ("cuda", 2, ["H100", "H100"], True),
        ("cuda", 2, ["H100"], False),
        ("cuda", 1, [], False),
    ],
)
def test_a_plan_is_handed_over_where_its_devices_are(tmp_path, monkeypatch, accelerator, devices, gpus, handed_over):
    monkeypatch.setattr("unet_segmentation.experiments.reproduce.sandbox_project.gpus", lambda: gpus)
    plan = training_plan(accelerator, devices)
    copy_plan(tmp_path, recipe(plan=plan.model_dump(mode="json")))
    result = find_run_directory(tmp_path / "data/06_models/cells", plan, delivered=False)
    assert (result.plan if result else None) == (plan if handed_over else None)


def test_a_lock_file_is_read_for_this_platform():
    lock = (
        "numpy==2.1.0 ; python_version >= '3.8' \\\n    --hash=sha256:ab\n"
        "pywin32==310 ; sys_platform == 'no such system'\n"
        "Typing_Extensions==4.0 \\\n    --hash=sha256:cd\n# a word\n"
    )
    assert pins(lock) == {"numpy": "2.1.0", "typing-extensions": "4.0"}


def test_raw_data_is_linked_so_that_the_own_stays(tmp_path):
    root, project = tmp_path / "root", tmp_path / "root" / "data" / ".reproducing.1"
    archives = root / "data/01_raw/cells/archives"
    archives.mkdir(parents=True)
    for name in ("a.zip", ".b.zip.part", ".b.zip.part.json"):
        (archives / name).write_text(name)
    (root / "data/01_raw/cells/files/x").mkdir(parents=True)
    (root / "data/01_raw/cells/files/.extracted.json").write_text("{}")
    (root / "data/01_raw/cells/files/x/1.png").write_text("png")
    share_raw_data(root, project, "cells")
    shared = {
        path.relative_to(project / "data/01_raw/cells").as_posix() for path in project.rglob("*") if path.is_file()
    }
    assert shared == {"archives/a.zip", "files/.extracted.json", "files/x/1.png"}
    assert os.path.samefile(archives / "a.zip", project / "data/01_raw/cells/archives/a.zip")
    (project / "data/01_raw/cells/archives/a.zip").unlink()  # as the project does with a damaged one
    assert (archives / "a.zip").read_text() == "a.zip"


def test_paths_from_the_root_are_whole_and_other_parameters_gone(tmp_path):
    import yaml

    root, project = tmp_path / "root", tmp_path / "project"
    (root / "own").mkdir(parents=True)
    (project / "conf/cells").mkdir(parents=True)
    (project / "conf/cells/parameters_more.yml").write_text("split: {seed: 3}\n")
    parameters = {"classes": ["a"], "source": {"folder": "own", "archive": "/abs;elsewhere", "split_table": None}}
    configure(project, root, recipe(parameters=parameters))
    assert [path.name for path in (project / "conf/cells").iterdir()] == ["parameters.yml"]
    source = yaml.safe_load((project / "conf/cells/parameters.yml").read_text())["source"]
    assert source == {"folder": str(root / "own"), "archive": "/abs;elsewhere", "split_table": None}
    assert yaml.safe_load((project / "conf/local/mlflow.yml").read_text())["uri"] is None


@pytest.fixture
def repository(tmp_path):
    project = tmp_path / "repository" / "sub"
    project.mkdir(parents=True)
    git(project.parent, "init", "--quiet")
    (project.parent / ".gitignore").write_text("data\n")
    (project / "a.txt").write_text("1\n")
    git(project, "add", "..")
    git(project, "commit", "--quiet", "-m", "one")
    return project


def test_an_old_commit_is_laid_out_beside_the_new_one(repository):
    old = git(repository, "rev-parse", "HEAD").strip()
    (repository / "a.txt").write_text("changed\n")
    difference = git(repository, "diff", "HEAD").encode()
    git(repository, "commit", "--quiet", "-am", "two")
    target = repository / "data" / "x"  # within the repository, and ignored by it
    target.mkdir(parents=True)
    result = extract_commit(repository, old, b"# not in the repository: b\n" + difference, target)
    assert result == target / "sub"
    assert (result / "a.txt").read_text() == "changed\n"
    git(repository, "status")
    with pytest.raises(ConfigurationError, match="does not fit its commit"):
        extract_commit(repository, git(repository, "rev-parse", "HEAD").strip(), difference, target)
    with pytest.raises(ConfigurationError, match="is not in the repository"):
        extract_commit(repository, "0" * 40, None, target)
    with pytest.raises(ConfigurationError, match="no git repository any more"):
        extract_commit(repository.parents[1], old, None, target)


def test_what_a_killed_one_left_is_removed_by_the_next(repository):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = repository / "data" / f".reproducing.{gone.pid}"
    left.mkdir(parents=True)
    alive = repository / "data" / f".reproducing.{os.getppid()}"
    alive.mkdir()
    commit = git(repository, "rev-parse", "HEAD").strip()
    with temporary_project(repository, recipe(commit)) as project:
        assert (project / "a.txt").is_file()
        assert (project / "conf/cells/parameters.yml").is_file()
    assert [path.name for path in (repository / "data").iterdir()] == [alive.name]


def test_scores_that_only_one_has_are_a_difference():
    first = recipe(metrics={"test/a": 0.5, "test/b": 1 / 3, "train/loss": 1.0}, tags={"weights.sha256": "w"})
    again = record(metrics={"test/a": 0.5, "test/c": 0.1, "train/loss": 2.0}, tags={"weights.sha256": "w"})
    verdict = diff_runs(first, again, {})
    words = dict(verdict.lines)
    assert not verdict.same
    assert words["Scores"].startswith("Not the same: 2 of 2 test scores differ: ")
    assert "test/b 0.3333333333 -> none" in words["Scores"]
    assert "test/c none -> 0.1" in words["Scores"]
    assert words["Weights"] == "The same (sha256 w)."
    assert words["Data"] == "Unknown: the run logged no data.sha256."
    assert diff_runs(recipe(metrics={"test/a": 0.5}), record(metrics={"test/a": 0.5}), {}).same is False, (
        "weights unknown"
    )
    assert diff_runs(first, first.run, {}).same
