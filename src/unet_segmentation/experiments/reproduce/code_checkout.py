"""Check out the code of a run into a folder of its own. The repository is only read."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

from unet_segmentation.errors import ConfigurationError


def extract_commit(root: Path, commit: str, difference: bytes | None, target: Path) -> Path:
    """Extract the code of a commit into a folder, and apply the changes that were not committed.

    Args:
        root: a folder of the repository: the project's root.
        commit: its full hash.
        difference: for `git apply`; leading comment lines are ignored.
        target: an empty folder.

    Returns:
        The project's root within the folder.

    Raises:
        ConfigurationError: there is no repository, no such commit in it, or the changes do not fit it.
    """
    top = _git(root, "rev-parse", "--show-toplevel", problem=f"{root} is no git repository any more")
    prefix = _git(root, "rev-parse", "--show-prefix", problem=f"{root} is no git repository any more")
    archive = _git(
        Path(top.decode().strip()),
        *("archive", "--format=tar", commit),
        problem=f"The commit {commit} is not in the repository {root}. Fetch it (git fetch --all), then try again",
    )
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(target, filter="tar")
    if difference is not None and b"\ndiff --git " in b"\n" + difference:
        _apply(difference, target)
    return target / prefix.decode().strip()


def _apply(difference: bytes, target: Path) -> None:
    """Apply a difference in a folder that belongs to no repository (git would leave out what another one ignores)."""
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(target.resolve().parent)}
    command = ["git", "apply", "--whitespace=nowarn", "-"]
    result = subprocess.run(command, cwd=target, input=difference, capture_output=True, check=False, env=environment)
    if result.returncode:
        reason = result.stderr.decode(errors="replace").strip()
        raise ConfigurationError(f"What was not committed when the run began does not fit its commit: {reason}")


def _git(folder: Path, *arguments: str, problem: str) -> bytes:
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except OSError as error:
        raise ConfigurationError(f"git cannot be called: {error}") from error
    if result.returncode:
        raise ConfigurationError(f"{problem} ({result.stderr.decode(errors='replace').strip()}).")
    return result.stdout
