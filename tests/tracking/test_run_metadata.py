"""What is known of a run besides its results: enough to make it again."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from unet_segmentation.config_loader import NOT_PROBLEMS, ProblemConfigLoader, problems
from unet_segmentation.models.model_file import weights_sha256
from unet_segmentation.parameters import serialization, validate_parameters
from unet_segmentation.tracking import run_metadata
from unet_segmentation.tracking.journal import Journal, RunHeader
from unet_segmentation.tracking.run import JournalRun, log_metadata
from unet_segmentation.utils import machine

ROOT = Path(__file__).parents[2]


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit of a project that lies in a subfolder, and changes of all kinds."""
    project = tmp_path / "repository" / "project"
    (project / "src").mkdir(parents=True)
    git(project.parent, "init", "--quiet")
    for name, content in {
        "src/a.py": b"one\ntwo\n \n",
        "src/latin.py": "# café\n".encode("latin-1"),
        "src/gone.py": b"x\n",
        "binary.bin": bytes(range(256)),
    }.items():
        (project / name).write_bytes(content)
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "all")
    return project


def change(project):
    (project / "src/a.py").write_bytes(b"ONE\ntwo\n \n")
    (project / "src/latin.py").write_bytes("# Café\n".encode("latin-1"))
    (project / "src/gone.py").unlink()
    (project / "src/näw.py").write_bytes(b"new\r\n")
    (project / "binary.bin").write_bytes(bytes(range(255, -1, -1)))
    (project / "notes.txt").write_text("of mine\n")


def test_the_difference_makes_the_changes_again(repository, tmp_path):
    assert run_metadata.git_diff(repository) is None
    change(repository)
    staged = git(repository, "status", "--porcelain")
    difference = run_metadata.git_diff(repository)
    assert git(repository, "status", "--porcelain") == staged, "looking changed git's index"
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(repository.parent), str(clone))
    subprocess.run(["git", "apply", "-"], cwd=clone, input=difference, check=True, capture_output=True)
    for name in ("src/a.py", "src/latin.py", "src/näw.py", "binary.bin"):
        assert (clone / "project" / name).read_bytes() == (repository / name).read_bytes(), name
    assert not (clone / "project/src/gone.py").exists()
    assert not (clone / "project/notes.txt").exists(), "files that are no code are the user's own"
    assert b"# not in the repository: notes.txt\n" in difference


def test_a_difference_that_is_too_large_is_not_cut_in_the_middle(repository, monkeypatch):
    monkeypatch.setattr(run_metadata, "MAXIMUM_DIFF", 50)
    change(repository)
    difference = run_metadata.git_diff(repository)
    assert run_metadata.TOO_LARGE.encode() in difference
    assert b"diff --git" not in difference


def test_weights_are_hashed_without_the_words_that_travel_with_them(tmp_path):
    weights = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.float16)}
    save_file(weights, tmp_path / "one", metadata={"information": "epoch 1"})
    save_file(weights, tmp_path / "two", metadata={"information": "epoch 2, of another day"})
    same, twin = (weights_sha256(tmp_path / name) for name in ("one", "two"))
    assert same == twin
    save_file({**weights, "a": np.zeros(2, np.float16)}, tmp_path / "values")
    save_file({**weights, "b": weights["b"].reshape(3, 2)}, tmp_path / "shape")
    assert len({weights_sha256(tmp_path / name) for name in ("one", "values", "shape")}) == 3
    data = (tmp_path / "one").read_bytes()  # the same by hand, from the format's definition
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    assert hashlib.sha256(json.dumps(header, sort_keys=True).encode() + data[8 + length :]).hexdigest() == same


@pytest.mark.parametrize("problem", [name for name in problems(ROOT / "conf") if name not in NOT_PROBLEMS])
def test_the_parameters_of_every_problem_survive_their_file(problem):
    options = {"base_env": "base", "merge_strategy": {"parameters": "soft"}, "default_run_env": "cells"}
    given = ProblemConfigLoader(str(ROOT / "conf"), problem, **options)["parameters"]
    first = serialization.dump_parameters_yaml(serialization.to_builtin(validate_parameters(given)))
    again = {**yaml.safe_load(first), "problem": problem}
    assert serialization.dump_parameters_yaml(serialization.to_builtin(validate_parameters(again))) == first


def test_code_lock_file_and_versions_are_noted(repository):
    (repository / "requirements.lock").write_text("numpy==2.0.0\n")
    change(repository)
    journal = Journal.create(repository, RunHeader(uri="", experiment="e", run_name="r", started=0.0))
    log_metadata(JournalRun(journal, None, None), repository)
    first, *others = (operation for operation, _ in journal.pending())
    tags = first.arguments["values"]
    assert tags["git.commit"] == git(repository, "rev-parse", "HEAD").decode().strip()
    assert {"git.dirty", "machine.system", "version.torch", "version.python"} <= tags.keys()
    files = {operation.file.rpartition("/")[2]: journal.folder / operation.file for operation in others}
    assert files["requirements.lock"].read_text() == "numpy==2.0.0\n"
    assert b"+ONE\n" in files["uncommitted.diff"].read_bytes()
    assert {operation.arguments["folder"] for operation in others} == {"code"}


def test_the_machine_has_a_name():
    assert {"machine.system", "machine.processor"} <= set(machine.machine())


def test_a_run_is_named_after_its_network_or_after_what_it_does():
    network = {"model": {"architecture": "unet", "encoder": "resnet34"}}
    assert run_metadata.run_name(network, 0.0, "__default__").startswith("unet resnet34 · ")
    assert run_metadata.run_name(network, 0.0, "sweep").startswith("sweep · ")
    assert run_metadata.run_name(network, 0.0, "article_claims, data_ingestion, training").startswith(
        "article_claims · "
    )
