"""Commands as processes: forked from one that has the heavy libraries imported, or started from nothing."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

KEDRO = Path(sys.executable).with_name("kedro")
PATIENCE = 1200.0  # seconds until something that must come counts as lost, on a slow machine under load


class ForkedProcess:
    """A command that the fork server runs, with the part of the interface of `subprocess.Popen` that tests use."""

    def __init__(
        self, command: list[str], folder: Path, environment: dict[str, str], separate_errors: bool, new_group: bool
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        request = {"command": command, "folder": str(folder), "environment": environment, "session": new_group}
        self.stdout, output = _pipe()
        self.stderr, errors = _pipe() if separate_errors else (None, output)
        with open(os.devnull) as nothing:
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.connect(_server())
            text = json.dumps(request).encode()
            socket.send_fds(self._connection, [b"%d\n" % len(text)], [nothing.fileno(), output, errors])
            self._connection.sendall(text)
        for descriptor in {output, errors}:
            os.close(descriptor)
        self._answers = self._connection.makefile()
        self.pid = int(self._answers.readline())

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._close()

    def poll(self) -> int | None:
        """Return the exit status, None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status: that of the process, or the negative number of the signal that ended it."""
        if self.returncode is None:
            self._connection.settimeout(max(timeout, 1e-3) if timeout is not None else None)
            try:
                answer = self._connection.recv(16)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            if not answer:
                raise ChildProcessError("the fork server has gone")
            self.returncode = int(answer)
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str | None]:
        """Read output and errors to their ends, and wait for the process."""
        texts: dict[TextIO, str] = {}

        def read(stream: TextIO) -> None:
            texts[stream] = stream.read()

        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        readers = [threading.Thread(target=read, args=[stream], daemon=True) for stream in streams]
        until = time.monotonic() + timeout
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(max(0.0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(max(1.0, until - time.monotonic()))
        self._close()
        return texts[self.stdout], texts.get(self.stderr) if self.stderr is not None else None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def _close(self) -> None:
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


Process = ForkedProcess | subprocess.Popen[str]


def start_kedro(
    arguments: Sequence[object],
    folder: Path,
    environment: Mapping[str, str],
    *,
    separate_errors: bool = False,
    new_group: bool = False,
    fresh: bool = False,
) -> Process:
    """Start a kedro command; its output comes through `stdout`, its errors too unless they are to be separate.

    `fresh` starts an interpreter that has nothing imported: for what a library reads from the environment when it is
    imported, and to be as close to a user's shell as can be.
    """
    return _start([KEDRO, *arguments], folder, environment, separate_errors, new_group, fresh)


def start_python(
    arguments: Sequence[object],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    separate_errors: bool = False,
    new_group: bool = False,
    fresh: bool = False,
) -> Process:
    """Start a Python program, by `-c CODE` or `-m MODULE` and its arguments, as a kedro command is started."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"} if environment is None else environment
    command = [sys.executable, *arguments]
    return _start(command, folder or Path.cwd(), environment, separate_errors, new_group, fresh)


def _start(
    command: Sequence[object],
    folder: Path,
    environment: Mapping[str, str],
    separate_errors: bool,
    new_group: bool,
    fresh: bool,
) -> Process:
    words = list(map(str, command))
    if not fresh and sys.platform == "linux":
        return ForkedProcess(words, folder, dict(environment), separate_errors, new_group)
    return subprocess.Popen(
        words,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if separate_errors else subprocess.STDOUT,
        text=True,
        start_new_session=new_group,
    )


def run_kedro(
    arguments: Sequence[object],
    folder: Path,
    environment: Mapping[str, str],
    **options: bool,
) -> subprocess.CompletedProcess[str]:
    """Run a kedro command to its end."""
    process = start_kedro(arguments, folder, environment, **options)
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return subprocess.CompletedProcess(process.args, process.wait(), output, errors)


def _pipe() -> tuple[TextIO, int]:
    reading, writing = os.pipe()
    return open(reading), writing


@functools.cache
def _server() -> str:
    """Start the fork server, once a process of tests; return its address."""
    folder = tempfile.mkdtemp(prefix="forkserver-")
    address = f"{folder}/socket"
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "COLUMNS"}}
    environment["MLFLOW_CONFIGURE_LOGGING"] = "false"  # read at the import; the project sets it before its own
    command = [sys.executable, Path(__file__).with_name("forkserver.py"), address]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError("the fork server did not start")
    return address
