"""The spool: what a run has to tell MLflow, on the disk, until it has been told.

A folder per run under `.tracking/`. Writers (the run, the processes it starts) append one JSON line per operation and
link files beside it; the sender reads them in order and notes how far it came. Nothing is lost when a server, the
sender or the run itself goes away, and nothing is sent twice.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from unet_segmentation.utils.atomic_io import link_or_copy

FOLDER = ".tracking"


class Spool:
    """One run's folder of operations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._appending = threading.Lock()

    @classmethod
    def create(cls, root: Path, header: Mapping[str, Any], name: str | None = None) -> Spool:
        """Make the folder of a new run under the project's root."""
        spool = cls(root / FOLDER / (name or new_name()))
        (spool.folder / "files").mkdir(parents=True)
        spool.write("header", header)
        return spool

    @staticmethod
    def all(root: Path) -> list[Spool]:
        """List the spools under the project's root, oldest first."""
        return [Spool(header.parent) for header in sorted((root / FOLDER).glob("*/header.json"))]

    # -- small JSON files: header, decision, run (once it is open), error, done, replies

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a small JSON file, whole or not at all."""
        temporary = self.folder / f".{name}.{uuid.uuid4().hex[:6]}"
        temporary.write_text(json.dumps(values), encoding="utf-8")
        temporary.replace(self.folder / f"{name}.json")

    def read(self, name: str) -> dict[str, Any] | None:
        """Read a small JSON file; None where there is none."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self) -> None:
        """Remove the folder, and the one above it when it was the last."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    # -- writing

    def append(self, operation: str, **values: Any) -> None:  # noqa: ANN401
        """Append an operation, with the time."""
        line = json.dumps({"op": operation, "time": time.time(), **values}, ensure_ascii=False) + "\n"
        with self._appending, self._operations.open("ab+", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            torn = size and stream.read(1) != b"\n"  # its writer was killed in the middle
            stream.write(("\n" * bool(torn) + line).encode())  # one write at the end: lines never mix

    def keep(self, path: Path) -> str:
        """Link or copy a file or folder into the spool as it is now; give its place there, relative to the folder."""
        place = Path("files") / uuid.uuid4().hex[:8] / path.name
        target = self.folder / place
        target.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, target, copy_function=lambda source, copy: link_or_copy(Path(source), Path(copy)))
        else:
            link_or_copy(path, target)
        return place.as_posix()

    def put(self, name: str, data: bytes) -> str:
        """Write a new file into the spool; give its place there, relative to the folder."""
        place = Path("files") / uuid.uuid4().hex[:8] / name
        (self.folder / place).parent.mkdir(parents=True)
        (self.folder / place).write_bytes(data)
        return place.as_posix()

    # -- reading

    def pending(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each operation that was not sent yet, and the position behind it. Torn lines are passed over."""
        if not self._operations.is_file():
            return
        with self._operations.open("rb") as stream:
            stream.seek(self.position)
            while (line := stream.readline()).endswith(b"\n"):
                try:
                    operation = json.loads(line)
                except ValueError:
                    continue
                yield operation, stream.tell()

    @property
    def position(self) -> int:
        """How many bytes of the operations were sent."""
        return (self.read("position") or {}).get("bytes", 0)

    @position.setter
    def position(self, value: int) -> None:
        self.write("position", {"bytes": value})

    def release(self, operation: Mapping[str, Any]) -> None:
        """Remove the file that belongs to an operation that was sent."""
        if place := operation.get("path"):
            shutil.rmtree((self.folder / place).parent, ignore_errors=True)

    @property
    def _operations(self) -> Path:
        return self.folder / "operations.jsonl"

    def lock(self) -> AbstractContextManager[bool]:
        """Be the only sender of this spool; False where another process already is."""
        return locked(self.folder / "lock")


def new_name() -> str:
    """Return a name to a new spool; names sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"


@contextmanager
def locked(file: Path) -> Iterator[bool]:
    """Hold the lock of a file; False where another process holds it."""
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file until its descriptor is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
