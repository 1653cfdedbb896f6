"""Resumable downloads: several at a time, resumed after a cut, retried, and fetched from mirrors."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import FileLock, Timeout

from unet_segmentation.data.ingestion.archives import check_archive, gigabytes
from unet_segmentation.data.ingestion.http_transfer import (
    Bar,
    Partial,
    PermanentDownloadError,
    TransientDownloadError,
    announced_size,
    make_session,
    transfer,
)
from unet_segmentation.data.ingestion.urls import file_name, local_path, shown
from unet_segmentation.errors import ResourceError, SourceError
from unet_segmentation.utils.atomic_io import atomic_write
from unet_segmentation.utils.progress_bar import byte_bars
from unet_segmentation.utils.threads import StoppedError, in_threads

logger = logging.getLogger(__name__)

BACK_OFF = 1.0  # seconds before the second attempt; doubled for each one after it
LONGEST_PAUSE = 120.0  # seconds, whatever a server asks for


@dataclass(frozen=True)
class Download:
    """A file to get."""

    addresses: Sequence[str]  # http(s) or file:// URLs of the same bytes, in the order in which they are tried
    target: Path  # it is there only when it is whole
    hashed: bool = False  # a hash is declared by which the whole file will be checked
    is_archive: bool = True  # it must be a zip or a tar


@dataclass(frozen=True)
class Network:
    """Timeouts, retries, parallel requests and certificates."""

    timeout: float = 30.0  # seconds that a server may stay silent
    retries: int = 3  # attempts after the first, for failures that may pass
    parallel: int = 4  # files at a time
    ca_bundle: Path | None = None  # further authorities to trust


def fetch_all(downloads: Sequence[Download], network: Network) -> None:
    """Get files that are not here yet. What an earlier run has begun is resumed.

    Raises:
        SourceError: a file cannot be had, or is no archive; names all its addresses and a fix.
        ResourceError: the disk has not enough room.
        ConfigurationError: the CA bundle cannot be used.
    """
    missing = [download for download in downloads if not download.target.is_file()]
    for folder in {download.target.parent for download in missing}:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise ResourceError(f"{folder} cannot be written to: see to its permissions, or move the data folder.")
    with make_session(network.ca_bundle) as session:
        if len(missing) > 1:  # a single one tells its size when it begins
            _check_room(missing, network, session)
        with byte_bars() as bars:

            def get(download: Download, stop: threading.Event) -> None:
                with _alone(download.target, stop):
                    if not download.target.is_file():  # another run may have brought it
                        bar = Bar(bars, file_name(download.addresses[0]) or download.target.name)
                        _fetch(download, network, session, bar, stop)

            in_threads(get, missing, network.parallel)


def _failure(target: Path, reasons: Sequence[tuple[str, str]]) -> SourceError:
    """Explain that a file could not be had from these addresses, for these reasons, and what to do."""
    name = file_name(reasons[0][0]) or "archive.zip"
    if len(reasons) == 1:
        what = f"{shown(reasons[0][0])} could not be downloaded: {reasons[0][1]}."
    else:
        lines = "\n".join(f"  {shown(address)}: {reason}." for address, reason in reasons)
        what = f"{name} could not be downloaded from any of its {len(reasons)} addresses:\n{lines}\n"
    return SourceError(
        f"{what} If this machine cannot reach it, get the file in another way, and save it as {target.absolute()}, or "
        f"run again with --params source.archive=/path/to/{name}"
    )


def _fetch(download: Download, network: Network, session: requests.Session, bar: Bar, stop: threading.Event) -> None:
    """Try one address after the other."""
    reasons: list[tuple[str, str]] = []
    for address in download.addresses:
        if reasons:
            logger.info("%s: %s; trying %s", shown(reasons[-1][0]), reasons[-1][1], shown(address))
        try:
            own = local_path(address)
            if own is None:
                _fetch_from(address, download, network, session, bar, stop)
            elif own.is_file():
                with atomic_write(download.target) as temporary:
                    shutil.copyfile(own, temporary)
            else:
                raise PermanentDownloadError("there is no such file")
            return
        except PermanentDownloadError as failure:
            reasons.append((address, str(failure)))
    raise _failure(download.target, reasons)


def _fetch_from(
    url: str, download: Download, network: Network, session: requests.Session, bar: Bar, stop: threading.Event
) -> None:
    """Try one address, again and again as long as that can help."""
    partial = Partial(download.target)
    attempts = failures = 0
    while True:
        before = partial.size if partial.continues(url, download.hashed) else 0
        kind = "of an earlier run"
        logger.info("Downloading %s%s", shown(url), f", from {gigabytes(before)} on" if before else "")
        try:
            if not (before and partial.is_whole()):
                kind = transfer(url, partial, session, network.timeout, download.hashed, bar=bar, stop=stop)
            _check_content(kind, partial, download)
            partial.finish()
            return
        except TransientDownloadError as failure:
            # Many cuts are no reason to give up a large file, as long as each attempt brings a piece of it.
            failures = 1 if partial.size > before > 0 else failures + 1
            attempts += 1
            if failures > network.retries:
                times = f" ({attempts} attempts)" if attempts > 1 else ""
                raise PermanentDownloadError(f"{failure}{times}") from failure
            pause = min(max(BACK_OFF * 2 ** (failures - 1), failure.wait), LONGEST_PAUSE)
            logger.info("%s: %s; trying again in %.0f s", shown(url), failure, pause)
            if stop.wait(pause):
                raise StoppedError from failure


def _check_content(kind: str, partial: Partial, download: Download) -> None:
    """Check that a download is no page of a login or a portal."""
    what = None
    if download.is_archive:
        try:
            check_archive(partial.path)
        except SourceError as error:
            what = str(error).removeprefix(f"{partial.path} is ").rstrip(".")
    else:
        with partial.path.open("rb") as stream:
            start = stream.read(80)
        is_page = start.lstrip().lower().startswith((b"<!doctype html", b"<html"))
        if is_page and not download.target.name.lower().endswith((".html", ".htm")):
            what = f"a web page, which begins with {start[:40]!r}"
    if what is not None:
        partial.discard()
        raise PermanentDownloadError(f"what came ({kind}) is {what}")


@contextmanager
def _alone(target: Path, stop: threading.Event) -> Iterator[None]:
    """Lock a file against other runs. The lock of a run that was killed is free."""
    path = target.with_name(f".{target.name}.lock")
    lock = FileLock(path)
    waited = False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            if stop.is_set():
                raise StoppedError from None
            if not waited:
                logger.info("Another run is downloading %s; waiting for it", target.name)
            waited = True
    try:
        yield
    finally:
        # Removed while it is held: who waits for it sees that the file has lost its name, and makes a new one.
        path.unlink(missing_ok=True)
        lock.release()


def _check_room(missing: Sequence[Download], network: Network, session: requests.Session) -> None:
    """Compare what is still to come, as far as the servers say, with the room on the disk."""

    def rest(download: Download, _: threading.Event) -> int:
        address = download.addresses[0]
        size = None if local_path(address) else announced_size(address, session, network.timeout)
        partial = Partial(download.target)
        here = partial.size if partial.continues(address, download.hashed) else 0
        return 0 if size is None else max(size - here, 0)

    total = sum(in_threads(rest, missing, network.parallel))
    folder = missing[0].target.parent
    free = shutil.disk_usage(folder).free
    if total > free:
        raise ResourceError(
            f"{len(missing)} downloads need {gigabytes(total)} more, but the disk of {folder} has {gigabytes(free)} "
            "free. Free some space, or move the project's data folder to a larger disk."
        )
