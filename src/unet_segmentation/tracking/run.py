"""A run as its nodes see it: everything is appended to the spool; the sender does the rest."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time as clock
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_segmentation.errors import TrackingError
from unet_segmentation.parameters import serialization
from unet_segmentation.parameters.serialization import RUN_OPTIONS
from unet_segmentation.tracking import SPOOL_VARIABLE, run_metadata, set_current
from unet_segmentation.tracking.settings import (
    STORE_HELP,
    TrackingSettings,
    check_store,
    is_local,
    is_server,
    store_uri,
)
from unet_segmentation.tracking.spool import Spool
from unet_segmentation.tracking.unfinished import Training

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unet_segmentation.parameters import PredictorParameters

OPENING_SECONDS = 90.0  # import of MLflow and a new database, on a machine that is busy
LOCAL_SERVER = "http://127.0.0.1:5000"  # where `make mlflow` listens
LOOK = 0.05  # seconds between looks at what the sender says


@dataclass(frozen=True)
class Outcome:
    """What became of a run's tracking.

    Attributes:
        link: address of the run in MLflow's UI; None where the run was never opened.
        message: what a person should know: something is left to send, or was refused. Mostly None.
    """

    link: str | None
    message: str | None


class SpooledRun:
    """An open run; may be used from any thread, and from processes that it started."""

    enabled = True

    def __init__(self, folder: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        self._spool, self._process = Spool(folder), process
        self._header = self._spool.read("header") or {}
        self._known: dict[str, Any] | None = None
        self._logged: dict[str, tuple[float, float]] = {}  # metric to value and time, to link it to the model later
        self._closed = False
        self._undecided = bool((self._header.get("training") or {}).get("takes_up"))

    # -- identity

    @property
    def uri(self) -> str | None:
        """The MLflow store that the run is told to."""
        return self._header.get("uri")

    def resumes(self, yes: bool) -> None:
        """Return whether the unfinished run is taken up, if there is one; only the first word counts."""
        if self._undecided and self._spool.read("decision") is None:
            self._spool.write("decision", {"takes_up": yes})
        self._undecided = False

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; waits until the run is open."""
        self.resumes(True)  # where nobody has said otherwise
        return (self._opened() or {}).get("run_id")

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; waits until the run is open."""
        self.resumes(True)
        return (self._opened() or {}).get("experiment_id")

    @property
    def link(self) -> str | None:
        """Address of the run in MLflow's UI, opened at the page for training."""
        known = self._opened()
        if known is None:
            return None
        return page_of(self._header["uri"], known["experiment_id"], known["run_id"])

    def _opened(self, seconds: float = OPENING_SECONDS) -> dict[str, Any] | None:
        until = clock.monotonic() + seconds
        while self._known is None:
            ended = self._process is not None and self._process.poll() is not None
            self._known = self._look()
            if self._known or ended or self._spool.read("error") or clock.monotonic() > until:
                break
            clock.sleep(LOOK)
        return self._known

    def _look(self) -> dict[str, Any] | None:
        return self._spool.read("run") or self._spool.read("done")

    def check(self, wait: bool = False) -> None:
        """Make sure that the run could be opened, as far as that is known.

        Args:
            wait: until it is known.

        Raises:
            TrackingError: MLflow refused the run; the message names the store and the ways out.
        """
        if self._known or self._closed or self._process is None:
            return
        known = self._opened(OPENING_SECONDS if wait else 0)
        error = self._spool.read("error")
        if known or (error is None and not wait and self._process.poll() is None):
            return
        reason = error["message"] if error else self._last_words()
        self.abandon()
        raise TrackingError(f"The MLflow store {self._header['uri']} does not take the run: {reason} {STORE_HELP}")

    def _last_words(self) -> str:
        lines = (self._spool.folder / "sender.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"no answer within {OPENING_SECONDS:.0f} s."

    # -- logging

    def log_metrics(self, values: Mapping[str, float], step: int = 0, time: float | None = None) -> None:
        """Log numbers under `group/name`."""
        stamp = clock.time() if time is None else time
        numbers = {name: float(value) for name, value in values.items()}
        if numbers:
            self._logged |= {name: (value, stamp) for name, value in numbers.items()}
            self._append("metrics", values=numbers, step=step, time=stamp)

    def log_params(self, flat: Mapping[str, object]) -> None:
        """Log parameters: dotted key to value."""
        self._append("params", values={key: str(value) for key, value in flat.items()})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; the last value counts."""
        self._append("tags", values={key: str(value) for key, value in tags.items()})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all in it, as it is now."""
        self._append("artifact", path=self._spool.keep(Path(path)), folder=folder)

    def log_figure_html(self, figure: Path, folder: str | None = None) -> None:
        """Log a Plotly figure, given as its JSON file, as an HTML page that opens without a network."""
        self._append("figure", path=self._spool.keep(Path(figure)), folder=folder)

    def log_dataset(self, samples: pd.DataFrame, name: str, source: str) -> None:
        """Log the samples table as the run's inputs, one per split."""
        file = self._spool.folder / "files" / uuid.uuid4().hex[:8] / "samples.parquet"
        file.parent.mkdir(parents=True)
        columns = [
            column for column in ("sample_id", "group", "split", "height", "width", "image_sha256") if column in samples
        ]
        samples[columns].to_parquet(file, index=False)
        place = file.relative_to(self._spool.folder).as_posix()
        self._append("dataset", path=place, name=name, source=source)

    def log_model(
        self, model: Path, inference: PredictorParameters, metrics: Mapping[str, Any], step: int, example: np.ndarray
    ) -> dict[str, Any]:
        """Log the trained network as an MLflow model that takes images and returns class ids."""
        self.resumes(True)
        from unet_segmentation.tracking.model_packaging import pack_model

        identity = uuid.uuid4().hex[:8]
        folder = self._spool.folder / "files" / identity / "model"
        pack_model(folder, model=Path(model), inference=inference, example=example)
        scores = {f"test/{name}": value for name, value in metrics.items() if is_number(value)}
        self._append(
            "model",
            id=identity,
            path=folder.relative_to(self._spool.folder).as_posix(),
            name=self._header["model_name"],
            problem=self._header["experiment"],
            step=step,
            metrics={name: self._time_of(name, float(value)) for name, value in scores.items()},
        )
        reply = self._wait_for(f"reply-{identity}") or {"model_uri": None, "model_id": None, "status": "pending"}
        ids = {"run_id": self.run_id, "experiment_id": self.experiment_id, "tracking_uri": self._header["uri"]}
        return {**reply, **ids}

    def _time_of(self, name: str, value: float) -> tuple[float, float]:
        """Return a score with the time it was logged at before, so that logging it again makes no second point."""
        known = self._logged.get(name)
        return known if known is not None and known[0] == value else (value, clock.time())

    def _wait_for(self, name: str) -> dict[str, Any] | None:
        """Wait for an answer of the sender, as long as it gets on with its work."""
        if self._opened() is None:
            return None
        patience = self._header["upload_timeout_seconds"]
        position, since = self._spool.position, clock.monotonic()
        while (answer := self._spool.read(name)) is None:
            if self._process is not None and self._process.poll() is not None:
                return self._spool.read(name)  # its last word may have come since we looked
            if self._spool.position != position:
                position, since = self._spool.position, clock.monotonic()
            if clock.monotonic() - since > patience:
                break
            clock.sleep(LOOK)
        return answer

    def child(self, name: str, note: Path, tags: Mapping[str, object], started: float | None = None) -> ChildRun:
        """Open a run within this one."""
        child = ChildRun(self._spool.folder, self._process)
        texts = {key: str(value) for key, value in tags.items()}
        child._append("child", name=name, note=str(Path(note).absolute()), tags=texts, started=started or clock.time())
        return child

    def _append(self, operation: str, **values: Any) -> None:  # noqa: ANN401
        if not self._closed:
            self._spool.append(operation, **values)

    # -- the end

    def finish(self, status: str, reason: str | None = None) -> Outcome:
        """Close the run and wait, for a bounded time, until everything was sent.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            reason: why, where it did not finish.
        """
        self._await_facts()
        self._append("end", status=status, reason=reason)
        self._closed = True
        set_current(None)
        os.environ.pop(SPOOL_VARIABLE, None)
        self._spool.write("closing", {})
        done = self._wait_for("done")
        link = self.link if done or self._known or self._spool.read("run") else None
        self._stop_sender()
        return Outcome(link, self._remark(done))

    def _await_facts(self) -> None:
        """Let the sender note code and machine first: what stands behind the end of a short run would not be sent."""
        until = clock.monotonic() + self._header["upload_timeout_seconds"]
        while self._process is not None and self._process.poll() is None and clock.monotonic() < until:
            if self._spool.read("facts") is not None:
                break
            clock.sleep(LOOK)

    def _remark(self, done: Mapping[str, Any] | None) -> str | None:
        if done is None:
            left = sum(1 for _ in self._spool.pending())
            return (
                f"MLflow at {self._header['uri']} does not answer: {left} entries are kept in {self._spool.folder}; "
                "the next kedro run sends them, or kedro tracking send."
            )
        self._spool.remove()
        if refused := done["rejected"]:
            return f"MLflow refused {len(refused)} of the entries; the first: {refused[0]}"
        return None

    def abandon(self) -> None:
        """Forget the run: nothing of it is kept."""
        self._closed = True
        set_current(None)
        os.environ.pop(SPOOL_VARIABLE, None)
        self._stop_sender()
        self._spool.remove()

    def _stop_sender(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(timeout=0 if self._spool.read("done") is None else 0.2)
        except subprocess.TimeoutExpired:
            if self._spool.read("done") is None:
                self._process.terminate()
                self._process.wait()


class ChildRun(SpooledRun):
    """A run within a run: what is said to it goes through the spool of the run around it."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        super().__init__(folder, process)
        self._key = uuid.uuid4().hex[:8]

    def _look(self) -> dict[str, Any] | None:
        return (self._spool.read("children") or {}).get(self._key)

    def _append(self, operation: str, **values: Any) -> None:  # noqa: ANN401
        super()._append(operation, child=self._key, **values)

    def close(self, status: str, reason: str | None = None, time: float | None = None) -> None:
        """Close it; the run around it stays open."""
        self._append("end", status=status, reason=reason, time=clock.time() if time is None else time)
        self._closed = True


def page_of(uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run in MLflow's UI, opened at the page for training."""
    host = uri if is_server(uri) else LOCAL_SERVER
    return f"{host}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def is_number(value: object) -> bool:
    """Whether a score is a number that can be logged."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def start_run(
    settings: TrackingSettings,
    *,
    root: Path,
    problem: str,
    parameters: Mapping[str, Any],
    command: str,
    tags: Mapping[str, str] | None = None,
    training: Training | None = None,
) -> SpooledRun:
    """Open a run and make it the current one.

    A server is asked first, and its answer waited for. A store of this machine is opened beside the first nodes:
    making a new one takes seconds, and nothing about it can be out of reach. A run that may turn out to be the
    continuation of an unfinished one is opened when that is known: see `SpooledRun.resumes`.

    Args:
        settings: of mlflow.yml.
        root: the project's root.
        problem: the segmentation problem; names the experiment where the settings name none.
        parameters: all of them, nested; logged flat.
        command: what the user called.
        tags: more tags.
        training: what `begin_training` said of the training that belongs to it.

    Raises:
        TrackingError: the store cannot be reached or does not take the run.
    """
    uri = store_uri(settings, root)
    check_store(uri, settings.timeout_seconds)
    started = clock.time()
    network = parameters.get("model") or {}
    header = {
        "uri": uri,
        "root": str(root),
        "experiment": settings.experiment or problem,
        "run_name": settings.run_name or run_metadata.run_name(parameters, started, (tags or {}).get("pipelines", "")),
        "model_name": str(network.get("architecture", "unet")),
        "started": started,
        "pid": os.getpid(),
        "training": training.header if training else None,
        "tags": {
            "problem": problem,
            "command": command,
            "mlflow.user": run_metadata.user(),
            "mlflow.source.name": command,
            "mlflow.source.type": "LOCAL",
            **(tags or {}),
        },
        **settings.model_dump(
            include={"system_metrics", "system_metrics_seconds", "timeout_seconds", "upload_timeout_seconds"}
        ),
    }
    spool = Spool.create(root, header, training.spool if training else None)
    run = SpooledRun(spool.folder, _start_sender(spool.folder))
    run.log_params({key: value for key, value in serialization.flatten(parameters).items() if key not in RUN_OPTIONS})
    spool.append(
        "artifact", path=spool.put("parameters.yml", serialization.dump_parameters_yaml(parameters)), folder="code"
    )
    if not is_local(uri) and not (training and training.takes_up):
        run.check(wait=True)
    os.environ[SPOOL_VARIABLE] = str(spool.folder)
    set_current(run)
    return run


def _start_sender(folder: Path) -> subprocess.Popen[bytes]:
    """Start the sender in a process group of its own, so that Ctrl-C does not reach it."""
    import unet_segmentation

    source = str(Path(unet_segmentation.__file__).parents[1])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    with (folder / "sender.log").open("wb") as words:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "unet_segmentation.tracking.sender", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=environment,
            start_new_session=True,
        )


def numbers_of(values: Mapping[str, Any] | str | Path, prefix: str) -> dict[str, float]:
    """Pick the numbers of a dictionary (or of a JSON file) and name them `prefix/name`; None is skipped."""
    table = values if isinstance(values, Mapping) else json.loads(Path(values).read_text(encoding="utf-8"))
    return {f"{prefix}/{name}": float(value) for name, value in table.items() if is_number(value)}
