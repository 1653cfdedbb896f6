"""A real web server with every misbehaviour, and archives of every kind."""

from __future__ import annotations

import contextlib
import io
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from unet_segmentation.sources import download

PAIRS = {
    f"top/{folder}/{name}.png": f"{folder}{name}".encode() * 50 for folder in ("images", "masks") for name in "abc"
}


class Site:
    """A server on loopback. ``files`` are served by name; other paths misbehave as they are called."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failures = 0  # so many requests are answered 503 first
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                site.requests.append(self.path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    site.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        kind, _, rest = handler.path.lstrip("/").partition("/")
        if self.failures:
            self.failures -= 1
            handler.send_error(503)
        elif kind == "status":
            handler.send_error(int(rest))
        elif kind == "hang":
            self.released.wait(10)
        elif kind in {"redirect", "circle"}:
            handler.send_response(302)
            handler.send_header("Location", f"/{rest}" if kind == "redirect" else handler.path)
            handler.end_headers()
        elif kind == "portal":
            self.send(handler, b"<!DOCTYPE html><title>Log in</title>", "text/html")
        elif kind == "truncated":
            self.send(handler, self.files[rest][:-20], length=len(self.files[rest]))
        elif kind == "huge":
            self.send(handler, b"x", length=10**18)
        elif kind == "slow":
            self.send(handler, self.files[rest], pause=0.02)
        elif kind == "stalled":
            self.send(handler, self.files[rest][:100], length=len(self.files[rest]))
            self.released.wait(10)
        elif kind == "chunked":
            handler.protocol_version = "HTTP/1.1"
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            body = self.files[rest]
            handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        elif kind in self.files:
            self.send(handler, self.files[kind])
        else:
            handler.send_error(404)

    @staticmethod
    def send(
        handler: BaseHTTPRequestHandler,
        body: bytes,
        kind: str = "application/zip",
        length: int | None = None,
        pause: float = 0.0,
    ) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        for start in range(0, len(body), 200):
            handler.wfile.write(body[start : start + 200])
            handler.wfile.flush()
            time.sleep(pause)

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A running server; attempts follow each other at once, and no proxy stands between."""
    monkeypatch.setattr(download, "BACK_OFF", 0.01)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = Site()
    yield running
    running.close()


def zipped(files: dict[str, bytes]) -> bytes:
    """Make a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w", *extra: tarfile.TarInfo) -> bytes:
    """Make a tar archive; ``extra`` are members without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return stream.getvalue()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Write bytes to a file."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write
