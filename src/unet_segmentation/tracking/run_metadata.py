"""Metadata of a run: its name, its user, and the state of its code."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_segmentation.models.architectures import ARCHITECTURES
from unet_segmentation.utils.machine import versions

# Pipelines that train no one network.
NAMED_ALONE = ("release", "leaderboard", "sweep", "search", "article_claims", "data_ingestion", "data_preparation")
MAXIMUM_DIFF = 5_000_000  # bytes
TOO_LARGE = "what is changed is too large to be kept"
DIFF = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def run_name(parameters: Mapping[str, Any], now: float, pipelines: str = "") -> str:
    """Return a short name: `unet resnet18 · 11-22 10:45`, or `release · 11-22 10:50` where there is no one network."""
    when = time.strftime("%m-%d %H:%M", time.localtime(now))
    # The claims come with the pipelines that they start from, in one run.
    alone = "article_claims" if "article_claims" in pipelines.split(", ") else pipelines
    if alone in NAMED_ALONE:
        return f"{alone} · {when}"
    network = parameters.get("model") or {}
    architecture = network.get("architecture", "unet")
    if architecture in ARCHITECTURES.module_names():
        detail = ARCHITECTURES[architecture].describe_settings(network)
    else:
        detail = network.get("encoder", "resnet18")
    return f"{architecture.replace('_', ' ')} {detail}".strip() + f" · {when}"


def user() -> str:
    """Return the name of the user, if there is one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def git_tags(root: Path) -> dict[str, str]:
    """Return commit, branch and whether anything is uncommitted; nothing where there is no repository."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = str(bool(_git(root, "status", "--porcelain"))).lower()
    branch = _git(root, "rev-parse", "--abbrev-ref", "HEAD") or ""
    return {"git.commit": commit, "git.branch": branch, "git.dirty": dirty, "mlflow.source.git.commit": commit}


def code_version(root: Path) -> dict[str, str]:
    """Return commit, library versions and hash of the lock file; no commit where it is no checkout."""
    tags, lock = git_tags(root), root / "requirements.lock"
    libraries = {name.removeprefix("version."): version for name, version in versions().items()}
    code = {"versions": ", ".join(f"{name} {version}" for name, version in libraries.items())}
    if "git.commit" in tags:
        code["commit"] = tags["git.commit"]
        code["changed"] = ", with uncommitted changes" if tags["git.dirty"] == "true" else ""
    if lock.is_file():
        code["lock_sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return code


def git_diff(root: Path) -> bytes | None:
    """Return what is changed and not committed, so that `git apply` can make it again; None where there is nothing.

    New files below `src` are in it whole, others by name. Of a difference that is too large only the names are given.
    """
    new = (_git(root, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    difference = _git_bytes(root, *DIFF, "HEAD")
    if any(name.startswith("src/") for name in new):
        difference = _with_new_code(root) or difference
    if not difference and not new:
        return None
    names = "".join(f"# not in the repository: {name}\n" for name in new).encode()
    if len(difference or b"") > MAXIMUM_DIFF:
        return names + f"# {TOO_LARGE}\n".encode()
    return names + (difference or b"")


def _with_new_code(root: Path) -> bytes | None:
    """Return the difference to the last commit with new files below `src` in it; git's index stays as it is."""
    index = _git(root, "rev-parse", "--path-format=absolute", "--git-path", "index")
    if index is None or not Path(index).is_file():
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(index, Path(folder) / "index")
        _git(root, "add", "--intent-to-add", "src", index=copy)
        return _git_bytes(root, *DIFF, "HEAD", index=copy)


def _git(root: Path, *arguments: str, index: Path | None = None) -> str | None:
    output = _git_bytes(root, *arguments, index=index)
    return None if output is None else output.decode(errors="replace").strip()


def _git_bytes(root: Path, *arguments: str, index: Path | None = None) -> bytes | None:
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
