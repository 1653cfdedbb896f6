"""What is known of a run besides its results: parameters, code, versions, command."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "unet-segmentation",
    "torch",
    "lightning",
    "segmentation-models-pytorch",
    "albumentations",
    "numpy",
    "kedro",
    "mlflow",
)
MAXIMUM_DIFF = 5_000_000  # bytes


def plain(values: Any) -> Any:  # noqa: ANN401 - a tree of anything
    """Turn pydantic models, wherever they stand in a tree of parameters, into dictionaries."""
    if hasattr(values, "model_dump"):
        return values.model_dump(mode="json")
    if isinstance(values, Mapping):
        return {str(key): plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    return values


def flatten(values: Any, prefix: str = "") -> dict[str, str]:  # noqa: ANN401 - a tree of anything
    """Flatten nested parameters to dotted keys; lists become compact JSON.

    >>> flatten({"a": {"b": 1, "c": [1, 2]}, "d": None})
    {'a.b': '1', 'a.c': '[1,2]', 'd': 'null'}
    """
    if isinstance(values, Mapping) and values:
        parts = [flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items()]
        return {key: value for part in parts for key, value in part.items()}
    if isinstance(values, str):
        return {prefix: values}
    return {prefix: json.dumps(values, separators=(",", ":"), default=str, ensure_ascii=False)}


def run_name(parameters: Mapping[str, Any], now: float) -> str:
    """Make a short name: `unet resnet18 · 11-22 10:45`."""
    network = parameters.get("network") or {}
    architecture = network.get("architecture", "unet")
    detail = f"width {network.get('width', 64)}" if architecture == "paper_unet" else network.get("encoder", "resnet18")
    return f"{architecture.replace('_', ' ')} {detail} · {time.strftime('%m-%d %H:%M', time.localtime(now))}"


def versions() -> dict[str, str]:
    """Give the versions of Python and of the libraries that matter, as tags."""
    tags = {"version.python": platform.python_version()}
    for library in LIBRARIES:
        try:
            tags[f"version.{library}"] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return tags


def user() -> str:
    """Give the name of the user, if there is one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def git_tags(root: Path) -> dict[str, str]:
    """Give commit, branch and whether anything is uncommitted; nothing where there is no repository."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changed = _git(root, "status", "--porcelain") or ""
    branch = _git(root, "rev-parse", "--abbrev-ref", "HEAD") or ""
    tags = {"git.commit": commit, "git.branch": branch, "git.dirty": str(bool(changed)).lower()}
    tags["mlflow.source.git.commit"] = commit
    return tags


def git_diff(root: Path) -> str | None:
    """Give what is changed and not committed, with the names of new files; None where there is nothing."""
    difference = _git(root, "diff", "HEAD")
    new = _git(root, "ls-files", "--others", "--exclude-standard")
    if not difference and not new:
        return None
    names = "".join(f"# not in the repository: {name}\n" for name in (new or "").splitlines())
    return (names + (difference or "") + "\n")[:MAXIMUM_DIFF]


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            timeout=20,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
