"""URLs: whether one is a file on this machine, and the name of its download."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit
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
    """Return the last part of a URL's path, or of a value of its query where that alone has an extension, or nothing.

    >>> file_name("https://h/a/b.zip?key=x/y.z"), file_name("https://h/get?path=/a/b.zip"),
    file_name("https://h/get?n=1") ('b.zip', 'b.zip', 'get')
    """
    parts = urlsplit(url)
    name = PurePosixPath(unquote(parts.path)).name
    return name if PurePosixPath(name).suffix else queried_name(parts.query) or name


def queried_name(query: str) -> str:
    """Return the file that the query of a URL names: the last part of the first value with an extension; or nothing.

    >>> queried_name("id=7&path=%2Fa%2Fb.png"), queried_name("download=1"), queried_name("v=1.5&file=a/b.png")
    ('b.png', '', 'b.png')
    """
    names = (PurePosixPath(value.replace("\\", "/")).name for _, value in parse_qsl(query))
    endings = {name: PurePosixPath(name).suffix[1:] for name in names if "\0" not in name}
    return next((name for name, ending in endings.items() if ending and not ending.isdecimal()), "")


def archive_name(url: str) -> str:
    """Return a file name for a URL: its end, with a few digits of its hash, as many URLs end in ``master.zip``."""
    stem, dot, ending = (file_name(url) or "archive").partition(".")
    return f"{stem[:80]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{dot}{ending[-20:]}"


def shown(url: str) -> str:
    """Write a URL without the name and password it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
