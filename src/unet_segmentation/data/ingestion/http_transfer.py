"""One attempt to receive a file from one address: all of it, or what is still missing of a partial download."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from rich.progress import Progress
from urllib3.util.ssl_ import create_urllib3_context

from unet_segmentation.data.ingestion.archives import gigabytes
from unet_segmentation.data.ingestion.urls import shown
from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.utils.threads import StoppedError

CHUNK = 1 << 18  # bytes that are requested at a time; what has arrived is written at once
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses of servers that may answer better soon
REASONS = {
    401: "wants a login",
    403: "refuses access (a login, a region or a firewall)",
    404: "does not have it: it was moved or deleted, or the address has a typo",
    407: "of the proxy wants a login",
    410: "has deleted it",
}


class PermanentDownloadError(Exception):
    """This address does not give the file, however often it is asked."""


class TransientDownloadError(Exception):
    """A failure that may be gone at the next attempt; ``wait``: the seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Origin:
    """The file that a server began to send, as far as it described it."""

    url: str  # without a password
    etag: str | None  # a strong one
    modified: str | None  # as the server wrote it
    total: int | None  # bytes

    @property
    def validator(self) -> str | None:
        """By what a server can decide whether it still has the same file."""
        return self.etag or self.modified


class Partial:
    """The first bytes of a file, in ``.NAME.part`` next to it, and their origin in ``.NAME.part.json``.

    Both stay when a run is interrupted or killed, for the next one to resume from. Neither is ever taken for the file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self._record = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def origin(self) -> Origin | None:
        """Origin of the bytes; None where it is unknown, so that they are of no use."""
        try:
            return Origin(**json.loads(self._record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def continues(self, url: str, hashed: bool) -> bool:
        """Return whether the rest may come from an address: its server, or a hash in the end, tells whether it fits."""
        origin, size = self.origin, self.size
        if origin is None or not size or (origin.total is not None and size > origin.total):
            return False
        return hashed or (origin.url == shown(url) and origin.validator is not None)

    def is_whole(self) -> bool:
        """Return whether all bytes are here, and only the name is not yet the final one."""
        origin = self.origin
        return origin is not None and origin.total == self.size

    def begin(self, origin: Origin) -> None:
        """Forget what is here, and note whose bytes come next."""
        self.discard()
        self._record.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def finish(self) -> None:
        """Rename the file to its final name."""
        os.replace(self.path, self.target)
        self._record.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what is here. The record goes first: bytes without one are never used."""
        self._record.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Bar:
    """The progress bar of one download."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def start(self, done: int, total: int | None) -> None:
        """Begin an attempt. Bytes that are here already count as done, but not for the speed."""
        self._progress.reset(self._task, completed=done, total=total)

    def advance(self, count: int) -> None:
        """Count bytes as they come."""
        self._progress.advance(self._task, count)


def make_session(ca_bundle: Path | None) -> requests.Session:
    """Open a session: proxies, certificates and ``.netrc`` come from the environment, as ``requests`` does.

    Raises:
        ConfigurationError: the PEM file of further authorities cannot be read, or holds no certificate.
    """
    session = requests.Session()
    if ca_bundle is not None:
        session.mount("https://", _TrustingAdapter(ca_bundle))
    return session


class _TrustingAdapter(HTTPAdapter):
    """Trusts further authorities than the usual ones, which ``requests`` adds to the same context."""

    def __init__(self, ca_bundle: Path) -> None:
        self._context = create_urllib3_context()
        try:
            self._context.load_verify_locations(ca_bundle)
        except OSError as error:  # ssl.SSLError is one
            is_readable = not isinstance(error, FileNotFoundError | PermissionError)
            reason = "no certificate in it" if is_readable else error.strerror
            raise ConfigurationError(
                f"source.ca_bundle: {ca_bundle} cannot be used ({reason}). Give a PEM file with the certificates of "
                "the authorities to trust."
            ) from error
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(*arguments, ssl_context=self._context, **more)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:  # noqa: ANN401
        return super().proxy_manager_for(proxy, ssl_context=self._context, **more)


def announced_size(url: str, session: requests.Session, timeout: float) -> int | None:
    """Ask a server how large a file is; None where it does not say, for whatever reason."""
    try:
        headers = {"Accept-Encoding": "identity"}
        response = session.head(url, timeout=timeout, headers=headers, allow_redirects=True)
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError):
        return None
    return _length(response) if response.status_code == requests.codes.ok else None


def transfer(
    url: str,
    partial: Partial,
    session: requests.Session,
    timeout: float,
    hashed: bool,
    *,
    bar: Bar,
    stop: threading.Event,
) -> str:
    """Receive a file, or the rest of one that was begun; return the content type that the server stated.

    A partial download is restarted where its rest cannot be had: the server knows no ranges, or the file has changed.

    Args:
        url: http(s) address.
        partial: what is here; grows, and is whole at the end.
        session: of `make_session`.
        timeout: seconds that the server may stay silent.
        hashed: a hash is declared that checks the file as a whole.
        bar: shows the bytes.
        stop: set when the download is to end early.

    Raises:
        TransientDownloadError: it may work at the next attempt.
        PermanentDownloadError: it will not.
        ResourceError: the disk has not enough room.
        StoppedError: ``stop`` was set.
    """
    while True:
        headers = _headers(url, partial, hashed)
        ranged = "Range" in headers
        with _explained(url, timeout), session.get(url, stream=True, timeout=timeout, headers=headers) as response:
            if ranged and _is_of_no_use(response, url, partial):
                partial.discard()
                continue  # without a range this time, so it cannot happen twice
            _check_status(response, allowed=(200, 206) if ranged else (200,))
            if response.status_code == requests.codes.ok:
                partial.begin(_origin(url, response))
            _receive(url, response, partial, bar, stop)
            return response.headers.get("Content-Type", "of no stated type")


def _headers(url: str, partial: Partial, hashed: bool) -> dict[str, str]:
    # Without "identity" a server may compress on the way, and the length would not be the file's.
    headers = {"Accept-Encoding": "identity"}
    origin = partial.origin
    if origin is not None and partial.continues(url, hashed):
        headers["Range"] = f"bytes={partial.size}-"
        if origin.url == shown(url) and origin.validator is not None:
            headers["If-Range"] = origin.validator  # the server sends all of it if the file is another one by now
    return headers


def _is_of_no_use(response: requests.Response, url: str, partial: Partial) -> bool:
    """Return whether the response to a range is no continuation of what is here."""
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        return True
    if response.status_code != requests.codes.partial_content:
        return False
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    origin = partial.origin
    if match is None or origin is None or int(match[1]) != partial.size:
        return True
    if origin.total is not None and match[2] not in {"*", str(origin.total)}:
        return True
    if origin.url != shown(url):  # a mirror names the same file differently; the declared hash is what tells
        return False
    # Some servers do not know If-Range, and send the range of whatever they have now.
    current = _origin(url, response)
    pairs = ((origin.etag, current.etag), (origin.modified, current.modified))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _check_status(response: requests.Response, allowed: tuple[int, ...]) -> None:
    status = response.status_code
    if status in PASSING:
        raise TransientDownloadError(f"the server answers {status} {response.reason}", _retry_after(response))
    if status not in allowed:
        raise PermanentDownloadError(f"the server {REASONS.get(status, 'answers')} ({status} {response.reason})")


def _receive(url: str, response: requests.Response, partial: Partial, bar: Bar, stop: threading.Event) -> None:
    """Append the body to what is here, and compare the length with what the server announced."""
    length, before = _length(response), partial.size
    total = None if length is None else before + length
    free = shutil.disk_usage(partial.path.parent).free
    if length is not None and length > free:
        if not before:
            partial.discard()
        raise ResourceError(
            f"{shown(url)} has {gigabytes(length)}, but the disk of {partial.path.parent} has {gigabytes(free)} free. "
            "Free some space, or move the project's data folder to a larger disk."
        )
    bar.start(before, total)
    with partial.path.open("ab") as output:
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            if stop.is_set():
                raise StoppedError
            output.write(chunk)
            output.flush()  # so that a run that is killed leaves all that has come
            bar.advance(len(chunk))
    if total is not None and partial.size != total:
        raise TransientDownloadError(f"the connection broke after {partial.size} of {total} bytes")


@contextmanager
def _explained(url: str, timeout: float) -> Iterator[None]:
    """Turn what goes wrong on the network into a reason."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        if "certificate" not in str(error).lower():
            raise TransientDownloadError(f"the connection broke ({_root(error)})") from error
        raise PermanentDownloadError(
            f"its certificate is not trusted ({_root(error)}). If the server, or a proxy on the way, is one of your "
            "own, give the file with its authority's certificate as source.ca_bundle, or in the environment as "
            "REQUESTS_CA_BUNDLE"
        ) from error
    except requests.exceptions.ProxyError as error:
        raise PermanentDownloadError(f"the proxy does not let it through ({_root(error)})") from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise TransientDownloadError(f"the server was silent for {timeout:g} s") from error
    except requests.exceptions.ConnectionError as error:
        text = str(error)
        if "NameResolution" in text or "getaddrinfo" in text:
            host = urlsplit(url).hostname
            raise PermanentDownloadError(f"there is no host {host!r} (a typo, or no network)") from error
        if "refused" in text:
            raise PermanentDownloadError("the host refused the connection") from error
        raise TransientDownloadError(f"the connection broke ({_root(error)})") from error
    except urllib3.exceptions.HTTPError as error:
        raise TransientDownloadError(f"the connection broke ({_root(error)})") from error
    except requests.exceptions.RequestException as error:
        raise PermanentDownloadError(_root(error)) from error
    except OSError as error:
        if error.errno is None:  # requests' complaint about a REQUESTS_CA_BUNDLE that is not there
            raise PermanentDownloadError(_root(error)) from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceError(
                f"The disk is full: {shown(url)} could not be stored whole. What has arrived stays, and the next run "
                "will resume. Free some space, or move the project's data folder to a larger disk."
            ) from error
        raise


def _length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _origin(url: str, response: requests.Response) -> Origin:
    tag = response.headers.get("ETag")
    if tag is not None and tag.startswith("W/"):  # a weak tag says nothing about the bytes
        tag = None
    return Origin(shown(url), tag, response.headers.get("Last-Modified"), _length(response))


def _retry_after(response: requests.Response) -> float:
    try:
        return urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


def _root(error: BaseException) -> str:
    """Find the shortest true reason in requests' nested errors."""
    parts = (getattr(error, "reason", None), *error.args)
    inner = next((part for part in parts if isinstance(part, BaseException)), None)
    return str(error).rstrip(".") if inner is None else _root(inner)
