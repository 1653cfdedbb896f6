"""The process beside a run that tells MLflow what the run has spooled.

It is a process, not a thread, because MLflow takes seconds to import and to make a new database: that happens on
another core while the first nodes run, and a loader that forks in the meantime inherits no half-imported module. It
also outlives a run that is killed outright, and then closes it as KILLED.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_segmentation.tracking import run_metadata
from unet_segmentation.tracking.spool import Spool
from unet_segmentation.tracking.unfinished import known_child, known_run, note_child, note_run
from unet_segmentation.utils import machine

if TYPE_CHECKING:
    from unet_segmentation.tracking.store import Store

VALUES = {"metrics", "params", "tags"}
OPENING_SECONDS = 60.0  # of another sender: import of MLflow and the first request, on a machine that is busy
IDLE = 0.1  # seconds between looks at the spool
LONGEST_PAUSE = 15.0  # seconds between two tries to reach a server
MOST_TRIES = 6  # of one operation that a server that answers keeps refusing
MOST_AT_ONCE = 500  # operations

log = logging.getLogger("tracking")


def prepare_environment(timeout: float) -> None:
    """Set what MLflow reads when it is imported and when it talks: short waits, no chatter."""
    os.environ.update(
        MLFLOW_HTTP_REQUEST_TIMEOUT=str(max(1, round(timeout))),
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MLFLOW_CONFIGURE_LOGGING="false",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
        MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING="false",
    )


class Sender:
    """Sends one spool, in order, until the run ends or nothing goes through any more."""

    def __init__(self, spool: Spool, alive: Callable[[], bool]) -> None:
        self._spool, self._alive = spool, alive
        self._header = spool.read("header") or {}
        self._rejected: list[str] = []
        self._tries = 0
        self._store: Store
        self._children: dict[str, Store] = {}

    def run(self) -> bool:
        """Send everything; True if nothing is left."""
        if not self._open():
            return False
        stop = threading.Event()
        if self._header["system_metrics"] and self._alive():
            first = self._store.next_step("system/cpu_utilization_percentage")
            arguments = (self._spool, self._header["system_metrics_seconds"], stop, first)
            threading.Thread(target=measure_system, args=arguments, daemon=True).start()
        try:
            complete = self._drain(stop)
        finally:
            stop.set()
        if complete:
            self._spool.write("done", {**(self._spool.read("run") or {}), "rejected": self._rejected})
        return complete

    def _open(self) -> bool:
        """Open the run in the store, once; say why where that fails."""
        from unet_segmentation.tracking.store import Store, is_passing

        if known := self._spool.read("run"):
            self._store = Store(**known)
            return True
        training = self._header.get("training")
        may_wait = bool(training and training["takes_up"])  # it was said already that the store is there
        if may_wait:
            self._wait_for_the_decision()
        deadline: float | None = None
        while True:
            try:
                if training and may_wait:
                    patience = OPENING_SECONDS + self._header["upload_timeout_seconds"]
                    let_end(self._spool.folder.parent, training["earlier"], patience)
                self._store = Store(self._header["uri"])
                self._open_run(training)
            except Exception as error:
                if may_wait and is_passing(error):
                    log.warning("The run could not be opened yet: %s", error)
                    deadline = self._deadline(deadline)
                    if deadline is not None and time.monotonic() > deadline:
                        return False
                    self._pause(1.0, closing=deadline is not None)
                    continue
                log.exception("The run could not be opened")
                self._spool.write("error", {"message": str(error).splitlines()[0] if str(error) else repr(error)})
                return False
            self._spool.write("run", self._store.known)
            return True

    def _wait_for_the_decision(self) -> None:
        """Wait until the run says whether it goes on with an earlier one, or comes to its end without a word."""
        while self._spool.read("decision") is None and not self._closing:
            time.sleep(IDLE)

    def _open_run(self, training: dict[str, Any] | None) -> None:
        """Take up the earlier run of a training, or start a new one; close an earlier one that nobody closes."""
        if training is None:
            self._store.open(self._header)
            return
        earlier = known_run(training, self._header["uri"])
        wanted = training["takes_up"] and (self._spool.read("decision") or training)["takes_up"]
        if not (earlier and wanted and self._store.take_up(earlier, training["extra_epochs"])):
            self._store.open(self._header)
            spools = (self._spool.folder.parent / name for name in training["earlier"])
            if earlier and not any(spool.exists() for spool in spools):
                self._store.close_lost(earlier)
        note_run(training, self._spool.folder.name, self._store.known)

    @property
    def _closing(self) -> bool:
        """Whether the run has said that it ends, or its process is gone."""
        return not self._alive() or self._spool.read("closing") is not None

    def _deadline(self, known: float | None) -> float | None:
        """Return the moment at which a run that ends stops waiting for its store; None while it goes on."""
        return known or (time.monotonic() + self._header["upload_timeout_seconds"] if self._closing else None)

    def _drain(self, stop: threading.Event) -> bool:
        """Send until the end of the run was sent (True), or time is up (False)."""
        deadline: float | None = None
        while True:
            closing = self._closing
            if closing:
                stop.set()
                deadline = self._deadline(deadline)
            batch, position = self._next()
            if not batch:
                if not self._alive():  # the run went without a word
                    self._spool.append("end", status="KILLED", reason="The process of the run was killed.")
                else:
                    time.sleep(IDLE)
                continue
            if self._try(batch):
                self._spool.position = position
                for operation in batch:
                    self._spool.release(operation)
                if batch[-1]["op"] == "end" and "child" not in batch[-1]:
                    return True
                deadline = None
            elif deadline is not None and time.monotonic() > deadline:
                return False
            else:
                pause = min(LONGEST_PAUSE, 0.5 * 2 ** min(self._tries, 6))
                self._pause(pause if deadline is None else 0.5, closing)

    def _pause(self, seconds: float, closing: bool) -> None:
        """Wait before the next try; less, where the run comes to its end meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(IDLE)
            if not closing and self._closing:
                return

    def _next(self) -> tuple[list[dict[str, Any]], int]:
        """Return the next operation, or as many as go in one request, and the position behind them."""
        batch: list[dict[str, Any]] = []
        position = 0
        for operation, end in self._spool.pending():
            other = bool(batch) and operation.get("child") != batch[0].get("child")
            if batch and (other or operation["op"] not in VALUES or len(batch) >= MOST_AT_ONCE):
                break
            batch.append(operation)
            position = end
            if operation["op"] not in VALUES:
                break
        return batch, position

    def _try(self, batch: list[dict[str, Any]]) -> bool:
        """Send; True if it is done with, sent or refused for good."""
        from unet_segmentation.tracking.store import is_passing

        try:
            self._send(batch)
        except Exception as error:
            self._tries += 1
            passing = is_passing(error) and not (self._tries >= MOST_TRIES and self._store.answers())
            log.warning("%s, try %d: %s", batch[0]["op"], self._tries, error, exc_info=not passing)
            if passing:
                return False
            if len(batch) > 1:  # find the one that is refused
                self._tries = 0
                return sum(self._try([operation]) for operation in batch) == len(batch)  # every one is tried
            self._reject(batch[0], error)
        self._tries = 0
        return True

    def _reject(self, operation: dict[str, Any], error: Exception) -> None:
        self._rejected.append(f"{operation['op']}: {str(error).splitlines()[0]}")
        if operation["op"] == "model":
            self._reply(operation, {"model_uri": None, "model_id": None, "status": f"refused: {error}"})

    def _send(self, batch: list[dict[str, Any]]) -> None:
        operation = batch[0]
        path = self._spool.folder / operation["path"] if "path" in operation else self._spool.folder
        store = self._store_of(operation)
        match operation["op"]:
            case "child":
                pass  # it is open by now
            case "artifact":
                store.log_artifact(path, operation["folder"])
            case "figure":
                store.log_figure(path, operation["folder"])
            case "dataset":
                store.log_dataset(path, operation["name"], operation["source"])
            case "model":
                self._send_model(store, path, operation)
            case "end":
                self._end(store, operation)
            case _:
                store.log_values(batch)

    def _store_of(self, operation: dict[str, Any]) -> Store:
        """Return the run that an operation is for: the run itself, or one of its children, which its first word opens."""
        from unet_segmentation.tracking.store import Store

        key = operation.get("child")
        if key is None:
            return self._store
        if key not in self._children:
            known = (self._spool.read("children") or {}).get(key)
            if known:
                self._children[key] = Store(**{name: value for name, value in known.items() if name != "ended"})
            else:
                self._children[key] = self._opened_child(operation)
                self._note_child(key, ended=False)
        return self._children[key]

    def _opened_child(self, operation: dict[str, Any]) -> Store:
        """Take up the MLflow run that a child's note names, or start one."""
        from unet_segmentation.tracking.store import Store

        store, note = Store(self._header["uri"]), Path(operation["note"])
        tags = {**operation["tags"], "mlflow.parentRunId": self._store.run_id}
        earlier = known_child(note, self._header["uri"])
        if earlier and store.take_up(earlier, None):
            store.log_values([{"op": "tags", "values": tags}])
        else:
            values = {
                "started": operation["started"],
                "run_name": operation["name"],
                "tags": self._header["tags"] | tags,
            }
            store.open(self._header | values)
        note_child(note, store.known)
        return store

    def _note_child(self, key: str, *, ended: bool) -> None:
        known = self._spool.read("children") or {}
        self._spool.write("children", known | {key: {**self._children[key].known, "ended": ended}})

    def _end(self, store: Store, operation: dict[str, Any]) -> None:
        """Close a child; or the run itself, and first the children that nobody has closed."""
        if "child" in operation:
            store.end(operation)
            self._note_child(operation["child"], ended=True)
            return
        for key, known in (self._spool.read("children") or {}).items():
            if not known["ended"]:
                self._end(self._store_of({"child": key}), {**operation, "child": key})
        store.end(operation)

    def _send_model(self, store: Store, path: Path, operation: dict[str, Any]) -> None:
        """Send a model; its id is noted first, so that a second try makes no second entry."""
        name = f"model-{operation['id']}"
        known = self._spool.read(name)
        model_id = known["model_id"] if known else store.create_model(operation)
        self._spool.write(name, {"model_id": model_id})
        store.log_model(model_id, path, operation)
        self._reply(operation, {"model_uri": f"models:/{model_id}", "model_id": model_id, "status": "logged"})

    def _reply(self, operation: dict[str, Any], values: dict[str, Any]) -> None:
        self._spool.write(f"reply-{operation['id']}", values)


def measure_system(spool: Spool, seconds: float, stop: threading.Event, step: int) -> None:
    """Append what MLflow's monitors read of CPU, memory, disk, network and GPU, until told to stop."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id="", sampling_interval=seconds)
    while not stop.wait(seconds):
        monitor.collect_metrics()
        values = {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
        spool.append("metrics", step=step, values=values)
        for part in monitor.monitors:
            part.clear_metrics()
        step += 1


def note_facts(spool: Spool, root: Path) -> None:
    """Append what is known of code, versions and machine; the run's end waits for it."""
    spool.append("tags", values=machine.versions() | machine.machine() | run_metadata.git_tags(root))
    files = {"uncommitted.diff": run_metadata.git_diff(root), "requirements.lock": run_metadata.lock_file(root)}
    for name, data in files.items():
        if data:
            spool.append("artifact", path=spool.put(name, data), folder="code")
    spool.write("facts", {})


def send_leftovers(root: Path, own: Path | None = None) -> tuple[int, int]:
    """Send what earlier runs could not; give how many runs are complete now, and how many still are not.

    The caller's own spool is left to its run, which still has to read how it ended.
    """
    complete = waiting = 0
    for spool in Spool.all(root):
        if spool.folder == own:
            continue
        header = spool.read("header")
        if header is None or (spool.read("closing") is None and _is_running(header)):
            continue
        with spool.lock() as mine:
            if not mine:
                continue
            sent = _send_rest(spool)
        complete, waiting = complete + sent, waiting + (not sent)
    return complete, waiting


def let_end(folder: Path, names: Sequence[str], seconds: float) -> None:
    """Let the spools of earlier processes be sent to their end, so that what they say does not come after our words.

    Args:
        folder: of all spools.
        names: of the spools, oldest first.
        seconds: to wait for the sender of one of them; where there is none any more, it is sent here.

    Raises:
        TimeoutError: the store does not answer.
    """
    for spool in (Spool(folder / name) for name in names):
        until = time.monotonic() + seconds
        while spool.read("header") is not None and time.monotonic() < until:
            with suppress(FileNotFoundError), spool.lock() as mine:  # its sender removes it meanwhile
                if mine and not _send_rest(spool) and spool.read("error") is None:
                    raise TimeoutError(f"{spool.folder} could not be sent yet")
                if mine:
                    break
            time.sleep(IDLE)


def _send_rest(spool: Spool) -> bool:
    """Send what a spool whose process is gone still holds; True if that was all."""
    sent = spool.read("done") is not None or Sender(spool, alive=lambda: False).run()
    if sent:
        spool.remove()
    return sent


def _is_running(header: dict[str, Any]) -> bool:
    """Whether the process that made a spool still lives."""
    import psutil

    try:
        process = psutil.Process(header["pid"])
        return process.create_time() <= header["started"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def main(folder: Path) -> None:
    """Send the spool of the process that started this one, then what earlier runs left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run; it then says how it ended
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    spool = Spool(folder)
    header = spool.read("header") or {}
    parent = header["pid"]
    alive = _parent_watch(parent)
    prepare_environment(header["timeout_seconds"])
    root = Path(header["root"])
    leftovers = [other for other in Spool.all(root) if other.folder != folder]
    with spool.lock():
        note_facts(spool, root)
        complete = Sender(spool, alive).run()
    if complete and not alive():
        spool.remove()
    if complete and leftovers:
        send_leftovers(root, own=folder)


def _parent_watch(parent: int) -> Callable[[], bool]:
    if os.name == "nt":
        import psutil

        return psutil.Process(parent).is_running
    return lambda: os.getppid() == parent


if __name__ == "__main__":
    main(Path(sys.argv[1]))
