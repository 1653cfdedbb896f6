"""What an address says: whether it is a file on this machine, and how its download is called."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname


def local_path(address: str) -> Path | None:
    """Read a ``file://`` URL or a plain path; None for an http(s) address."""
    scheme = urlsplit(address).scheme.lower()
    if scheme in {"http", "https"}:
        return None
    if scheme == "file":
        return Path(url2pathname(urlsplit(address).path))
    return Path(address).expanduser()


def file_name(url: str) -> str:
    """Give the last part of a URL's path; empty where it ends in a slash."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def archive_name(url: str) -> str:
    """Name the file for a URL: as the URL ends, with a few digits of its hash, as many URLs end in ``master.zip``."""
    stem, dot, ending = (file_name(url) or "archive").partition(".")
    return f"{stem[:80]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{dot}{ending[-20:]}"


def shown(url: str) -> str:
    """Write a URL without the name and password it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
