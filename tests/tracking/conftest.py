"""Real stores: a SQLite file, or one `mlflow server` for the session, behind a door that can be closed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import requests

from tests.conftest import PATIENCE
from tests.toy_project import empty_store
from unet_segmentation.tracking.settings import URI_VARIABLE


@pytest.fixture(autouse=True)
def _no_store_of_the_user(monkeypatch):
    monkeypatch.delenv(URI_VARIABLE, raising=False)


@pytest.fixture
def root(tmp_path):
    """A project's root whose name needs quoting in addresses."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store())
    return folder


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Door:
    """Passes connections on to a server, until it is closed: then they are refused, as if the server was away."""

    def __init__(self, target: int) -> None:
        self._target, self.port = target, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def open(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            for connection in (self._listener, *self._connections):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            self._listener, self._connections = None, []

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                inside, _ = listener.accept()
                outside = socket.create_connection(("127.0.0.1", self._target))
                self._connections += [inside, outside]
                for source, target in ((inside, outside), (outside, inside)):
                    threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """Start the session's server; its port."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        [*command, "--workers", "1"], env=environment, cwd=folder, start_new_session=True, **quiet
    )
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(requests.RequestException):
            if requests.get(f"http://127.0.0.1:{port}/health", timeout=2).ok:
                break
        assert time.monotonic() < until, "the MLflow server did not start"
        time.sleep(0.2)
    yield port
    os.killpg(process.pid, signal.SIGKILL)  # the server and its workers, all in the group that was made for them
    process.wait()


@pytest.fixture
def server(mlflow_server):
    """An address of the server, that can be closed and opened."""
    door = Door(mlflow_server)
    yield door
    door.close()
