"""A real web server with every misbehavior, and archives of every kind."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import tarfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from unet_segmentation.data.ingestion import download

PAIRS = {
    f"top/{folder}/{name}.png": f"{folder}{name}".encode() * 50 for folder in ("images", "masks") for name in "abc"
}


class Site:
    """A server on loopback. ``files`` are served by name, also in ranges; other paths misbehave as they are called."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []  # of GET
        self.asked: list[dict[str, str]] = []  # the headers of each
        self.answered: list[int] = []  # the status of each answer with a file
        self.failures = 0  # so many requests are answered 503 first
        self.retry_after: str | None = None  # what the 503 says
        self.validators: dict[str, str] = {"ETag": '"1"', "Last-Modified": "Sat, 17 Oct 2026 09:00:00 GMT"}
        self.ranges = True  # whether it knows them
        self.heeds_if_range = True
        self.content_range: str | None = None  # what a partial answer claims to be, if not the truth
        self.cuts: list[int] = []  # so many bytes of each answer, then the connection is cut
        self.pause = 0.0  # seconds after each 200 bytes
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                body = site.files.get(self.path.lstrip("/"))
                self.send_response(404 if body is None and not self.path.startswith("/huge/") else 200)
                self.send_header("Content-Length", str(len(body) if body is not None else 10**18))
                self.end_headers()

            def do_GET(self) -> None:
                site.requests.append(self.path)
                site.asked.append(dict(self.headers))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    site.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:  # noqa: PLR0912 - a misbehavior each
        kind, _, rest = handler.path.lstrip("/").partition("/")
        if self.failures:
            self.failures -= 1
            handler.send_response(503)
            if self.retry_after is not None:
                handler.send_header("Retry-After", self.retry_after)
            handler.end_headers()
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
            self.serve(handler, self.files[kind])
        else:
            handler.send_error(404)

    def serve(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Send a file as a good server does: a range of it where one is asked for and the file is still the same."""
        start, status = 0, 200
        known = {None, *self.validators.values()}
        if self.ranges and "Range" in handler.headers:
            start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
            status = 206 if start < len(body) else 416
            if self.heeds_if_range and handler.headers["If-Range"] not in known:
                start, status = 0, 200
        self.answered.append(status)
        handler.send_response(status)
        for name, value in self.validators.items():
            handler.send_header(name, value)
        span = f"{start}-{len(body) - 1}" if status == 206 else "*"
        if status != 200:
            handler.send_header("Content-Range", self.content_range or f"bytes {span}/{len(body)}")
        rest = body[start:] if status != 416 else b""
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(rest)
        for place in range(0, min(cut, len(rest)), 200):
            handler.wfile.write(rest[place : min(place + 200, cut)])
            handler.wfile.flush()
            if self.pause:
                time.sleep(self.pause)

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
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    running = Site()
    yield running
    running.close()


class Proxy:
    """A forward proxy on loopback: knows where hosts are that no name server knows, and tunnels TLS."""

    def __init__(self, site: Site, status: int = 200) -> None:
        self.seen: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                proxy.seen.append(self.path)
                if status != 200:
                    self.send_error(status)
                    return
                direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with direct.open(site.url + urlsplit(self.path).path) as answer:
                    Site.send(self, answer.read())

            def do_CONNECT(self) -> None:
                proxy.seen.append(self.path)
                with socket.create_connection(("127.0.0.1", site.server.server_port)) as far:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=pump, args=(far, self.connection), daemon=True)
                    back.start()
                    pump(self.connection, far)
                    back.join(5)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody knows, and what a server needs to present a certificate of it."""

    certificate: Path
    server: ssl.SSLContext


def make_authority(folder: Path, host: str = "127.0.0.1", name: str = "authority") -> Authority:
    """Make an authority and a certificate for a host, valid for a day."""
    x509 = pytest.importorskip("cryptography.x509", reason="makes certificates: pip install cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.now(UTC)

    def sign(subject: str, issuer: str, key: Any, by: Any, *extensions: Any) -> Any:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(days=1),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(by, hashes.SHA256())

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    root = sign(
        name, name, root_key, root_key, (x509.BasicConstraints(True, None), True), (usage, True), (root_id, False)
    )
    try:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
    except ValueError:
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id)
    certificate = sign(host, name, key, root_key, (names, False), (authority_id, False))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(root.public_bytes(pem))
    (folder / f"{name}-server.pem").write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}-server.pem")
    return Authority(folder / f"{name}.pem", context)


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
