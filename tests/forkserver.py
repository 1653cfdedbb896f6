"""A process that has imported the heavy libraries once and forks a process for each kedro command or Python program.

Half of what a short command costs are its imports. A forked command is a process as any other: it has an id, a status
and signals of its own, and ends as an interpreter ends. The project's own modules and Kedro's project are not imported
here: each command imports those of its own folder.

The server reads one request a connection from a Unix socket (JSON, with standard input, output and error as file
descriptors), answers with the id of the process, and with its exit status when it has ended. It ends with its parent.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    "torch", "torch.distributed", "torchvision", "torchmetrics", "lightning.pytorch", "segmentation_models_pytorch",
    "albumentations", "cv2", "scipy.ndimage", "scipy.stats", "pandas", "pyarrow.parquet", "matplotlib.pyplot",
    "plotly.graph_objects", "plotly.io", "mlflow", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "optuna",
    "omegaconf", "dynaconf", "pydantic", "fsspec", "jinja2", "kedro.io", "kedro.pipeline", "kedro.config",
    "kedro_datasets", "rich.console",
)  # fmt: skip
FORBIDDEN = ("kedro.framework.project", "unet_segmentation")  # what belongs to the folder of a command
KEDRO = Path(sys.executable).with_name("kedro")


def preload() -> None:
    """Import the libraries; those that are not installed are left to the commands.

    Raises:
        RuntimeError: something was imported that a command must import itself, or a thread runs: a fork would lose it.
    """
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            import_module(name)
    if loaded := [name for name in FORBIDDEN if name in sys.modules]:
        raise RuntimeError(f"imported by a library: {loaded}")
    if threading.active_count() > 1:
        raise RuntimeError(f"a library runs threads: {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # the collector of a forked process need not look at, and so copy, what is here


def serve(listener: socket.socket) -> dict | None:
    """Fork a process for each request; return the request in the forked one, None when the parent has gone."""
    running: dict[int, socket.socket] = {}
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for pytest
    selector = selectors.DefaultSelector()
    for file in (listener, wake, 0):
        selector.register(file, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0 and not os.read(0, 1):
                return None
            if key.fileobj == wake:
                os.read(wake, 1024)
                _report_ends(running)
            if key.fileobj == listener:
                connection = listener.accept()[0]
                request, descriptors = _receive(connection)
                process = os.fork()
                if process == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    selector.close()
                    for file in (listener, connection, *running.values()):
                        file.close()
                    for file in (wake, woken):
                        os.close(file)
                    _become(request, descriptors)
                    return request
                for descriptor in descriptors:
                    os.close(descriptor)
                running[process] = connection
                connection.sendall(f"{process}\n".encode())


def _receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """Read a request: its length in a line, then JSON; the descriptors come with the first bytes."""
    data, descriptors, _, _ = socket.recv_fds(connection, 65536, 3)
    while b"\n" not in data:
        data += connection.recv(65536)
    length, _, text = data.partition(b"\n")
    while len(text) < int(length):
        text += connection.recv(65536)
    return json.loads(text), list(descriptors)


def _report_ends(running: dict[int, socket.socket]) -> None:
    while running:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        if connection := running.pop(process, None):
            with connection, contextlib.suppress(OSError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: dict, descriptors: list[int]) -> None:
    """Take on the folder, environment, arguments and streams of a command."""
    import random

    import numpy as np

    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    if request["session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    program = request["command"][0]
    sys.argv[:] = request["command"] if program == str(KEDRO) else request["command"][1:]
    first = str(KEDRO.parent) if program == str(KEDRO) else ""
    sys.path[:] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    random.seed()
    np.random.seed()
    buffered = "PYTHONUNBUFFERED" not in os.environ
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering=1 if number == 2 else -1, closefd=False)  # noqa: SIM115 - as long as the process
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    if not buffered:
        sys.stdout.reconfigure(write_through=True, line_buffering=True)


def run(program: str) -> int:
    """Run the command as an interpreter does, with its threads and exit functions, but for the clearing of memory.

    To clear the memory of all libraries takes longer than most commands.
    """
    status: object = 0
    try:
        if program == str(KEDRO):
            from kedro.framework.cli import main

            main()
        elif sys.argv[0] == "-c":
            code = sys.argv.pop(1)
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        elif sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    if status is not None and not isinstance(status, int):
        sys.stderr.write(f"{status}\n")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status if isinstance(status, int) else int(status is not None)


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as LISTENER:
        LISTENER.bind(sys.argv[1])
        preload()
        LISTENER.listen(64)
        os.write(1, b"ready\n")
        REQUEST = serve(LISTENER)
    if REQUEST is not None:
        __file__ = str(KEDRO)  # what processes that the command spawns look for
        os._exit(run(REQUEST["command"][0]))
    os._exit(0)
