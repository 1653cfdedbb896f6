"""Decides whether a run continues an interrupted one: the marker that a training leaves in its folder, and its lock.

`run.json` holds the configuration of the last run that trained into the folder, how it ended, and which MLflow run it
was. A run that is killed leaves a marker without an end. The lock is held as long as its process lives.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.parameters.serialization import RUN_OPTIONS, flatten
from unet_segmentation.tracking.journal import FileModel, RunReference

MARKER = "run.json"
WITHOUT_EFFECT = {*RUN_OPTIONS, "training.num_workers", "training.rdzv_endpoint"}
WITHOUT_EFFECT |= {"inspection.workers", "source.archive", "source.parallel"}
OTHERS = ("mlflow.", "release.", "inference.", "export.", "article_claims.")  # sections without effect on a training
SHOWN = 5  # parameters that changed

log = logging.getLogger(__name__)


class Continuation(Enum):
    """How a run relates to the one before it in the same folder."""

    NEW = auto()
    RESUME = auto()  # it continues an interrupted one
    EXTEND = auto()  # it adds epochs to a finished one


class TrainingMarker(FileModel):
    """The last run that trained into a folder."""

    status: Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]  # RUNNING where it was killed
    pid: int
    started: float  # seconds since 1970
    command: str
    parameters: dict[str, str]  # that have an effect, flat
    run: RunReference | None = None  # in MLflow, where it is tracked


def decide(marker: TrainingMarker | None, parameters: Mapping[str, str]) -> Continuation:
    """Decide how a run with these parameters (flat) relates to the one that left the marker."""
    if marker is None or parameters.get("training.resume") == "false":
        return Continuation.NEW
    if changed_parameters(marker.parameters, parameters):
        return Continuation.NEW
    if marker.status != "FINISHED":
        return Continuation.RESUME
    extended = parameters.get("training.extra_epochs", "null") != "null"
    return Continuation.EXTEND if extended else Continuation.NEW


def changed_parameters(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """List the parameters with an effect that differ, as `training.epochs 12 -> 20`."""
    keys = [key for key in {**before, **now} if _has_effect(key) and before.get(key) != now.get(key)]
    return [f"{key} {before.get(key, '(none)')} -> {now.get(key, '(none)')}" for key in keys]


def _has_effect(key: str) -> bool:
    return key not in WITHOUT_EFFECT and not key.startswith(OTHERS)


class TrainingClaim:
    """The claim of this process on a folder that it trains into."""

    def __init__(self, folder: Path, lock: FileLock, parameters: Mapping[str, str], command: str) -> None:
        """Decide by the marker in a folder that is locked, and leave one of this run."""
        self.folder, self._lock, self._before = folder, lock, TrainingMarker.read(folder / MARKER)
        self.continuation = decide(self._before, parameters)
        resumed = self.continuation is not Continuation.NEW
        extends = self.continuation is Continuation.EXTEND
        self.extra_epochs = parameters.get("training.extra_epochs") if extends else None
        self._marker = TrainingMarker(
            status="RUNNING",
            pid=os.getpid(),
            started=time.time(),
            command=command,
            parameters={key: value for key, value in parameters.items() if _has_effect(key)},
            run=self._before.run if self._before is not None and resumed else None,
        )
        if self._before is not None:
            _log_decision(self._before, self.continuation, parameters)
        self._marker.write(folder / MARKER)

    def earlier_run(self, uri: str) -> str | None:
        """Return the MLflow run that is continued, or replaced before its end, if it is in this store."""
        before = self._before
        if before is None or before.run is None or before.run.uri != uri:
            return None
        done = before.status == "FINISHED" and self.continuation is Continuation.NEW
        return None if done else before.run.run_id

    def record_run(self, run: RunReference | None) -> None:
        """Note which MLflow run it is; None: a new one is still to be created."""
        self._update(run=run)

    def finish(self, status: str) -> None:
        """Note how it ended, and release the folder; only the first call counts."""
        if self._lock.is_locked:
            self._update(status=status)
            self._lock.release()

    def roll_back(self) -> None:
        """Restore the earlier marker and release the folder: the run could not be opened."""
        if self._before is None:
            (self.folder / MARKER).unlink(missing_ok=True)
        else:
            self._before.write(self.folder / MARKER)
        self._lock.release()

    def _update(self, **values: object) -> None:
        self._marker = self._marker.model_copy(update=values)
        try:
            self._marker.write(self.folder / MARKER)
        except (OSError, ResourceError) as error:
            log.warning("%s could not be updated: %s", self.folder / MARKER, error)


def claim_training(
    folder: Path, parameters: Mapping[str, object], command: str, *, shared: bool = False
) -> TrainingClaim | None:
    """Claim a folder for a training with these parameters (nested), and decide whether an interrupted one is resumed.

    Others may train into a shared folder, too; the result is None where one of them has claimed it.

    Raises:
        ConfigurationError: another process is training into this folder.
        ResourceError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".run.lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        if shared:
            return None
        message = f"Another process trains into {folder}. Wait for it, or stop it."
        if (marker := TrainingMarker.read(folder / MARKER)) is not None:
            message = (
                f"This training runs already: process {marker.pid}, since {_clock(marker.started)} ({marker.command}). "
                f"Both would write to {folder}. Wait for it, stop it with: kill {marker.pid}, or train another problem "
                "(--env)."
            )
        raise ConfigurationError(message) from None
    try:
        return TrainingClaim(folder, lock, flatten(parameters), command)
    except BaseException:
        lock.release()
        raise


def _log_decision(before: TrainingMarker, continuation: Continuation, flat: Mapping[str, str]) -> None:
    if before.status == "FINISHED" or flat.get("training.resume") == "false":
        return
    if continuation is Continuation.RESUME:
        log.info("The interrupted run of %s is resumed", _clock(before.started))
        return
    changes = changed_parameters(before.parameters, flat)
    more = f", and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    log.info(
        "The interrupted run of %s is not resumed, because the configuration changed: %s%s",
        _clock(before.started),
        ", ".join(changes[:SHOWN]),
        more,
    )


def _clock(seconds: float) -> str:
    """Format a time of day; with the date, if it was another day."""
    then = time.localtime(seconds)
    today = time.strftime("%Y-%m-%d", then) == time.strftime("%Y-%m-%d")
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)
