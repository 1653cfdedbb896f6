"""A temporary project for a run that is reproduced: its code, its parameters, its data, and none of its results."""

from __future__ import annotations

import copy
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from unet_segmentation.errors import ConfigurationError, ProjectError
from unet_segmentation.experiments.reproduce.run_snapshot import RunSnapshot
from unet_segmentation.utils.atomic_io import link_or_copy, remove
from unet_segmentation.utils.machine import gpus

PREFIX = ".reproducing."  # and the number of the process, below data/
PATHS = ("source.archive", "source.folder", "source.ca_bundle", "source.split_table.file", "model.encoder_weights")
CONTROL_VARIABLES = {"MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "UNET_TRACKING_SPOOL", "KEDRO_ENV", "KEDRO_LOGGING_CONFIG"}
PARTIAL_SUFFIXES = (".part", ".part.json", ".lock")
SUMMARY = "Done in "  # starts a run's summary, which points into a folder that is about to be removed
STOP_TIMEOUT = 30.0  # seconds for a run to end after SIGTERM


@contextmanager
def temporary_project(root: Path, snapshot: RunSnapshot) -> Iterator[Path]:
    """Create the project below `data/`, where raw data can be linked, and remove it whatever happens.

    Yields:
        The root of the temporary project.

    Raises:
        ConfigurationError: its code is not available.
    """
    folder = root / "data" / f"{PREFIX}{os.getpid()}"
    for leftover in folder.parent.glob(f"{PREFIX}*"):  # of a process that was killed
        if not psutil.pid_exists(int(leftover.name.removeprefix(PREFIX) or 0)):
            remove(leftover)
    remove(folder)
    try:
        folder.mkdir(parents=True)
        project = extract_commit(root, snapshot.commit, snapshot.difference, folder)
        configure(project, root, snapshot)
        share_raw_data(root, project, snapshot.run.problem)
        copy_plan(project, snapshot)
        yield project
    finally:
        until = time.monotonic() + STOP_TIMEOUT
        while folder.exists() and time.monotonic() < until:  # a process that was killed may still be writing
            remove(folder)


def extract_commit(root: Path, commit: str, difference: bytes | None, target: Path) -> Path:
    """Extract the code of a commit into an empty folder, and apply `difference`; return the project's root in it.

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


def configure(project: Path, root: Path, snapshot: RunSnapshot) -> None:
    """Write the run's parameters, and an MLflow store of its own, into a project."""
    problem = project / "conf" / snapshot.run.problem
    for file in problem.rglob("parameters*") if problem.is_dir() else ():
        remove(file)
    _write(problem / "parameters.yml", _with_absolute_paths(copy.deepcopy(snapshot.parameters), root))
    _write(project / "conf" / "local" / "mlflow.yml", {"enabled": True, "uri": None, "system_metrics": False})


def share_raw_data(root: Path, project: Path, problem: str) -> None:
    """Link the downloaded and unpacked files, so that those of the project itself stay as they are."""
    for name in ("archives", "files"):
        source = root / "data" / "01_raw" / problem / name
        for file in sorted(source.rglob("*")) if source.is_dir() else ():
            if file.is_file() and not file.name.endswith(PARTIAL_SUFFIXES) and ".partial" not in file.name:
                target = project / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(file, target)


def copy_plan(project: Path, snapshot: RunSnapshot) -> None:
    """Copy the run's plan to where an unfinished training run has it, so that nothing is measured or resolved again.

    The project resumes from it if all training inputs are the same, else it logs what differs. A plan for GPUs that
    this machine lacks is not copied.
    """
    if _fits_machine(snapshot.plan):
        directory = project / "data" / "06_models" / snapshot.run.problem / str(snapshot.plan["fingerprint"])
        directory.mkdir(parents=True)
        (directory / "plan.json").write_text(json.dumps(snapshot.plan, indent=2), encoding="utf-8")


def _fits_machine(plan: Mapping[str, Any]) -> bool:
    hardware = plan.get("hardware", {})
    accelerator = hardware.get("accelerator", "cpu")
    if accelerator == "cuda":
        return len(gpus()) >= hardware.get("devices", 1)
    return accelerator == "cpu" or sys.platform == "darwin"


def run_kedro(project: Path, problem: str, echo: Callable[[str], None]) -> None:
    """Call `kedro run` with the code of a project, and stop it if this process is interrupted.

    Raises:
        ProjectError: the run failed.
    """
    paths = [str(project / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {name: value for name, value in os.environ.items() if name not in CONTROL_VARIABLES}
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", "--env", problem],
        cwd=project,
        env=inherited | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches this process alone, which stops the run
    )
    try:
        _forward_output(process, echo)
        status = process.wait()
    except BaseException:
        _stop(process)
        raise
    if status:
        raise ProjectError(f"The run could not be reproduced: kedro run ended with exit status {status}; see above.")


def _forward_output(process: subprocess.Popen[str], echo: Callable[[str], None]) -> None:
    quiet = False
    for line in process.stdout or ():
        quiet = quiet or SUMMARY in line
        if line.strip() and not quiet:
            echo(line.rstrip())


def _stop(process: subprocess.Popen[str]) -> None:
    """Terminate a run in order; kill it if that takes too long, or on a second interrupt."""
    try:
        process.terminate()
        process.communicate(timeout=STOP_TIMEOUT)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _with_absolute_paths(parameters: dict[str, Any], root: Path) -> dict[str, Any]:
    """Make paths relative to the project's root absolute: the temporary project has another root."""
    for key in PATHS:
        *groups, name = key.split(".")
        section: Any = parameters
        for group in groups:
            section = section.get(group) if isinstance(section, Mapping) else None
        if isinstance(section, dict) and (value := section.get(name)):
            paths = [_absolute(path, root) for path in value] if isinstance(value, list) else _absolute(value, root)
            section[name] = paths
    return parameters


def _absolute(path: str, root: Path) -> str:
    parts = [part.strip() for part in path.split(";")]
    return ";".join(str(root / part) if part and (root / part).exists() else part for part in parts)


def _write(file: Path, values: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True), encoding="utf-8")
