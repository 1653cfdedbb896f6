"""The journal of a run: what it logs to MLflow, on the disk, until it was sent.

A folder per run under `.tracking/`. The run appends one JSON line per operation and links files next to it; the
uploader reads them in order and notes its position. The process of the run holds the folder's lock: where it is free,
that process is gone, and whoever takes the lock may send the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field, JsonValue

from unet_segmentation.errors import ResourceError
from unet_segmentation.tracking.base import NewFile
from unet_segmentation.utils.atomic_io import atomic_write, link_or_copy
from unet_segmentation.utils.strict_model import StrictModel

FOLDER = ".tracking"


class RunHeader(StrictModel):
    """What it takes to open a run.

    Attributes:
        uri: MLflow's tracking URI.
        experiment: its name.
        run_name: for people.
        model_name: of the models that it logs.
        started: seconds since 1970.
        tags: of the run.
        earlier_run_id: the MLflow run that this one continues, or replaces.
        extra_epochs: added to a finished training; noted in a tag.
    """

    uri: str
    experiment: str
    run_name: str
    model_name: str = "unet"
    started: float
    tags: dict[str, str] = Field(default_factory=dict)
    earlier_run_id: str | None = None
    extra_epochs: str | None = None


class RunIds(StrictModel):
    """The MLflow run that a journal, or one of its nested runs, is sent to.

    Attributes:
        run_id: None while it is still to be created.
        experiment_id: likewise.
        resumed: whether it is the run of an earlier process. What that one has logged is then not logged again.
        opened: whether it was created, or reopened, for this journal.
        closed: whether a nested run was closed.
    """

    run_id: str | None = None
    experiment_id: str | None = None
    resumed: bool = False
    opened: bool = False
    closed: bool = False


class RunReference(StrictModel):
    """Which MLflow run a folder's results belong to, in a small file of that folder."""

    uri: str
    run_id: str

    @classmethod
    def read(cls, file: Path) -> RunReference | None:
        """Read it; None where there is none, or none that can be read."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, file: Path) -> None:
        """Write it atomically."""
        with atomic_write(file) as temporary:
            temporary.write_text(self.model_dump_json(indent=2), encoding="utf-8")


class Operation(StrictModel):
    """One line of a journal.

    Attributes:
        name: of the client's method that sends it.
        time: seconds since 1970.
        arguments: of the method.
        file: what belongs to it, below the journal's folder.
        nested: key of the nested run that it is for.
    """

    model_config = StrictModel.model_config | {"allow_inf_nan": True}

    name: str
    time: float
    arguments: dict[str, Any]
    file: str | None = None
    nested: str | None = None


class Journal:
    """One run's folder of operations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.appended = threading.Event()
        self._operations = folder / "operations.jsonl"
        self._lock, self._writing = FileLock(folder / "lock", thread_local=False), threading.Lock()
        self._position: int | None = None

    @classmethod
    def create(cls, root: Path, header: RunHeader) -> Journal:
        """Make the journal of a new run under the project's root, and lock it."""
        journal = cls(root / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}")
        (journal.folder / "files").mkdir(parents=True)
        journal._lock.acquire(timeout=0)
        journal.write("header", header.model_dump())
        return journal

    @staticmethod
    def find_all(root: Path) -> list[Journal]:
        """List the journals under the project's root, oldest first."""
        return [Journal(header.parent) for header in sorted((root / FOLDER).glob("*/header.json"))]

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[bool]:
        """Hold the journal; False where its run, or another uploader, does (or did, until it was removed)."""
        try:
            self._lock.acquire(timeout=-1 if wait else 0)
        except (Timeout, FileNotFoundError):
            yield False
            return
        try:
            yield (self.folder / "header.json").is_file()
        finally:
            self.unlock()

    def unlock(self) -> None:
        """Leave the journal to whoever sends the rest."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder, and `.tracking` if it was the last."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.unlock()
        with suppress(OSError):
            self.folder.parent.rmdir()

    # -- small JSON files: header, run (its ids), nested (ids of each), position, model-...

    def write(self, name: str, values: Mapping[str, object]) -> None:
        """Write a small JSON file atomically."""
        with atomic_write(self.folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(values), encoding="utf-8")

    def read(self, name: str) -> dict[str, JsonValue] | None:
        """Read a small JSON file; None where there is none."""
        try:
            values: dict[str, JsonValue] = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return values

    @property
    def header(self) -> RunHeader:
        """What it takes to open the run."""
        return RunHeader.model_validate(self.read("header"))

    @property
    def ids(self) -> RunIds:
        """The MLflow run that it is sent to."""
        return RunIds.model_validate(self.read("run") or {})

    @property
    def position(self) -> int:
        """How many bytes of the operations were sent."""
        if self._position is None:
            bytes_sent = (self.read("position") or {}).get("bytes", 0)
            self._position = bytes_sent if isinstance(bytes_sent, int) else 0
        return self._position

    @property
    def is_complete(self) -> bool:
        """Whether the end of the run was sent."""
        return bool((self.read("position") or {}).get("complete"))

    def advance(self, position: int, *, complete: bool) -> None:
        """Note how many bytes were sent, and whether that was all."""
        self._position = position
        with suppress(OSError, ResourceError):  # a full disk: what is sent again after a crash is stored once
            self.write("position", {"bytes": position, "complete": complete})

    # -- writing

    def append(
        self,
        name: str,
        content: Path | NewFile | None = None,
        *,
        nested: str | None = None,
        arguments: Mapping[str, object],
    ) -> None:
        """Append an operation; its file or folder is linked or copied as it is now."""
        operation = {"name": name, "time": time.time(), "arguments": arguments, "nested": nested}
        file = None if content is None else self._add(content)
        line = json.dumps(operation | {"file": file}, ensure_ascii=False) + "\n"
        with self._writing, self._operations.open("ab+", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            torn = size and stream.read(1) != b"\n"  # its writer was killed in the middle
            stream.write(("\n" * bool(torn) + line).encode())
        self.appended.set()

    def _add(self, content: Path | NewFile) -> str:
        target = self.folder / "files" / uuid.uuid4().hex[:8] / content.name
        target.parent.mkdir(parents=True)
        if isinstance(content, NewFile):
            content.write(target)
        elif content.is_dir():
            shutil.copytree(content, target, copy_function=lambda source, copy: link_or_copy(Path(source), Path(copy)))
        else:
            link_or_copy(content, target)
        return target.relative_to(self.folder).as_posix()

    # -- reading

    def pending(self) -> Iterator[tuple[Operation, int]]:
        """Yield each operation that was not sent yet, and the position behind it. Torn lines are skipped."""
        if not self._operations.is_file():
            return
        with self._operations.open("rb") as stream:
            stream.seek(self.position)
            while (line := stream.readline()).endswith(b"\n"):
                with suppress(ValueError):
                    yield Operation.model_validate(json.loads(line)), stream.tell()

    def release(self, operation: Operation) -> None:
        """Remove the file that belongs to an operation that was sent."""
        if operation.file:
            shutil.rmtree((self.folder / operation.file).parent, ignore_errors=True)
