"""Sends journals to MLflow: that of the open run from a thread, what earlier runs have left before it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from unet_segmentation.tracking.journal import Journal, Operation, RunReference
from unet_segmentation.tracking.mlflow_client import MlflowRunClient, is_transient
from unet_segmentation.tracking.settings import first_line

VALUES = {"log_metrics", "log_params", "set_tags"}  # many go in one request
MAX_OPERATIONS = 500  # of one request
MAX_RETRIES = 6  # of one operation that a reachable server keeps refusing
LONGEST_PAUSE = 15.0  # seconds between two tries to reach a server
KILLED = "The process of the run was killed."

log = logging.getLogger(__name__)


class Uploader:
    """Sends one journal, in order, until the end of its run was sent; then the journal is removed."""

    def __init__(self, journal: Journal, on_open: Callable[[MlflowRunClient], None] | None = None) -> None:
        self.client: MlflowRunClient | None = None  # of the run, once it is open
        self.rejected: list[str] = []  # what MLflow refused for good
        self.complete = False  # whether all was sent
        self.models: dict[str, dict[str, str | None]] = {}  # key to the MLflow ids of a sent model, or to its refusal
        self._journal, self._header, self._on_open = journal, journal.header, on_open
        self._nested: dict[str, MlflowRunClient] = {}
        self.tries = 0  # of the next operation that have failed

    def open(self) -> MlflowRunClient:
        """Reopen the earlier run; or create a new one, and close an earlier one that was killed."""
        header, state = self._header, self._journal.state
        uri, earlier = header.uri, header.earlier_run_id
        client = MlflowRunClient(uri, state.run) if state.run else None
        if client is None and earlier is not None and state.resumes:
            client = MlflowRunClient.reopen(uri, earlier, header.extra_epochs)
        if client is None:  # nothing to resume, or it was deleted in MLflow
            client = MlflowRunClient.create(header)
            if earlier is not None:
                with suppress(Exception):  # it was deleted, say
                    client.mark_killed(earlier)
        self._journal.update(run=client.ids)
        self.client = client
        if self._on_open is not None:
            self._on_open(client)
        return client

    def send_next(self) -> bool | None:
        """Send the next operations; None where there are none, False where the server is away."""
        batch, position = self._next_batch()
        if not batch:
            return None
        if not self._try(batch):
            return False
        if batch[-1].name == "close" and batch[-1].nested is None:
            self._journal.remove()
            self.complete = True
        else:
            self._journal.mark_sent(batch, position)
        return True

    def _next_batch(self) -> tuple[list[Operation], int]:
        """Return the next operation, or as many as go in one request, and the position behind them."""
        batch: list[Operation] = []
        position = 0
        for operation, end in self._journal.pending():
            alone = operation.name not in VALUES
            if batch and (alone or operation.nested != batch[0].nested or len(batch) == MAX_OPERATIONS):
                break
            batch.append(operation)
            position = end
            if alone:
                break
        return batch, position

    def _try(self, batch: list[Operation]) -> bool:
        """Send a batch; return whether it needs no other try: it was sent, or refused for good."""
        try:
            self._send(self.client or self.open(), batch)
        except Exception as error:
            self.tries += 1
            log.debug("%s, try %d", batch[0].name, self.tries, exc_info=True)
            refused = self.tries >= MAX_RETRIES and self.client is not None and self.client.is_reachable()
            if is_transient(error) and not refused:
                return False
            if self.client is None:  # the run itself cannot be opened
                raise
            if len(batch) > 1:  # find the one that is refused
                self.tries = 0
                return all([self._try([operation]) for operation in batch])  # noqa: C419 - every one is tried
            self._reject(batch[0], error)
        self.tries = 0
        return True

    def _reject(self, operation: Operation, error: Exception) -> None:
        self.rejected.append(f"{operation.name}: {first_line(error)}")
        if operation.name == "log_model":
            key = str(operation.arguments["key"])
            self.models[key] = {"model_uri": None, "model_id": None, "status": f"refused: {error}"}

    def _send(self, parent: MlflowRunClient, batch: list[Operation]) -> None:
        operation = batch[0]
        if operation.name == "close":
            self._close(parent, operation)
            return
        client = parent if operation.nested is None else self._nested_client(parent, operation.nested, operation)
        if operation.name in VALUES:
            client.log_values(batch)
        elif operation.name == "log_model":
            self._send_model(client, operation)
        elif operation.name != "start_nested_run":  # that is open by now
            file = [self._journal.folder / operation.file] if operation.file else []
            getattr(client, operation.name)(*file, **operation.arguments)

    def _send_model(self, client: MlflowRunClient, operation: Operation) -> None:
        """Send a model; its id is noted first, so that a second try makes no second entry."""
        key, step, metrics = (operation.arguments[part] for part in ("key", "step", "metrics"))
        models = self._journal.state.models
        if key not in models:
            model_id = client.create_model(self._header.model_name, self._header.tags["problem"], step)
            models = models | {key: model_id}
            self._journal.update(models=models)
        model_id = models[key]
        client.log_model(self._journal.folder / str(operation.file), model_id, step, metrics)
        self.models[key] = {"model_uri": f"models:/{model_id}", "model_id": model_id, "status": "logged"}

    # -- nested runs

    def _nested_client(self, parent: MlflowRunClient, key: str, operation: Operation) -> MlflowRunClient:
        """Return the client of a nested run; its first operation opens it."""
        if key not in self._nested:
            ids = self._journal.state.nested.get(key)
            client = MlflowRunClient(parent.uri, ids) if ids else self._open_nested(parent, operation)
            self._nested[key] = client
            self._journal.update(nested={**self._journal.state.nested, key: client.ids})
        return self._nested[key]

    def _open_nested(self, parent: MlflowRunClient, operation: Operation) -> MlflowRunClient:
        """Reopen the MLflow run that a nested run's note names, or create one."""
        name, note, tags, started = (operation.arguments[part] for part in ("name", "note", "tags", "started"))
        file, tags = Path(note), {**tags, "mlflow.parentRunId": parent.run_id}
        earlier, client = RunReference.read(file), None
        if earlier is not None and earlier.uri == parent.uri:
            client = MlflowRunClient.reopen(parent.uri, earlier.run_id)
        if client is not None:
            client.set_tags(tags)
        else:
            values = {"started": started, "run_name": name, "tags": self._header.tags | tags}
            client = MlflowRunClient.create(self._header.model_copy(update=values))
        if file.parent.is_dir():  # else it was removed, and has no use for a note
            RunReference(uri=parent.uri, run_id=client.run_id).write(file)
        return client

    def _close(self, parent: MlflowRunClient, operation: Operation) -> None:
        """Close a nested run; or the run itself, and then the nested runs that are still open."""
        nested, errors = self._journal.state.nested, []
        clients = [parent] if operation.nested is None else []
        clients += [MlflowRunClient(parent.uri, ids) for key, ids in nested.items() if operation.nested in {key, None}]
        for client in clients:
            try:
                client.close(**operation.arguments)
            except Exception as error:  # one that was deleted in MLflow must not leave the others open
                if is_transient(error):
                    raise
                errors.append(error)
        if errors:
            raise errors[0]
        if operation.nested is not None:
            self._nested.pop(operation.nested, None)
            self._journal.update(nested={key: ids for key, ids in nested.items() if key != operation.nested})


class BackgroundUploader:
    """Sends the journal of the open run from a thread, while it is written."""

    def __init__(self, uploader: Uploader, journal: Journal, root: Path, patience: float) -> None:
        self.uploader = uploader
        self.decided = threading.Event()  # set as soon as it is known which MLflow run the journal belongs to
        self._journal, self._root, self._patience = journal, root, patience
        self._stopped, self._progress, self._steps = threading.Event(), threading.Condition(), 0
        self.thread = threading.Thread(target=self._work, name="mlflow-uploader", daemon=True)

    def _work(self) -> None:
        try:
            upload_pending(self._root, before=self._journal, on_step=self._step, stopped=self._stopped)
            self.decided.wait()
            while not (self._stopped.is_set() or self.uploader.complete):
                self._journal.appended.clear()
                sent = self.uploader.send_next()
                if sent is None:
                    self._journal.appended.wait()
                elif sent:
                    self._step()
                else:
                    self._stopped.wait(min(LONGEST_PAUSE, 0.25 * 2 ** min(self.uploader.tries, 6)))
        except Exception:
            log.debug("the uploader has stopped", exc_info=True)
            raise
        finally:
            self._step()

    def _step(self) -> None:
        with self._progress:
            self._steps += 1
            self._progress.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, as long as requests go through."""
        with self._progress:
            while not condition() and self.thread.is_alive():
                steps = self._steps
                self._progress.wait(self._patience)
                if self._steps == steps:
                    return

    def stop(self, patience: float) -> bool:
        """Send nothing more; return False where the thread is still in the middle of a request."""
        self._stopped.set()
        self.decided.set()
        self._journal.appended.set()
        self.thread.join(patience)
        return not self.thread.is_alive()


def upload_pending(
    root: Path,
    before: Journal | None = None,
    on_step: Callable[[], None] = lambda: None,
    stopped: threading.Event | None = None,
) -> tuple[int, int]:
    """Send what earlier runs could not; a run whose process is gone without an end is closed as KILLED.

    An open run (`before`) sends only what goes to its own MLflow store. If it resumes a run, that run's journal is
    retried until it was sent or the upload is `stopped`, so that everything arrives in order.

    Returns:
        How many journals were sent to their end, and how many were not.
    """
    complete = waiting = 0
    Journal.remove_leftovers(root)
    for journal in Journal.find_all(root):
        try:
            uri, run_id = journal.header.uri, journal.run_id
        except (OSError, ValueError):  # its run has ended meanwhile
            continue
        if before is not None and (journal.folder == before.folder or uri != before.header.uri):
            continue
        first = before is not None and run_id is not None and run_id == before.run_id
        with journal.lock(wait=first) as held:
            if not held:
                continue
            sent = _upload_rest(journal, on_step)
            while first and stopped is not None and not sent and not stopped.wait(1.0):
                sent = _upload_rest(journal, on_step)
        complete, waiting = complete + sent, waiting + (not sent)
    return complete, waiting


def _upload_rest(journal: Journal, on_step: Callable[[], None]) -> bool:
    """Send the rest of a journal whose process is gone; return whether all was sent."""
    try:
        uploader = Uploader(journal)
        while not uploader.complete:
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
    return True
