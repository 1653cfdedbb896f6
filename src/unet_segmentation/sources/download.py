"""Downloads over HTTP: streamed to a temporary name, tried again where that can help, explained where it cannot."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

import requests
import urllib3

from unet_segmentation.atomic import whole
from unet_segmentation.errors import ResourceError, SourceError
from unet_segmentation.sources.archives import check_archive, gigabytes
from unet_segmentation.sources.progress import byte_progress

logger = logging.getLogger(__name__)

CHUNK = 1 << 16  # bytes; small, so that the bar moves on a slow line
BACK_OFF = 1.0  # seconds before the second attempt; doubled for each one after it
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses of servers that may answer better soon
REASONS = {
    401: "wants a login",
    403: "refuses access (a login, a region or a firewall)",
    404: "does not have it: it was moved or deleted, or the address has a typo",
    407: "of the proxy wants a login",
    410: "has deleted it",
}


class _PassingError(Exception):
    """A failure that may be gone at the next attempt."""


def local_path(address: str) -> Path | None:
    """Read a ``file://`` URL or a plain path; None for an http(s) address."""
    scheme = urlsplit(address).scheme.lower()
    if scheme in {"http", "https"}:
        return None
    if scheme == "file":
        return Path(url2pathname(urlsplit(address).path))
    return Path(address).expanduser()


def archive_name(url: str) -> str:
    """Name the file for a URL: as the URL ends, with a few digits of its hash, as many URLs end in ``master.zip``."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "archive"
    stem, dot, ending = name.partition(".")
    return f"{stem[:80]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{dot}{ending[-20:]}"


def shown(url: str) -> str:
    """Write a URL without the name and password it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def fetch(url: str, target: Path, timeout: float = 30.0, retries: int = 3) -> None:
    """Download an archive. Proxies and certificates are taken from the environment, as ``requests`` does.

    Args:
        url: http(s) address.
        target: the file to make. It is there only when it is whole.
        timeout: seconds that the server may stay silent.
        retries: attempts after the first, for failures that may pass: silence, a dropped connection, a busy server.

    Raises:
        SourceError: it cannot be had, or is no archive; names the URL and the way out.
        ResourceError: the disk has not enough room.
    """
    for attempt in range(retries + 1):
        try:
            _attempt(url, target, timeout)
            return
        except _PassingError as failure:
            if attempt == retries:
                times = f" ({retries + 1} attempts)" if retries else ""
                raise failed(url, f"{failure}{times}") from failure
            pause = BACK_OFF * 2**attempt
            logger.info("%s %s; trying again in %.0f s", shown(url), failure, pause)
            time.sleep(pause)


def failed(url: str, reason: str) -> SourceError:
    """Explain that an archive could not be had, and what to do."""
    return SourceError(
        f"{shown(url)} could not be downloaded: {reason}. If this machine cannot reach it, get the file in another way "
        f"and run again with --params source.archive=/path/to/{PurePosixPath(urlsplit(url).path).name or 'archive.zip'}"
    )


def _attempt(url: str, target: Path, timeout: float) -> None:
    try:
        # Without "identity" a server may compress on the way, and the length would not be the file's.
        with requests.get(url, stream=True, timeout=timeout, headers={"Accept-Encoding": "identity"}) as response:
            _check_status(url, response)
            with whole(target) as temporary:
                _receive(url, response, temporary)
                _check_content(url, response, temporary)
    except requests.exceptions.SSLError as error:
        reason = f"its certificate is not trusted ({_root(error)}); behind a proxy of your own, set REQUESTS_CA_BUNDLE"
        raise failed(url, reason) from error
    except requests.exceptions.ProxyError as error:
        raise failed(url, f"the proxy does not let it through ({_root(error)})") from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise _PassingError(f"the server was silent for {timeout:g} s") from error
    except requests.exceptions.ConnectionError as error:
        text = str(error)
        if "NameResolution" in text or "getaddrinfo" in text:
            raise failed(url, f"there is no host {urlsplit(url).hostname!r} (a typo, or no network)") from error
        if "refused" in text:
            raise failed(url, "the host refused the connection") from error
        raise _PassingError(f"the connection broke ({_root(error)})") from error
    except urllib3.exceptions.HTTPError as error:
        raise _PassingError(f"the connection broke ({_root(error)})") from error
    except requests.exceptions.RequestException as error:
        raise failed(url, _root(error)) from error


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in PASSING:
        raise _PassingError(f"the server answers {status} {response.reason}")
    if status != 200:
        raise failed(url, f"the server {REASONS.get(status, 'answers')} ({status} {response.reason})")


def _receive(url: str, response: requests.Response, temporary: Path) -> None:
    """Stream the body to a file and compare its length with what the server announced."""
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    free = shutil.disk_usage(temporary.parent).free
    if total is not None and total > free:
        raise ResourceError(
            f"{shown(url)} has {gigabytes(total)}, but the disk of {temporary.parent} has {gigabytes(free)} free. "
            "Free some space, or move the project's data folder to a larger disk."
        )
    size = "" if total is None else f" ({gigabytes(total)})"
    logger.info("Downloading %s%s", shown(url), size)
    received = 0
    with byte_progress("Downloading", total) as advance, temporary.open("wb") as output:
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            output.write(chunk)
            received += len(chunk)
            advance(len(chunk))
    if total is not None and received != total:
        raise _PassingError(f"the connection broke after {received} of {total} bytes")


def _check_content(url: str, response: requests.Response, temporary: Path) -> None:
    """See that what came is an archive, and not the page of a login or a portal."""
    try:
        check_archive(temporary)
    except SourceError as error:
        kind = response.headers.get("Content-Type", "of no stated type")
        what = str(error).removeprefix(f"{temporary} is ")
        raise failed(url, f"what came ({kind}) is {what.rstrip('.')}") from error


def _root(error: BaseException) -> str:
    """Find the shortest true reason in requests' nested errors."""
    reason: object = error
    while isinstance(reason, BaseException):
        inner = next((part for part in (getattr(reason, "reason", None), *reason.args) if _is_error(part)), None)
        if inner is None:
            break
        reason = inner
    return str(reason).rstrip(".")


def _is_error(part: object) -> bool:
    return isinstance(part, BaseException)
