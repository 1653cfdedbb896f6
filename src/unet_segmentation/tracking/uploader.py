"""Sends journals to MLflow: that of the open run from a thread, what earlier runs have left before it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from unet_segmentation.tracking.journal import Journal, Operation, RunIds, RunReference

if TYPE_CHECKING:
    from unet_segmentation.tracking.mlflow_client import MlflowRunClient

VALUES = {"log_metrics", "log_params", "set_tags"}  # many go in one request
MAX_OPERATIONS = 500  # of one request
MAX_RETRIES = 6  # of one operation that a reachable server keeps refusing
LONGEST_PAUSE = 15.0  # seconds between two tries to reach a server
KILLED = "The process of the run was killed."

Connect = Callable[[str, RunIds], "MlflowRunClient"]
OnOpen = Callable[["MlflowRunClient"], None]

log = logging.getLogger(__name__)


def connect(uri: str, ids: RunIds) -> MlflowRunClient:
    """Return the client of a run. MLflow is imported here."""
    from unet_segmentation.tracking.mlflow_client import MlflowRunClient

    return MlflowRunClient(uri, ids)


class Uploader:
    """Sends one journal, in order, until the end of its run was sent.

    Attributes:
        rejected: what MLflow refused for good.
        complete: whether all was sent.
        models: of each model that was sent: operation id to its MLflow id, or to why it was refused.
    """

    def __init__(self, journal: Journal, connect: Connect = connect, on_open: OnOpen | None = None) -> None:
        self.rejected: list[str] = []
        self.complete = False
        self.models: dict[str, dict[str, str | None]] = {}
        self._journal, self._connect, self._on_open = journal, connect, on_open or (lambda client: None)
        self._header = journal.header
        self._client, self._opened = connect(self._header.uri, journal.ids), False
        self._nested: dict[str, MlflowRunClient] = {}
        self._tries = 0

    def open(self) -> None:
        """Continue the earlier run, or create a new one and close an earlier one that nobody closes."""
        ids, header, client = self._journal.ids, self._header, self._client
        resumed = ids.run_id is not None and (ids.opened or client.reopen(ids.run_id, header.extra_epochs))
        if not resumed:  # nothing to resume, or it was deleted in MLflow
            client.create(header)
            if header.earlier_run_id is not None:
                with suppress(Exception):  # it was deleted, say
                    client.mark_killed(header.earlier_run_id)
        self._journal.write("run", client.ids.model_copy(update={"opened": True}).model_dump())
        self._opened = True
        self._on_open(client)

    def send_next(self) -> bool | None:
        """Send the next operations; None where there are none, False where the server is away."""
        batch, position = self._next_batch()
        if not batch:
            return None
        try:
            if not self._opened:
                self.open()
            done = self._try(batch)
        except Exception as error:  # of opening
            if not _is_transient(error):
                raise
            log.debug("the run could not be opened yet", exc_info=True)
            self._tries += 1
            done = False
        if not done:
            return False
        self._tries = 0
        self.complete = batch[-1].name == "close" and batch[-1].nested is None
        self._journal.advance(position, complete=self.complete)
        for operation in batch:
            self._journal.release(operation)
        return True

    def _next_batch(self) -> tuple[list[Operation], int]:
        """Return the next operation, or as many as go in one request, and the position behind them."""
        batch: list[Operation] = []
        position = 0
        for operation, end in self._journal.pending():
            other = bool(batch) and operation.nested != batch[0].nested
            if batch and (other or operation.name not in VALUES or len(batch) >= MAX_OPERATIONS):
                break
            batch.append(operation)
            position = end
            if operation.name not in VALUES:
                break
        return batch, position

    @property
    def pause(self) -> float:
        """Seconds to wait before the next try."""
        return min(LONGEST_PAUSE, 0.25 * 2 ** min(self._tries, 6))

    def _try(self, batch: list[Operation]) -> bool:
        """Send; True if it is done with, sent or refused for good."""
        try:
            self._send(batch)
        except Exception as error:
            self._tries += 1
            transient = _is_transient(error) and not (self._tries >= MAX_RETRIES and self._client.is_reachable())
            log.debug("%s, try %d", batch[0].name, self._tries, exc_info=True)
            if transient:
                return False
            if len(batch) > 1:  # find the one that is refused
                self._tries = 0
                return sum(self._try([operation]) for operation in batch) == len(batch)  # every one is tried
            self._reject(batch[0], error)
        self._tries = 0
        return True

    def _reject(self, operation: Operation, error: Exception) -> None:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        self.rejected.append(f"{operation.name}: {first_line}")
        if operation.name == "log_model":
            key = str(operation.arguments["key"])
            self.models[key] = {"model_uri": None, "model_id": None, "status": f"refused: {error}"}

    def _send(self, batch: list[Operation]) -> None:
        operation = batch[0]
        client = self._client_of(operation)
        if operation.name in VALUES:
            client.log_values(batch)
        elif operation.name == "log_model":
            self._send_model(client, operation)
        elif operation.name == "close":
            self._close(client, operation)
        elif operation.name != "start_nested_run":  # that is open by now
            file = [self._journal.folder / operation.file] if operation.file else []
            getattr(client, operation.name)(*file, **operation.arguments)

    def _send_model(self, client: MlflowRunClient, operation: Operation) -> None:
        """Send a model; its id is noted first, so that a second try makes no second entry."""
        key, step, metrics = (operation.arguments[part] for part in ("key", "step", "metrics"))
        note = self._journal.read(f"model-{key}")
        header = self._header
        model_id = str(note["model_id"]) if note else client.create_model(header.model_name, header.experiment, step)
        self._journal.write(f"model-{key}", {"model_id": model_id})
        client.log_model(self._journal.folder / str(operation.file), model_id, step, metrics)
        self.models[str(key)] = {"model_uri": f"models:/{model_id}", "model_id": model_id, "status": "logged"}

    # -- nested runs

    def _client_of(self, operation: Operation) -> MlflowRunClient:
        """Return the client of the run that an operation is for; the first one opens a nested run."""
        key = operation.nested
        if key is None:
            return self._client
        if key not in self._nested:
            note = (self._journal.read("nested") or {}).get(key)
            if note:
                self._nested[key] = self._connect(self._header.uri, RunIds.model_validate(note))
            else:
                self._nested[key] = self._open_nested(self._client.run_id, operation)
                self._note_nested(key)
        return self._nested[key]

    def _open_nested(self, parent: str, operation: Operation) -> MlflowRunClient:
        """Reopen the MLflow run that a nested run's note names, or create one."""
        name, note, tags, started = (operation.arguments[part] for part in ("name", "note", "tags", "started"))
        client, file = self._connect(self._header.uri, RunIds()), Path(str(note))
        tags = {**tags, "mlflow.parentRunId": parent}
        earlier = RunReference.read(file)
        if earlier is not None and earlier.uri == self._header.uri and client.reopen(earlier.run_id):
            client.log_values([operation.model_copy(update={"name": "set_tags", "arguments": {"values": tags}})])
        else:
            values = {"started": started, "run_name": name, "tags": self._header.tags | tags}
            client.create(self._header.model_copy(update=values))
        if file.parent.is_dir():  # else it was removed, and has no use for a note
            RunReference(uri=self._header.uri, run_id=client.run_id).write(file)
        return client

    def _note_nested(self, key: str, *, closed: bool = False) -> None:
        ids = self._nested[key].ids.model_copy(update={"closed": closed}).model_dump()
        self._journal.write("nested", {**(self._journal.read("nested") or {}), key: ids})

    def _close(self, client: MlflowRunClient, operation: Operation) -> None:
        """Close a nested run; or the run itself, and first the nested ones that nobody has closed."""
        if operation.nested is not None:
            client.close(**operation.arguments)
            self._note_nested(operation.nested, closed=True)
            return
        for key, note in (self._journal.read("nested") or {}).items():
            if not RunIds.model_validate(note).closed:
                part = operation.model_copy(update={"nested": key})
                self._close(self._client_of(part), part)
        client.close(**operation.arguments)


def _is_transient(error: Exception) -> bool:
    from unet_segmentation.tracking.mlflow_client import is_transient

    return is_transient(error)


class BackgroundUploader:
    """Sends the journal of the open run from a thread, while it is written.

    Attributes:
        decided: is set as soon as it is known which MLflow run the journal belongs to.
    """

    def __init__(self, uploader: Uploader, journal: Journal, root: Path, patience: float) -> None:
        self.decided = threading.Event()
        self._uploader, self._journal, self._root, self._patience = uploader, journal, root, patience
        self._stopped, self._progress, self._steps = threading.Event(), threading.Condition(), 0
        self._thread = threading.Thread(target=self._work, name="mlflow-uploader", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _work(self) -> None:
        try:
            upload_pending(self._root, before=self._journal, on_step=self._step, stopped=self._stopped)
            self.decided.wait()
            while not (self._stopped.is_set() or self._uploader.complete):
                self._journal.appended.clear()
                sent = self._uploader.send_next()
                if sent is None:
                    self._journal.appended.wait()
                elif sent:
                    self._step()
                else:
                    self._stopped.wait(self._uploader.pause)
        except Exception:
            log.debug("the uploader has stopped", exc_info=True)
            raise
        finally:
            self._step()

    def _step(self) -> None:
        with self._progress:
            self._steps += 1
            self._progress.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition holds, as long as requests go through; return whether it holds."""
        with self._progress:
            while not condition() and self._thread.is_alive():
                steps = self._steps
                self._progress.wait(self._patience)
                if self._steps == steps:
                    break
        return condition()

    def stop(self, patience: float) -> bool:
        """Send nothing more; return False where the thread is still in the middle of a request."""
        self._stopped.set()
        self.decided.set()
        self._journal.appended.set()
        self._thread.join(patience)
        return not self._thread.is_alive()


def upload_pending(
    root: Path,
    before: Journal | None = None,
    on_step: Callable[[], None] = lambda: None,
    stopped: threading.Event | None = None,
) -> tuple[int, int]:
    """Send what earlier runs could not; a run whose process is gone without an end is closed as KILLED.

    Args:
        root: the project's root.
        before: the journal of the open run. Only what goes to the same MLflow store is sent then; what belongs to the
            run that it resumes is waited for, so that everything comes in order.
        on_step: is called after each request.
        stopped: ends the waiting.

    Returns:
        How many journals were sent to their end, and how many were not.
    """
    complete = waiting = 0
    uri, run_id = (before.header.uri, before.ids.run_id) if before else (None, None)
    for journal in Journal.find_all(root):
        if before is not None and (journal.folder == before.folder or journal.header.uri != uri):
            continue
        first = run_id is not None and journal.ids.run_id == run_id
        with journal.lock(wait=first) as held:
            if not held:
                continue
            sent = _upload_rest(journal, on_step)
            while first and stopped is not None and not sent and not stopped.wait(1.0):
                sent = _upload_rest(journal, on_step)
        complete, waiting = complete + sent, waiting + (not sent)
    return complete, waiting


def _upload_rest(journal: Journal, on_step: Callable[[], None]) -> bool:
    """Send what a journal without a process still holds; True if that was all."""
    try:
        uploader = Uploader(journal)
        while not (uploader.complete or journal.is_complete):
            sent = uploader.send_next()
            if sent is None:
                end = {"status": "KILLED", "reason": KILLED, "time": time.time()}
                journal.append("close", arguments=end)
            elif not sent:
                return False
            on_step()
    except Exception:
        log.debug("%s cannot be sent", journal.folder, exc_info=True)
        return False
    journal.remove()
    return True
