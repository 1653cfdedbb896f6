"""The process of a served model: requests come in through a pipe, several are in work at a time.

Like `afresh`, this file is run as a program and imports nothing of the project: the code that was logged with the model
must do, so that two versions with different code can run side by side. Decoding and encoding run in threads beside the
network.
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

TOO_LATE, FAILED = 504, 500  # HTTP's numbers
LEAST_THREADS, MOST_THREADS = 2, 8


def main(model_uri: str) -> None:
    """Load a model, say what it is, then answer until standard input ends.

    Standard input: pickled (number, data, deadline in seconds since 1970). Standard output: pickled (number, status,
    answer or reason); before that (0, 200, description), or (0, 500, reason) where there is no such model.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which closes the pipe
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints does not mix with the answers
    writing = threading.Lock()

    def give(number: int, status: int, content: Any) -> None:  # noqa: ANN401
        with writing, contextlib.suppress(BrokenPipeError):  # the server is gone: standard input ends, too
            pickle.dump((number, status, content), answers, protocol=5)
            answers.flush()

    try:
        model, description = _load(model_uri)
    except Exception as error:
        give(0, FAILED, " ".join(str(error).split()) or type(error).__name__)
        return
    give(0, 200, description)
    threads = min(MOST_THREADS, max(LEAST_THREADS, os.cpu_count() or 1))
    with ThreadPoolExecutor(threads) as pool:
        while True:
            try:
                number, data, deadline = pickle.load(sys.stdin.buffer)
            except EOFError:
                break
            pool.submit(lambda number, *request: give(number, *_answer(model, *request)), number, data, deadline)


def _load(uri: str) -> tuple[Any, dict[str, Any]]:
    """Load a model and let it compute once: what is made at the first call should not be on a client's time."""
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
    """Return status and answer; never an error, which a thread would keep to itself."""
    from mlflow.exceptions import MlflowException

    if time.time() > deadline:
        return TOO_LATE, "It was not its turn in time"
    try:
        return 200, model.predict(None, data, {"answer": "png"})
    except MlflowException as error:
        return error.get_http_status_code(), error.message
    except Exception as error:
        return FAILED, f"The model failed ({type(error).__name__}: {error})"


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # all is answered; to take torch down in good order takes seconds
