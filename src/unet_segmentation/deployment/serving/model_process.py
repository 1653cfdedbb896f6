"""The process of a served model: requests come in through a pipe, and several are processed at a time.

Like `isolated_model`, this file is run as a program and imports nothing of the project: the code that was logged with
the model has to suffice, so that two versions with different code can run in parallel. Decoding and encoding run in
threads in parallel with the network.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

GATEWAY_TIMEOUT, INTERNAL_SERVER_ERROR = 504, 500
MIN_THREADS, MAX_THREADS = 2, 8


def main(model_uri: str) -> None:
    """Load a model, describe it, then serve requests until standard input ends.

    Standard input: pickled (number, data, deadline in seconds since 1970). Standard output: pickled (number, status,
    answer or reason); before that (0, 200, description), or (0, 500, reason) where there is no such model.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which closes the pipe
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that what a library prints does not mix with the responses
    lock = threading.Lock()

    def respond(number: int, status: int, content: Any) -> None:  # noqa: ANN401
        with lock, contextlib.suppress(BrokenPipeError):  # the server is gone: standard input ends, too
            pickle.dump((number, status, content), output, protocol=5)
            output.flush()

    try:
        model, description = _load(model_uri)
    except Exception as error:
        respond(0, INTERNAL_SERVER_ERROR, " ".join(str(error).split()) or type(error).__name__)
        return
    respond(0, 200, description)
    threads = min(MAX_THREADS, max(MIN_THREADS, os.cpu_count() or 1))
    with ThreadPoolExecutor(threads) as pool:
        while True:
            try:
                number, data, deadline = pickle.load(sys.stdin.buffer)
            except EOFError:
                break
            pool.submit(lambda number, *request: respond(number, *_answer(model, *request)), number, data, deadline)


def _load(uri: str) -> tuple[Any, dict[str, Any]]:
    """Load a model and predict once, so that no client waits for what the first call initializes."""
    import mlflow
    import numpy as np

    model = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    if not hasattr(model, "describe"):
        raise RuntimeError(
            "it was logged by an earlier version of the project, and takes no image files. Log it again (kedro run "
            "--pipelines evaluation) and release it (kedro release)"
        )
    description = model.describe()
    model.predict(None, np.zeros((256, 256, description["channels"]), np.uint8), {"answer": "png"})
    return model, description


def _answer(model: Any, data: bytes, deadline: float) -> tuple[int, Any]:  # noqa: ANN401
    """Return status and answer; never raise, as a thread would swallow the error."""
    from mlflow.exceptions import MlflowException

    if time.time() > deadline:
        return GATEWAY_TIMEOUT, "It was not its turn in time"
    try:
        return 200, model.predict(None, data, {"answer": "png"})
    except MlflowException as error:
        return error.get_http_status_code(), error.message
    except Exception as error:
        return INTERNAL_SERVER_ERROR, f"The model failed ({type(error).__name__}: {error})"


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # every request is answered; an orderly end of torch takes seconds
