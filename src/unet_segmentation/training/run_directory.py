"""The run directory of a training."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from unet_segmentation.errors import ProjectError
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.utils.atomic_io import atomic_write, remove

KEPT_FOLDERS = 3


class RunDirectory:
    """``folder/<fingerprint of the plan>/``.

    Holds ``plan.json``, ``last.ckpt`` (everything needed to resume), ``best.safetensors`` (the model of the best epoch)
    and ``history.csv``; each is complete or missing. The empty file ``delivered`` marks that what followed the training
    ended, too: such a training is not resumed. Where several processes train together, the others are for them.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder / fingerprint
        self.plan_path, self.best, self.last, self.history, self.delivered = (
            self.folder / name for name in ("plan.json", "best.safetensors", "last.ckpt", "history.csv", "delivered")
        )
        self.job, self.saved_epochs, self.failure = (
            self.folder / name for name in ("job.json", "epochs.jsonl", "failure.json")
        )

    @cached_property
    def plan(self) -> TrainingPlan:
        """Load the plan as it was when the training began."""
        return TrainingPlan.model_validate_json(self.plan_path.read_bytes())

    def is_readable(self) -> bool:
        """Return whether the plan is one of this version."""
        try:
            return bool(self.plan)
        except ValidationError:
            return False

    def changed_at(self) -> float:
        """Return when the last checkpoint was written, or else the plan; in seconds since 1970."""
        return (self.last if self.last.is_file() else self.plan_path).stat().st_mtime

    def initialize(self, plan: TrainingPlan) -> None:
        """Empty the folder, and save the plan."""
        remove(self.folder)
        with atomic_write(self.plan_path) as temporary:
            temporary.write_text(plan.model_dump_json(indent=2), encoding="utf-8")

    def copy_from(self, other: RunDirectory, plan: TrainingPlan) -> None:
        """Copy another training, to continue where it ended."""
        remove(self.folder)
        with atomic_write(self.folder) as temporary:
            shutil.copytree(other.folder, temporary)
            remove(temporary / self.delivered.name)
            (temporary / self.plan_path.name).write_text(plan.model_dump_json(indent=2), encoding="utf-8")

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Load the last checkpoint, executing no code from it; None where there is none yet.

        Raises:
            ProjectError: it is damaged.
        """
        if not self.last.is_file():
            return None
        try:
            return torch.load(self.last, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ProjectError(
                f"{self.last} is damaged, so that the training cannot resume from it ({error}). Start a new one with: "
                "kedro run --params training.resume=false"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the directory, so that no other process works at the training.

        Raises:
            ProjectError: another one does.
        """
        lock = FileLock(self.folder.with_suffix(".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ProjectError(
                f"This very training is under way already, in another process (it holds {lock.lock_file}). Wait for "
                "it, or stop it: the next kedro run resumes from its last checkpoint."
            ) from None
        try:
            yield
        finally:
            lock.release()


def list_run_directories(folder: Path) -> list[RunDirectory]:
    """List the run directories under a folder, the newest first; without those of versions with other plans."""
    return [run_dir for run_dir in _directories(folder) if run_dir.is_readable()]


def _directories(folder: Path) -> list[RunDirectory]:
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if re.fullmatch(r"[0-9a-f]{16}", path.name)]
    with_plan = [run_dir for name in names if (run_dir := RunDirectory(folder, name)).plan_path.is_file()]
    return sorted(with_plan, key=RunDirectory.changed_at, reverse=True)


def prune_run_directories(folder: Path) -> None:
    """Remove all run directories but the newest."""
    for run_dir in _directories(folder)[KEPT_FOLDERS:]:
        remove(run_dir.folder)
        run_dir.folder.with_suffix(".lock").unlink(missing_ok=True)


def mark_delivered(folder: Path) -> None:
    """Mark the training whose plan lies in a folder as delivered: all that follows from it was made."""
    try:
        fingerprint = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError):
        return
    run_dir = RunDirectory(folder, fingerprint)
    if run_dir.folder.is_dir():
        run_dir.delivered.touch()
