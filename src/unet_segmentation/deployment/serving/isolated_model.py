"""Predict with a logged model in a clean process, as anybody would who loads it from MLflow.

Run as a program, this file is that process. It imports nothing of the project: the code that was logged with the model
has to suffice. Images go in and masks come out through pipes, one after the other.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def predict_in_subprocess(uri: str, model_id: str, images: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.uint8]]:
    """Load a logged model in a clean process and predict images. Memory does not grow with their number.

    A thread reads the images, (height, width, channels) each; each yields its mask, (height, width) class ids.

    Raises:
        TrackingError: the model cannot be loaded, or refuses an image.
    """
    from unet_segmentation.errors import TrackingError

    process, errors = start_clean_process(__file__, f"models:/{model_id}", uri)
    with errors, process:
        failures: list[Exception] = []
        sender = threading.Thread(target=_send, args=(images, process.stdin, failures), daemon=True)
        sender.start()
        try:
            yield from _received(cast("IO[bytes]", process.stdout))
            sender.join()
            if failures:
                raise failures[0]
            if process.wait():
                reason = last_line(errors) or "killed"
                raise TrackingError(f"The logged model {model_id} does not work in a clean process: {reason}")
        finally:
            process.kill()


def start_clean_process(program: str, model_uri: str, store: str) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start a program without the project on its path; return its standard error, a file without a name, too."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PYTHONWARNINGS": "ignore",
    }
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process lives
    command, pipe = [sys.executable, "-P", program, model_uri], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env=environment), errors


def last_line(errors: IO[bytes]) -> str:
    """Return the last line of a process's standard error."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _send(images: Iterable[NDArray[Any]], pipe: IO[bytes], failures: list[Exception]) -> None:
    try:
        with pipe:
            for image in images:
                pickle.dump(image, pipe, protocol=5)
    except BrokenPipeError:  # the process has ended; its standard error tells why
        pass
    except Exception as error:  # of reading the images: raised by the caller
        failures.append(error)


def _received(pipe: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            yield pickle.load(pipe)
        except EOFError:
            return


def main(model_uri: str) -> None:
    """Run the clean process: load the model, read images from standard input, write masks to standard output."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that what a library prints does not mix with the masks
    import mlflow

    model = mlflow.pyfunc.load_model(model_uri).unwrap_python_model()
    images = _received(sys.stdin.buffer)
    if hasattr(model, "predict_many"):
        masks = model.predict_many(images)
    else:  # logged by an earlier version
        masks = (model.predict(None, image) for image in images)
    for mask in masks:
        pickle.dump(mask, output, protocol=5)
        output.flush()


if __name__ == "__main__":
    main(sys.argv[1])
