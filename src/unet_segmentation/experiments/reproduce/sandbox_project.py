"""A project of its own for a run that is made again: its code, its parameters, its data, and nothing of its results."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from unet_segmentation.errors import ProjectError
from unet_segmentation.experiments.reproduce.code_checkout import check_out
from unet_segmentation.experiments.reproduce.run_snapshot import RunSnapshot
from unet_segmentation.tracking.run_metadata import gpus
from unet_segmentation.utils.atomic_io import link_or_copy, remove

FOLDER = ".reproducing."  # and the number of the process, below data/
PATHS = ("source.archive", "source.folder", "source.ca_bundle", "source.split_table.file", "model.encoder_weights")
STEERING = {"MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "UNET_TRACKING_SPOOL", "KEDRO_ENV", "KEDRO_LOGGING_CONFIG"}
HALF_MADE = (".part", ".part.json", ".lock")
LAST_WORDS = "Done in "  # of a run; what follows points into a folder that is about to go
PATIENCE = 30.0  # seconds for a run that was told to stop


@contextmanager
def temporary_project(root: Path, recipe: RunSnapshot) -> Iterator[Path]:
    """Build the project below `data/`, where raw data can be linked, and remove it whatever happens.

    Args:
        root: of this project.
        recipe: of the run.

    Yields:
        The root of the temporary project.

    Raises:
        ConfigurationError: its code cannot be had.
    """
    folder = root / "data" / f"{FOLDER}{os.getpid()}"
    for left in folder.parent.glob(f"{FOLDER}*"):  # of a process that was killed outright
        if not psutil.pid_exists(int(left.name.removeprefix(FOLDER) or 0)):
            remove(left)
    remove(folder)
    try:
        folder.mkdir(parents=True)
        project = check_out(root, recipe.commit, recipe.difference, folder)
        configure(project, root, recipe)
        share_raw_data(root, project, recipe.run.problem)
        copy_plan(project, recipe)
        yield project
    finally:
        until = time.monotonic() + PATIENCE
        while folder.exists() and time.monotonic() < until:  # a process that was killed may still be writing
            remove(folder)


def configure(project: Path, root: Path, recipe: RunSnapshot) -> None:
    """Write the run's parameters, and a tracking store of its own, into a project."""
    problem = project / "conf" / recipe.run.problem
    for file in problem.rglob("parameters*") if problem.is_dir() else ():
        remove(file)
    _write(problem / "parameters.yml", _with_whole_paths(copy.deepcopy(recipe.parameters), root))
    _write(project / "conf" / "local" / "mlflow.yml", {"enabled": True, "uri": None, "system_metrics": False})


def share_raw_data(root: Path, project: Path, problem: str) -> None:
    """Link what was downloaded and unpacked already, as second names, so that the project's own stay as they are."""
    for name in ("archives", "files"):
        source = root / "data" / "01_raw" / problem / name
        for file in sorted(source.rglob("*")) if source.is_dir() else ():
            if file.is_file() and not file.name.endswith(HALF_MADE) and ".partial" not in file.name:
                target = project / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(file, target)


def copy_plan(project: Path, recipe: RunSnapshot) -> None:
    """Lay the run's plan where an unfinished training has it, so that nothing is measured or resolved a second time.

    The project takes it up where all that training starts from is the same, and says what is not where it is not. A
    plan for GPUs that are not here is left out.
    """
    if _fits_here(recipe.plan):
        work = project / "data" / "06_models" / recipe.run.problem / recipe.plan["fingerprint"]
        work.mkdir(parents=True)
        (work / "plan.json").write_text(json.dumps(recipe.plan, indent=2), encoding="utf-8")


def _fits_here(plan: Mapping[str, Any]) -> bool:
    hardware = plan.get("hardware", {})
    accelerator = hardware.get("accelerator", "cpu")
    if accelerator == "cuda":
        return len(gpus()) >= hardware.get("devices", 1)
    return accelerator == "cpu" or sys.platform == "darwin"


def run_kedro(project: Path, problem: str, say: Callable[[str], None]) -> None:
    """Call `kedro run` with the code of a project, and stop it if this process is told to stop.

    Args:
        project: its root.
        problem: the segmentation problem.
        say: is given every line that the run prints.

    Raises:
        ProjectError: the run failed.
    """
    paths = [str(project / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if name not in STEERING}
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", "--env", problem],
        cwd=project,
        env=kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C comes to us, and we pass it on
    )
    try:
        _pass_on(process, say)
        status = process.wait()
    except BaseException:
        _stop(process)
        raise
    if status:
        raise ProjectError(
            f"The run could not be made again: kedro run ended with exit status {status}, as said above."
        )


def _pass_on(process: subprocess.Popen[str], say: Callable[[str], None]) -> None:
    quiet = False
    for line in process.stdout or ():
        quiet = quiet or LAST_WORDS in line
        if line.strip() and not quiet:
            say(line.rstrip())


def _stop(process: subprocess.Popen[str]) -> None:
    """Let a run close what it has open; kill it if it takes too long, or if we are told once more."""
    try:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _with_whole_paths(parameters: dict[str, Any], root: Path) -> dict[str, Any]:
    """Make paths that were given from the project's root absolute: the root is another one now."""
    for key in PATHS:
        *groups, name = key.split(".")
        holder: Any = parameters
        for group in groups:
            holder = holder.get(group) if isinstance(holder, Mapping) else None
        if isinstance(holder, dict) and (value := holder.get(name)):
            holder[name] = [_whole(part, root) for part in value] if isinstance(value, list) else _whole(value, root)
    return parameters


def _whole(path: str, root: Path) -> str:
    parts = [part.strip() for part in path.split(";")]
    return ";".join(str(root / part) if part and (root / part).exists() else part for part in parts)


def _write(file: Path, values: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True), encoding="utf-8")
