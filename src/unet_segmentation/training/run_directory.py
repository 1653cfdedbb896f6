"""The working folder of a training: what it leaves there, and how an unfinished one is found again."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from unet_segmentation.errors import ProjectError
from unet_segmentation.utils.atomic_io import atomic_write, remove

KEPT_FOLDERS = 3


class RunDirectory:
    """``folder/<fingerprint>/`` of a plan.

    Holds ``plan.json``, ``last.ckpt`` (everything needed to go on), ``best.safetensors`` (the model of the best epoch)
    and ``history.csv``; each is whole or absent. The empty file ``delivered`` says that what followed the training came
    to its end too: such a training is not taken up again.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder / fingerprint
        self.plan_path, self.best, self.last, self.history, self.delivered = (
            self.folder / name for name in ("plan.json", "best.safetensors", "last.ckpt", "history.csv", "delivered")
        )

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as it was when the training began."""
        return json.loads(self.plan_path.read_text(encoding="utf-8"))

    def begin(self, plan: dict[str, Any]) -> None:
        """Empty the folder, and note the plan."""
        remove(self.folder)
        with atomic_write(self.plan_path) as temporary:
            temporary.write_text(json.dumps(plan, indent=2), encoding="utf-8")

    def copy_from(self, other: RunDirectory, plan: dict[str, Any]) -> None:
        """Begin from where another training ended."""
        remove(self.folder)
        with atomic_write(self.folder) as temporary:
            shutil.copytree(other.folder, temporary)
            remove(temporary / self.delivered.name)
            (temporary / self.plan_path.name).write_text(json.dumps(plan, indent=2), encoding="utf-8")

    def checkpoint(self) -> dict[str, Any] | None:
        """Read the last checkpoint, executing no code from it; None where there is none yet.

        Raises:
            ProjectError: it is damaged.
        """
        if not self.last.is_file():
            return None
        try:
            return torch.load(self.last, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ProjectError(
                f"{self.last} is damaged, so that the training cannot go on from it ({error}). Start it anew with: "
                "kedro run --params training.resume=false"
            ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the training, so that no other process works at it.

        Raises:
            ProjectError: another one does.
        """
        lock = FileLock(self.folder.with_suffix(".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ProjectError(
                f"This very training is under way already, in another process (it holds {lock.lock_file}). Wait for "
                "it, or stop it: the next kedro run goes on from its last checkpoint."
            ) from None
        try:
            yield
        finally:
            lock.release()


def list_run_directories(folder: Path) -> list[RunDirectory]:
    """List the trainings under a folder, the newest first."""
    if not folder.is_dir():
        return []
    found = [RunDirectory(folder, path.name) for path in folder.iterdir() if re.fullmatch(r"[0-9a-f]{16}", path.name)]
    return sorted((work for work in found if work.plan_path.is_file()), key=_changed, reverse=True)


def find_run_directory(folder: Path, request: str, *, delivered: bool) -> RunDirectory | None:
    """Find the newest training of a request, delivered or not."""
    return next(
        (
            work
            for work in list_run_directories(folder)
            if work.plan.get("request") == request and work.delivered.is_file() == delivered
        ),
        None,
    )


def explain_mismatch(folder: Path, request: dict[str, Any]) -> tuple[str, list[str]] | None:
    """Say why the newest unfinished training is not taken up.

    Args:
        folder: where working folders lie.
        request: what is asked for now: ``request``, ``parameters``, ``versions``, ``inputs``.

    Returns:
        When it last got on (hours and minutes), and what differs; None where there is none, or nothing differs.
    """
    unfinished = [work for work in list_run_directories(folder)[:1] if not work.delivered.is_file()]
    if not unfinished or unfinished[0].plan.get("request") == request["request"]:
        return None
    before = unfinished[0].plan
    differences = [
        f"training.{name}" for name, value in request["parameters"].items() if before["parameters"].get(name) != value
    ]
    differences += [
        name
        for kind in ("versions", "inputs")
        for name, value in request[kind].items()
        if before[kind].get(name) != value
    ]
    return time.strftime("%H:%M", time.localtime(_changed(unfinished[0]))), differences


def prune_run_directories(folder: Path, count: int = KEPT_FOLDERS) -> None:
    """Remove all trainings but the newest."""
    for work in list_run_directories(folder)[count:]:
        remove(work.folder)
        work.folder.with_suffix(".lock").unlink(missing_ok=True)


def _changed(work: RunDirectory) -> float:
    return (work.last if work.last.is_file() else work.plan_path).stat().st_mtime


def mark_delivered(folder: Path) -> None:
    """Mark the training whose plan lies in a folder as delivered: all that follows from it was made."""
    try:
        fingerprint = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError):
        return
    work = RunDirectory(folder, fingerprint)
    if work.folder.is_dir():
        work.delivered.touch()
