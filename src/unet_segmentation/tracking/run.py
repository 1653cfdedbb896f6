"""The open run: what its nodes log is appended to the journal, which a thread sends to MLflow."""

from __future__ import annotations

import json
import math
import threading
import time as clock
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from unet_segmentation.errors import TrackingError
from unet_segmentation.parameters.serialization import RUN_OPTIONS, dump_parameters_yaml, flatten
from unet_segmentation.tracking import run_metadata, set_active_run
from unet_segmentation.tracking.base import NewFile, Run
from unet_segmentation.tracking.journal import Journal, RunHeader, RunIds, RunReference
from unet_segmentation.tracking.resume import Continuation, TrainingClaim
from unet_segmentation.tracking.settings import (
    STORE_HELP,
    TrackingSettings,
    check_store,
    configure_mlflow,
    is_server,
    store_uri,
)
from unet_segmentation.tracking.uploader import BackgroundUploader, Uploader
from unet_segmentation.utils import machine

if TYPE_CHECKING:
    from unet_segmentation.tracking.mlflow_client import MlflowRunClient

LOCAL_SERVER = "http://127.0.0.1:5000"  # where `make mlflow` listens
FIRST_SYSTEM_METRIC = "system/cpu_utilization_percentage"


@dataclass(frozen=True)
class UploadResult:
    """What became of a run's tracking.

    Attributes:
        link: address of the run in MLflow's UI; None where the run was never opened.
        message: what a person should know: something is left to send, or was refused. Mostly None.
    """

    link: str | None
    message: str | None


class JournalRun(Run):
    """A run that is logged through a journal: the open one, or one nested below it."""

    def __init__(self, journal: Journal, uploader: Uploader, background: BackgroundUploader, key: str | None) -> None:
        self.uri = journal.header.uri
        self._journal, self._uploader, self._background, self._key = journal, uploader, background, key
        self._metrics: dict[str, tuple[float, float]] = {}  # name to value and time, to link them to the model later
        self._closed = False

    def _append(self, operation: str, content: Path | NewFile | None = None, **arguments: object) -> None:
        if not self._closed:
            self._journal.append(operation, content, nested=self._key, arguments=arguments)

    def log_metrics(self, values: Mapping[str, float], step: int = 0, time: float | None = None) -> None:
        """Log numbers under `group/name`."""
        time = clock.time() if time is None else time
        self._metrics |= {name: (float(value), time) for name, value in values.items()}
        super().log_metrics(values, step, time)

    def log_model(
        self, build: Callable[[Path], object], metrics: Mapping[str, object], step: int
    ) -> dict[str, str | None]:
        """Log a model and wait until it was sent."""
        self.set_resumed(True)
        key = uuid.uuid4().hex[:8]
        scores = {f"test/{name}": float(value) for name, value in metrics.items() if is_number(value)}
        points = {name: self._time_of(name, value) for name, value in scores.items()}
        self._append("log_model", NewFile("model", build), key=key, step=step, metrics=points)
        self._background.wait_for(lambda: key in self._uploader.models)
        reply = self._uploader.models.get(key, {"model_uri": None, "model_id": None, "status": "pending"})
        return {**reply, "run_id": self.run_id, "experiment_id": self.experiment_id, "tracking_uri": self.uri}

    def _time_of(self, name: str, value: float) -> tuple[float, float]:
        """Return a score with the time it was logged at before, so that logging it again makes no second point."""
        logged = self._metrics.get(name)
        return logged if logged is not None and logged[0] == value else (value, clock.time())

    def start_nested_run(
        self, name: str, note: Path, tags: Mapping[str, object], started: float | None = None
    ) -> NestedRun:
        """Start a run nested below this one."""
        nested = NestedRun(self._journal, self._uploader, self._background, uuid.uuid4().hex[:8])
        nested._append(
            "start_nested_run",
            name=name,
            note=str(Path(note).absolute()),
            tags={tag: str(value) for tag, value in tags.items()},
            started=started or clock.time(),
        )
        return nested


class NestedRun(JournalRun):
    """A run nested below the open one."""

    def close(self, status: str, reason: str | None = None, time: float | None = None) -> None:
        """Close it; the run above it stays open."""
        super().close(status, reason, time)
        self._closed = True

    def set_resumed(self, resumed: bool) -> None:
        """Do nothing: that is decided for the run above it."""


class OpenRun(JournalRun):
    """The open run of this process.

    Attributes:
        ended: is set at the run's end.
    """

    def __init__(self, journal: Journal, settings: TrackingSettings, root: Path, claim: TrainingClaim | None) -> None:
        uploader = Uploader(journal, on_open=self._opened)
        super().__init__(
            journal, uploader, BackgroundUploader(uploader, journal, root, settings.upload_timeout_seconds), None
        )
        self.ended = threading.Event()
        self._settings, self._claim = settings, claim
        self.run_id = journal.ids.run_id
        if self.run_id is None:
            uploader.open()
            self._background.decided.set()
        self._background.start()

    def _opened(self, client: MlflowRunClient) -> None:
        self.run_id, self.experiment_id = client.ids.run_id, client.ids.experiment_id
        if self._claim is not None:
            self._claim.record_run(RunReference(uri=client.uri, run_id=client.run_id))
        if self._settings.system_metrics and not self._closed:
            arguments = self, self._settings.system_metrics_seconds, client.next_step(FIRST_SYSTEM_METRIC)
            threading.Thread(target=log_system_metrics, args=arguments, daemon=True).start()

    def set_resumed(self, resumed: bool) -> None:
        """Decide whether the interrupted run is continued; only the first call counts."""
        if self._background.decided.is_set():
            return
        if not resumed:
            self.run_id = self.experiment_id = None
            self._journal.write("run", RunIds().model_dump())
            if self._claim is not None:
                self._claim.record_run(None)
        self._background.decided.set()

    def finish(self, status: str, reason: str | None = None) -> UploadResult:
        """Close the run and wait, for a bounded time, until everything was sent.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            reason: why, where it did not finish.
        """
        self.ended.set()
        self.set_resumed(True)
        self.close(status, reason)
        self._closed = True
        set_active_run(None)
        complete = self._background.wait_for(lambda: self._uploader.complete)
        stopped = self._background.stop(self._settings.timeout_seconds)
        result = UploadResult(self._link, self._upload_message(complete))
        if complete:
            self._journal.remove()
        elif stopped:
            self._journal.unlock()
        return result

    @property
    def _link(self) -> str | None:
        if self.uri is None or self.run_id is None or self.experiment_id is None:
            return None
        return page_of(self.uri, self.experiment_id, self.run_id)

    def _upload_message(self, complete: bool) -> str | None:
        if not complete:
            count = sum(1 for _ in self._journal.pending())
            return (
                f"MLflow at {self.uri} does not answer: {count} entries are kept in {self._journal.folder}; the next "
                "kedro run sends them, or kedro mlflow sync."
            )
        if rejected := self._uploader.rejected:
            return f"MLflow refused {len(rejected)} of the entries; the first: {rejected[0]}"
        return None


def log_system_metrics(run: OpenRun, seconds: float, first_step: int) -> None:
    """Log what MLflow's monitors read of CPU, memory, disk, network and GPU, until the run ends."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id="", sampling_interval=seconds)
    step = first_step
    while not run.ended.wait(seconds):
        monitor.collect_metrics()
        values = {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
        run.log_metrics(values, step)
        for part in monitor.monitors:
            part.clear_metrics()
        step += 1


def page_of(uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run in MLflow's UI, opened at the page for training."""
    host = uri if is_server(uri) else LOCAL_SERVER
    return f"{host}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a score is a number that can be logged."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def start_run(
    settings: TrackingSettings,
    *,
    root: Path,
    problem: str,
    parameters: Mapping[str, object],
    command: str,
    tags: Mapping[str, str] | None = None,
    claim: TrainingClaim | None = None,
) -> OpenRun:
    """Open a run and make it the active one.

    A run that may turn out to be the continuation of an interrupted one is opened when that is decided: see
    `Run.set_resumed`.

    Args:
        settings: of mlflow.yml.
        root: the project's root.
        problem: the segmentation problem; names the experiment where the settings name none.
        parameters: all of them, nested; logged flat.
        command: the user's command line.
        tags: more tags.
        claim: of the training that belongs to it.

    Raises:
        TrackingError: the store cannot be reached or does not take the run.
    """
    uri = store_uri(settings, root)
    check_store(uri, settings.timeout_seconds)
    configure_mlflow(settings.timeout_seconds)
    started, tags = clock.time(), dict(tags or {})
    earlier = claim.earlier_run(uri) if claim else None
    resumed = earlier is not None and claim is not None and claim.continuation is not Continuation.NEW
    network = parameters.get("model")
    source = {"mlflow.user": run_metadata.user(), "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    header = RunHeader(
        uri=uri,
        experiment=settings.experiment or problem,
        run_name=settings.run_name or run_metadata.run_name(parameters, started, tags.get("pipelines", "")),
        model_name=str(network.get("architecture", "unet")) if isinstance(network, Mapping) else "unet",
        started=started,
        tags={"problem": problem, "command": command, **source, **tags},
        earlier_run_id=earlier,
        extra_epochs=claim.extra_epochs if claim else None,
    )
    journal = Journal.create(root, header)
    try:
        if resumed:
            journal.write("run", RunIds(run_id=earlier, resumed=True).model_dump())
        run = OpenRun(journal, settings, root, claim)
    except Exception as error:
        journal.remove()
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrackingError(f"The MLflow store {uri} does not take the run: {reason} {STORE_HELP}") from error
    except BaseException:
        journal.remove()
        raise
    run.log_params({key: value for key, value in flatten(parameters).items() if key not in RUN_OPTIONS})
    run._append("log_artifact", _bytes_file("parameters.yml", dump_parameters_yaml(parameters)), folder="code")
    log_metadata(run, root)
    set_active_run(run)
    return run


def log_metadata(run: JournalRun, root: Path) -> None:
    """Log code, versions and machine."""
    run.set_tags(machine.versions() | machine.machine() | run_metadata.git_tags(root))
    files = {"uncommitted.diff": run_metadata.git_diff(root), "requirements.lock": run_metadata.lock_file(root)}
    for name, data in files.items():
        if data:
            run._append("log_artifact", _bytes_file(name, data), folder="code")


def _bytes_file(name: str, data: bytes) -> NewFile:
    return NewFile(name, lambda path: path.write_bytes(data))


def numbers_of(values: Mapping[str, object] | str | Path, prefix: str) -> dict[str, float]:
    """Return the numbers of a dictionary (or of a JSON file), named `prefix/name`; None is skipped."""
    table = values if isinstance(values, Mapping) else json.loads(Path(values).read_text(encoding="utf-8"))
    return {f"{prefix}/{name}": float(value) for name, value in table.items() if is_number(value)}
