"""Files under one root: a folder on the disk, or a URL that fsspec can read (s3://, gs://, http://, ...)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from unet_segmentation.errors import DataError

WEB = ("http://", "https://")
REQUESTS = 16  # to a web server at a time
TAGS = ("ETag", "etag", "md5", "mtime", "Content-MD5", "Last-Modified")  # in stores, what changes with a file
NOT_DATA = {"__MACOSX", "Thumbs.db", "desktop.ini"}


class FileStore:
    """Read access to the files of a data set. Paths are relative to the root, with forward slashes.

    Each process connects when it first needs to.

    Args:
        root: a folder, or a URL; the query of a web address (a key, say) is sent with every request.
        options: for a URL, those of fsspec (an endpoint, say).
    """

    def __init__(self, root: str | Path, options: Mapping[str, object] | None = None) -> None:
        self.root = str(root)
        self.options = dict(options or {})
        self.is_local = "://" not in self.root
        self.is_web = self.root.startswith(WEB)

    def __getstate__(self) -> dict[str, object]:
        """Pickle address and options only: a connection belongs to one process."""
        return {name: getattr(self, name) for name in ("root", "options", "is_local", "is_web")}

    def __str__(self) -> str:
        return self.root

    def walk(self) -> Iterator[str]:
        """Yield the files as sorted paths, hidden ones left out. Links to folders are followed, never in a circle.

        Raises:
            DataError: the root, or a folder in it, cannot be read.
        """
        if self.is_local:
            yield from _walk(Path(self.root), "", ())
            return
        with self._explained():
            system, prefix = self._connection
            files = system.find(prefix)
            if not files:
                system.ls(prefix)  # raises the reason, which `find` suppresses
        paths = sorted(path[len(prefix) :].lstrip("/") for path in files)
        yield from (path for path in paths if path and is_data(path))

    def read(self, path: str) -> bytes:
        """Return the bytes of a file; raise OSError, as `open` does."""
        if self.is_local:
            return Path(self.root, path).read_bytes()
        system, prefix = self._connection
        return system.cat_file(f"{prefix}/{path}")

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file for reading parts of it.

        Raises:
            FileNotFoundError: it is not there.
            OSError: it cannot be read.
        """
        if self.is_local:
            with Path(self.root, path).open("rb") as stream:
                yield stream
        else:
            system, prefix = self._connection
            with system.open(f"{prefix}/{path}", "rb") as stream:
                yield stream

    def stamp(self, path: str) -> str:
        """Return what changes with the file (size and time, or the tag of the store); empty where it is not there."""
        if self.is_web:  # whose listings are pages of links, without sizes and times
            system, prefix = self._connection
            try:
                return _stamp(system.info(f"{prefix}/{path}"))
            except FileNotFoundError:
                return ""
        if not self.is_local:
            return self._remote_stamps.get(path, "")
        try:
            status = os.stat(os.path.join(self.root, path))
        except (OSError, ValueError):
            return ""
        return f"{status.st_size} {status.st_mtime_ns}"

    def stamps(self, paths: Sequence[str]) -> list[str]:
        """Return the stamps of many files; of a web server several at a time."""
        if not self.is_web:
            return [self.stamp(path) for path in paths]
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(self.stamp, paths))

    @cached_property
    def _remote_stamps(self) -> dict[str, str]:
        """List the store once: a request for each file would be slow."""
        with self._explained():
            system, prefix = self._connection
            files = system.find(prefix, detail=True)
        return {path[len(prefix) :].lstrip("/"): _stamp(information) for path, information in files.items()}

    def size(self, path: str) -> int:
        """Return the number of bytes of a file; 0 where it is not there."""
        return int(self.stamp(path).partition(" ")[0] or 0)

    @cached_property
    def _connection(self) -> tuple[Any, str]:
        import fsspec

        root, options = self.root, self.options
        if self.is_web and "?" in root:  # its query goes with every request, so that paths can be added to the address
            root, _, query = root.partition("?")
            options = {**options, "params": parse_qsl(query, keep_blank_values=True)}
        with self._explained():
            system, prefix = fsspec.core.url_to_fs(root, **options)
            system.invalidate_cache()  # listings of an earlier run in this process
        return system, prefix.rstrip("/")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            raise DataError(f"{self.root} needs a package that is not installed: {error}") from error
        except DataError:
            raise
        except FileNotFoundError as error:
            raise DataError(f"There is no file at all at {self.root}. Check the address.") from error
        except Exception as error:
            raise DataError(
                f"{self.root} cannot be read: {str(error) or type(error).__name__}. Check the address, "
                "storage_options (of source or prediction) and the credentials in the environment."
            ) from error


def _stamp(information: Mapping[str, object]) -> str:
    tag = next((information[key] for key in TAGS if information.get(key)), "")
    size = information.get("size")
    return "" if size is None and not tag else f"{'' if size is None else size} {tag}"


def count_files_and_bytes(storage: FileStore) -> dict[str, int]:
    """Return the number of ``files`` under a root, and of their ``bytes``: enough to see that none was lost or cut."""
    sizes = [storage.size(path) for path in storage.walk()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def split_page(path: str) -> tuple[str, int | None]:
    """Split a path of the index from the number of a page: ``volume.tif#3`` is page 3 (from 0) of ``volume.tif``.

    The text alone decides: a file whose own name ends like this (``a#3``) is refused by the layout.
    """
    match = re.fullmatch("(.+)#([0-9]+)", path, re.DOTALL)
    return (path, None) if match is None else (match[1], int(match[2]))


def is_data(path: str) -> bool:
    """Return whether no part of a path is of a file manager: hidden files, AppleDouble (``._x``), ``__MACOSX``."""
    return all(not name.startswith(".") and name not in NOT_DATA for name in path.split("/"))


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in ordered:
        if not is_data(entry.name):
            continue
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself: a file that cannot be read
            is_folder = False
        if is_folder:
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", (*above, here))
        else:
            yield f"{prefix}{entry.name}"
