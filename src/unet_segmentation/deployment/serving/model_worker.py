"""A model in a process of its own, as the server sees it."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from unet_segmentation.deployment.serving.isolated_model import last_line, start_clean_process
from unet_segmentation.errors import TrackingError

START_SECONDS = 300.0  # to load a model, from a slow store
END_SECONDS = 10.0  # to finish after the pipe was closed


class WorkerDiedError(Exception):
    """The process has ended, or was told to; the request was not answered."""


class Answer(NamedTuple):
    """What a process said."""

    status: int  # HTTP's
    content: Any  # the record, or the reason


class Worker:
    """Starts a model's process and speaks with it; any thread may ask.

    Attributes:
        description: what the model says of itself: `classes`, `channels`, `max_pixels`, `computes`.
    """

    def __init__(self, model_uri: str, store: str) -> None:
        """Start the process of a model (`models:/m-...`, or its folder); wait until it is loaded and has computed once.

        Raises:
            TrackingError: the model cannot be loaded.
        """
        self._waiting: dict[int, Future[Answer]] = {}
        self._numbers = itertools.count(1)
        self._lock, self._closed = threading.Lock(), False
        self._process, errors = start_clean_process(str(Path(__file__).with_name("model_process.py")), model_uri, store)
        first = self._expect(0)
        threading.Thread(target=self._read, daemon=True).start()
        try:
            status, self.description = first.result(START_SECONDS)
        except (WorkerDiedError, TimeoutError):
            status, self.description = 500, last_line(errors) or "its process ended, or did not answer"
        if status != 200:
            self._process.kill()
            self.close(wait=True)
            raise TrackingError(f"The model {model_uri} cannot be served: {self.description}.")

    @property
    def process_id(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def ask(self, data: bytes, deadline: float) -> Future[Answer]:
        """Send an image file; return its answer, or WorkerDiedError, some time.

        If its turn has not come by the deadline (in seconds since 1970), it is not computed.

        Raises:
            WorkerDiedError: the process takes no more requests.
        """
        with self._lock:
            if self._closed:
                raise WorkerDiedError
            number = next(self._numbers)
            answer = self._expect(number)
            try:
                pipe = cast("IO[bytes]", self._process.stdin)
                pickle.dump((number, data, deadline), pipe, protocol=5)
                pipe.flush()
            except OSError:
                self._waiting.pop(number, None)
                raise WorkerDiedError from None
        return answer

    def close(self, *, wait: bool = False) -> None:
        """Refuse new requests, answer those in flight, and end the process."""
        with self._lock:
            self._closed = True
            with contextlib.suppress(OSError):
                cast("IO[bytes]", self._process.stdin).close()
        if wait:
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _expect(self, number: int) -> Future[Answer]:
        answer: Future[Answer] = Future()
        self._waiting[number] = answer
        return answer

    def _read(self) -> None:
        """Hand out answers until the process has ended, in whatever way."""
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError), cast("IO[bytes]", self._process.stdout):
            while True:
                number, *answer = pickle.load(cast("IO[bytes]", self._process.stdout))
                if future := self._waiting.pop(number, None):
                    _settle(future, Answer(*answer))
        with self._lock:
            self._closed = True
        self._process.wait()
        for future in list(self._waiting.values()):
            _settle(future, WorkerDiedError())
        self._waiting.clear()


def _settle(future: Future[Answer], answer: Answer | WorkerDiedError) -> None:
    """Answer, unless the client has left."""
    if future.set_running_or_notify_cancel():
        if isinstance(answer, WorkerDiedError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
