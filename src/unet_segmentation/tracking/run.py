"""The open run: what nodes log is appended to its journal (a write-ahead log on disk, see journal.py)."""

from __future__ import annotations

import json
import math
import threading
import time as clock
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unet_segmentation.errors import TrackingError
from unet_segmentation.parameters.serialization import RUN_OPTIONS, dump_parameters_yaml, flatten
from unet_segmentation.tracking import run_metadata, set_active_run
from unet_segmentation.tracking.base import NewFile, Run, as_texts
from unet_segmentation.tracking.journal import Journal, RunHeader, RunReference
from unet_segmentation.tracking.resume import Continuation, TrainingClaim
from unet_segmentation.tracking.settings import (
    STORE_HELP,
    TrackingSettings,
    check_store,
    configure_mlflow,
    first_line,
    run_url,
    store_uri,
)
from unet_segmentation.utils import machine

if TYPE_CHECKING:
    from unet_segmentation.tracking.mlflow_client import MlflowRunClient
    from unet_segmentation.tracking.uploader import BackgroundUploader

FIRST_SYSTEM_METRIC = "system/cpu_utilization_percentage"


@dataclass(frozen=True)
class UploadResult:
    """Outcome of sending a run to MLflow."""

    link: str | None  # address of the run in MLflow's UI; None where the run was never opened
    message: str | None  # for the user: something is left to send, or was refused


class JournalRun(Run):
    """A run that is logged through a journal: one nested below the open run, or the open run itself (key None)."""

    enabled = True

    def __init__(self, journal: Journal, background: BackgroundUploader, key: str | None) -> None:
        self.uri = journal.header.uri
        self._journal, self._background, self._key = journal, background, key
        self._metrics: dict[str, tuple[float, float]] = {}  # name to value and time, to link them to the model later

    def _append(self, operation: str, content: Path | NewFile | None = None, **arguments: object) -> None:
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
        self.decide_resumption(True)
        key = uuid.uuid4().hex[:8]
        scores = numeric_metrics(metrics, "test")
        points = {}
        for name, value in scores.items():  # one that was logged before keeps its time: the same point, not a second
            logged = self._metrics.get(name)
            points[name] = logged if logged is not None and logged[0] == value else (value, clock.time())
        self._append("log_model", NewFile("model", build), key=key, step=step, metrics=points)
        models = self._background.uploader.models
        self._background.wait_for(lambda: key in models)
        reply = models.get(key, {"model_uri": None, "model_id": None, "status": "pending"})
        return {**reply, "run_id": self.run_id, "experiment_id": self.experiment_id, "tracking_uri": self.uri}

    def start_nested_run(self, name: str, note: Path, tags: Mapping[str, object], started: float | None = None) -> Run:
        """Start a run nested below this one."""
        nested = JournalRun(self._journal, self._background, uuid.uuid4().hex[:8])
        started = started or clock.time()
        nested._append("start_nested_run", name=name, note=str(note.absolute()), tags=as_texts(tags), started=started)
        return nested


class OpenRun(JournalRun):
    """The open run of this process; it can end only once."""

    def __init__(self, journal: Journal, settings: TrackingSettings, root: Path, claim: TrainingClaim | None) -> None:
        from unet_segmentation.tracking.uploader import BackgroundUploader, Uploader  # imports MLflow: takes seconds

        self.ended = threading.Event()
        self._settings, self._claim = settings, claim
        uploader = Uploader(journal, on_open=self._opened)
        background = BackgroundUploader(uploader, journal, root, settings.upload_timeout_seconds)
        super().__init__(journal, background, None)
        self.run_id = journal.run_id
        if self.run_id is None:
            uploader.open()
            background.decided.set()
        background.thread.start()

    def _opened(self, client: MlflowRunClient) -> None:
        self.run_id, self.experiment_id = client.ids.run_id, client.ids.experiment_id
        if self._claim is not None:
            self._claim.record_run(RunReference(uri=client.uri, run_id=client.run_id))
        if self._settings.system_metrics and not self.ended.is_set():
            arguments = self, self._settings.system_metrics_seconds, client.next_step(FIRST_SYSTEM_METRIC)
            threading.Thread(target=log_system_metrics, args=arguments, daemon=True).start()

    def decide_resumption(self, resumed: bool) -> None:
        """Decide whether the interrupted run is continued; only the first call counts."""
        if self._background.decided.is_set():
            return
        if not resumed:
            self.run_id = None
            self._journal.update(resumes=False)
            if self._claim is not None:
                self._claim.record_run(None)
        self._background.decided.set()

    def finish(self, status: str, reason: str | None = None) -> UploadResult:
        """Close the run as `FINISHED`, `FAILED` or `KILLED` and wait, for a bounded time, until everything was sent."""
        self.ended.set()
        self.decide_resumption(True)
        self.close(status, reason)
        set_active_run(None)
        uploader = self._background.uploader
        self._background.wait_for(lambda: uploader.complete)
        stopped = self._background.stop(self._settings.timeout_seconds)
        message = None
        if not uploader.complete:
            count = sum(1 for _ in self._journal.pending())
            message = (
                f"MLflow at {self.uri} does not answer: {count} entries are kept in {self._journal.folder}; the next "
                "kedro run sends them, or kedro mlflow sync."
            )
            if stopped:
                self._journal.unlock()
        elif uploader.rejected:
            message = f"MLflow refused {len(uploader.rejected)} of the entries; the first: {uploader.rejected[0]}"
        link = None
        if self.uri and self.experiment_id and self.run_id:
            link = run_url(self.uri, self.experiment_id, self.run_id)
        return UploadResult(link, message)


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

    A run that may continue an interrupted one is opened as soon as that is decided: see `Run.decide_resumption`. The
    problem names the experiment where the settings name none; nested parameters are logged flat.

    Raises:
        TrackingError: the store cannot be reached or does not take the run.
    """
    uri = store_uri(settings, root)
    check_store(uri, settings.timeout_seconds)
    configure_mlflow(settings.timeout_seconds)
    started, tags = clock.time(), dict(tags or {})
    network = parameters.get("model")
    source = {"mlflow.user": run_metadata.user(), "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    header = RunHeader(
        uri=uri,
        experiment=settings.experiment or problem,
        run_name=settings.run_name or run_metadata.run_name(parameters, started, tags.get("pipelines", "")),
        model_name=str(network.get("architecture", "unet")) if isinstance(network, Mapping) else "unet",
        started=started,
        tags={"problem": problem, "command": command, **source, **tags},
        earlier_run_id=claim.earlier_run(uri) if claim else None,
        extra_epochs=claim.extra_epochs if claim else None,
    )
    journal = Journal.create(root, header)
    try:
        journal.update(resumes=claim is not None and claim.continuation is not Continuation.NEW)
        run = OpenRun(journal, settings, root, claim)
    except BaseException as error:
        journal.remove()
        if not isinstance(error, Exception):
            raise
        raise TrackingError(
            f"The MLflow store {uri} does not take the run: {first_line(error)} {STORE_HELP}"
        ) from error
    run.log_params({key: value for key, value in flatten(parameters).items() if key not in RUN_OPTIONS})
    _log_code(run, "parameters.yml", dump_parameters_yaml(parameters))
    log_metadata(run, root)
    set_active_run(run)
    return run


def log_metadata(run: JournalRun, root: Path) -> None:
    """Log code, versions and machine."""
    run.set_tags(machine.versions() | machine.machine() | run_metadata.git_tags(root))
    if difference := run_metadata.git_diff(root):
        _log_code(run, "uncommitted.diff", difference)
    if (lock := root / "requirements.lock").is_file():
        _log_code(run, "requirements.lock", lock.read_bytes())


def _log_code(run: JournalRun, name: str, data: bytes) -> None:
    run._append("log_artifact", NewFile(name, lambda path: path.write_bytes(data)), folder="code")


def numeric_metrics(values: Mapping[str, object] | str | Path, prefix: str) -> dict[str, float]:
    """Return the finite numbers of a dictionary (or of a JSON file), named `prefix/name`."""
    table = values if isinstance(values, Mapping) else json.loads(Path(values).read_text(encoding="utf-8"))
    numbers = {name: value for name, value in table.items() if isinstance(value, int | float) and math.isfinite(value)}
    return {f"{prefix}/{name}": float(value) for name, value in numbers.items() if not isinstance(value, bool)}
