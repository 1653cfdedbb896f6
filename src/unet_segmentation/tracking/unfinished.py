"""Which training a problem's folder belongs to, and whether it was finished.

Two small files beside the models say it, each with one writer. `run.json` is the marker of `kedro run`: its
configuration, its process, how it ended, and the spools that its MLflow run was told from. `mlflow_run.json` is the
sender's: which MLflow run that is. A run that is killed leaves a marker without an end, and the next one of the same
configuration takes it up.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.parameters.serialization import RUN_OPTIONS, flatten
from unet_segmentation.tracking.spool import locked
from unet_segmentation.utils.atomic_io import atomic_write

TRAINING_NODE = "training.train"
FOLDERS = {  # node that trains: the catalog's folder that it trains into, which one process has at a time
    TRAINING_NODE: "training_dir",
    "sweep.train_variants": "sweep_dir",
    "search.run_search": "search_dir",
}
SHARED = {"search_dir"}  # but these: several processes may be at work there, the first one has the marker
SWEEPS = ("sweep", "search")  # sections of parameters that are about several trainings
MARKER = "run.json"
DELIVERED = "delivered"
WITHOUT_EFFECT = {
    *RUN_OPTIONS,
    "training.num_workers",
    "training.rdzv_endpoint",
    "inspection.workers",
    "source.archive",
    "source.parallel",
}
SHOWN = 5  # parameters that changed
CLAIMING_SECONDS = 5.0  # to wait for another process that is about to claim the same folder
OTHERS = ("mlflow.", "release.", "inference.", "export.", "article_claims.")  # of what trains nothing that is taken up
SAME_START = 2.0  # seconds by which the system's start time of one and the same process may differ between two readings

log = logging.getLogger(__name__)


class Training:
    """The training that this process has begun in a problem's folder.

    Attributes:
        folder: the problem's.
        spool: name of the run's spool; None where tracking is off.
        takes_up: whether it goes on with an earlier run, as far as the configuration says.
        header: what the sender has to know of it.
    """

    def __init__(self, folder: Path, before: dict[str, Any] | None, spool: str | None, takes_up: bool) -> None:
        self.folder, self._before, self._open = folder, before, True
        self.spool, self.takes_up = spool, takes_up
        self.header: dict[str, Any] = {
            "folder": str(folder),
            "earlier": [*before["spools"]] if before else [],
            "takes_up": takes_up,
            "extra_epochs": None,
        }

    def finish(self, status: str) -> None:
        """Note how it ended; only the first word counts. A marker that cannot be written stays without an end."""
        if not self._open:
            return
        self._open = False
        try:
            _write(self.folder / MARKER, {**(read_json(self.folder / MARKER) or {}), "status": status})
        except (OSError, ResourceError) as error:
            log.warning("The end of the run could not be noted: %s", error)

    def withdraw(self) -> None:
        """Put back what was there: the run could not be opened."""
        self._open = False
        if self._before is None:
            (self.folder / MARKER).unlink(missing_ok=True)
        else:
            _write(self.folder / MARKER, self._before)


def begin_training(
    folder: Path, parameters: Mapping[str, Any], command: str, spool: str | None, *, shared: bool = False
) -> Training | None:
    """Claim a problem's folder for a training, and say whether an unfinished one is taken up.

    Args:
        folder: where the problem's models are.
        parameters: all of them, nested.
        command: what the user called.
        spool: name of the run's spool; None where tracking is off.
        shared: others may train into this folder, too.

    Returns:
        The training; None where another process has claimed a folder that is shared.

    Raises:
        ConfigurationError: another process is training into this folder.
        ResourceError: the disk is full.
    """
    import psutil

    folder.mkdir(parents=True, exist_ok=True)
    flat = flatten(parameters)
    with _alone(folder):
        before = _read_marker(folder)
        if before is not None and _runs(before):
            if shared:
                return None
            raise ConfigurationError(
                f"This training runs already: process {before['pid']}, since {_clock(before['started'])} "
                f"({before['command']}). Both would write to {folder}. Wait for it, stop it with: kill "
                f"{before['pid']}, or train another problem (--env)."
            )
        takes_up, finished = _takes_up(before, flat), before is not None and before["status"] == "FINISHED"
        training = Training(folder, before, spool, takes_up)
        if takes_up and finished:
            training.header["extra_epochs"] = flat["training.extra_epochs"]
        elif finished:
            training.header["earlier"] = []
        marker = {
            "status": "RUNNING",
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "started": time.time(),
            "command": command,
            "spools": [*(before["spools"] if before and takes_up else ()), *filter(None, [spool])],
            "parameters": {key: value for key, value in flat.items() if _matters(key)},
        }
        _write(folder / MARKER, marker)
    return training


def _takes_up(before: Mapping[str, Any] | None, flat: Mapping[str, str]) -> bool:
    """Whether the earlier run is this one's beginning, as far as the parameters say; tells what speaks against it."""
    if before is None or flat.get("training.resume") == "false":
        return False
    changes = _changes(before["parameters"], flat)
    if before["status"] == "FINISHED":
        return not changes and flat.get("training.extra_epochs", "null") != "null"
    if not changes:
        log.info("The unfinished run of %s is taken up", _clock(before["started"]))
        return True
    more = f", and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    log.info(
        "The unfinished run of %s is not taken up, because the configuration changed: %s%s",
        _clock(before["started"]),
        ", ".join(changes[:SHOWN]),
        more,
    )
    return False


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say which parameters differ, as `training.epochs 12 -> 20`."""
    keys = [key for key in {**before, **now} if _matters(key) and before.get(key) != now.get(key)]
    return [f"{key} {before.get(key, '(none)')} -> {now.get(key, '(none)')}" for key in keys]


def _matters(key: str) -> bool:
    return key not in WITHOUT_EFFECT and not key.startswith(OTHERS)


def _runs(marker: Mapping[str, Any]) -> bool:
    """Whether a marker's process still trains: it lives (its number may belong to another one by now)."""
    import psutil

    if marker["status"] != "RUNNING" or marker["pid"] == os.getpid():
        return False
    try:
        process = psutil.Process(marker["pid"])
        same = abs(process.create_time() - marker["process_started"]) < SAME_START
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def mark_delivered(folder: Path) -> None:
    """Tell the working folder of the training whose plan lies here that its result was delivered."""
    fingerprint = (read_json(folder / "plan.json") or {}).get("fingerprint")
    if fingerprint and (folder / fingerprint).is_dir():
        (folder / fingerprint / DELIVERED).touch()


# -- the MLflow run


def known_run(training: Mapping[str, Any], uri: str) -> str | None:
    """Return the id of the MLflow run that an earlier spool of a training was sent to, if it is in this store."""
    run = read_json(Path(training["folder"]) / "mlflow_run.json")
    fits = run is not None and run["uri"] == uri and run["spool"] in training["earlier"]
    return run["run_id"] if run and fits else None


def note_run(training: Mapping[str, Any], spool: str, known: Mapping[str, Any]) -> None:
    """Note which MLflow run a training has, unless another training has begun since."""
    folder = Path(training["folder"])
    if spool in (read_json(folder / MARKER) or {}).get("spools", ()):
        _write(folder / "mlflow_run.json", {**known, "spool": spool})


def known_child(note: Path, uri: str) -> str | None:
    """Return the id of the MLflow run that a child's note names, if it is in this store."""
    run = read_json(note)
    return run["run_id"] if run and run.get("uri") == uri else None


def note_child(note: Path, known: Mapping[str, Any]) -> None:
    """Note which MLflow run a child has; a folder that is gone by now has no use for it."""
    if note.parent.is_dir():
        _write(note, known)


# -- files


def _read_marker(folder: Path) -> dict[str, Any] | None:
    """Read a marker; None where there is none, or one that another version of the project wrote."""
    marker = read_json(folder / MARKER)
    needed = {"status", "pid", "process_started", "started", "command", "spools", "parameters"}
    return marker if marker is not None and marker.keys() >= needed else None


def read_json(file: Path) -> dict[str, Any] | None:
    """Read a small JSON file; None where there is none, or none that can be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(file: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from claiming the folder at the same moment."""
    until = time.monotonic() + CLAIMING_SECONDS
    while True:
        with locked(folder / ".run.lock") as mine:
            if mine or time.monotonic() > until:
                yield
                return
        time.sleep(0.05)


def _clock(seconds: float) -> str:
    """Return the time of day; with the date, if it was another day."""
    then = time.localtime(seconds)
    today = time.strftime("%Y-%m-%d", then) == time.strftime("%Y-%m-%d")
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)
