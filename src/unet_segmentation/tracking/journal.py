"""The journal of a run: a write-ahead log on disk of what it logs to MLflow, kept until it was sent.

A folder per run under `.tracking/`:

    header.json        what it takes to open the run
    operations.jsonl   a line per operation, appended by the run
    files/             what belongs to operations, linked or copied
    state.json         how far it was sent, written by the uploader
    lock               held by the process of the run; where it is free, whoever takes it sends the rest

A journal is removed as soon as the end of its run was sent.
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
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import Field

from unet_segmentation.errors import ResourceError
from unet_segmentation.tracking.base import NewFile
from unet_segmentation.utils.atomic_io import atomic_write, link_or_copy
from unet_segmentation.utils.strict_model import StrictModel

FOLDER = ".tracking"


class FileModel(StrictModel):
    """A model in a JSON file of its own."""

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """Read a file; return None where it is missing or invalid."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, file: Path) -> None:
        """Write it atomically."""
        with atomic_write(file) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


class RunHeader(FileModel):
    """What it takes to open a run."""

    uri: str
    experiment: str
    run_name: str
    model_name: str = "unet"
    started: float  # seconds since 1970
    tags: dict[str, str] = Field(default_factory=dict)
    earlier_run_id: str | None = None  # the MLflow run that this one continues, or replaces
    extra_epochs: str | None = None  # added to a finished training; noted in a tag


class RunReference(FileModel):
    """An MLflow run; kept in a small file of the folder whose results belong to it."""

    uri: str
    run_id: str


class RunIds(StrictModel):
    """An MLflow run that was created or reopened."""

    run_id: str
    experiment_id: str
    resumed: bool = False  # it is the run of an earlier process: what that one has logged is not logged again


class JournalState(FileModel):
    """How far a journal was sent."""

    resumes: bool = False  # whether the header's earlier run is continued, not replaced
    run: RunIds | None = None  # once it is opened
    nested: dict[str, RunIds] = Field(default_factory=dict)  # open nested runs, by key
    models: dict[str, str] = Field(default_factory=dict)  # MLflow's ids of models that were created, by key
    position: int = 0  # bytes of the operations that were sent


class Operation(StrictModel):
    """One line of a journal."""

    model_config = StrictModel.model_config | {"allow_inf_nan": True}

    name: str  # of the client's method that sends it
    time: float  # seconds since 1970
    arguments: dict[str, Any]
    file: str | None = None  # what belongs to it, below the journal's folder
    nested: str | None = None  # key of the nested run that it is for


class Journal:
    """One run's folder of operations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.appended = threading.Event()
        self._operations = folder / "operations.jsonl"
        self._lock, self._writing = FileLock(folder / "lock", thread_local=False), threading.Lock()
        self._state: JournalState | None = None
        self._closed: set[str | None] = set()  # keys of nested runs; None: the run itself

    @classmethod
    def create(cls, root: Path, header: RunHeader) -> Journal:
        """Make the journal of a new run under the project's root, and lock it."""
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")  # to the microsecond: journals are sent in this order
        journal = cls(root / FOLDER / f"{now}-{uuid.uuid4().hex[:6]}")
        (journal.folder / "files").mkdir(parents=True)
        journal._lock.acquire(timeout=0)
        header.write(journal.folder / "header.json")
        return journal

    @staticmethod
    def find_all(root: Path) -> list[Journal]:
        """List the journals under the project's root, oldest first."""
        return [Journal(header.parent) for header in sorted((root / FOLDER).glob("[!.]*/header.json"))]

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[bool]:
        """Lock the journal; yield False where its run or another uploader holds it, or it was removed meanwhile."""
        try:
            self._lock.acquire(timeout=-1 if wait else 0)
        except (Timeout, FileNotFoundError):
            yield False
            return
        self._state = None  # another process may have written it since
        try:
            yield (self.folder / "header.json").is_file()
        finally:
            self.unlock()

    def unlock(self) -> None:
        """Release the lock, so that another process can send the rest."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder. It is renamed first: a journal is there as a whole or not, even if this is interrupted."""
        removed = self.folder.with_name(f".{self.folder.name}")
        with suppress(OSError):
            self.folder.rename(removed)
        self.remove_leftovers(self.folder.parents[1])
        self.unlock()

    @staticmethod
    def remove_leftovers(root: Path) -> None:
        """Remove what is left of journals that were being removed, and `.tracking` if nothing else is in it."""
        for removed in (root / FOLDER).glob(".*"):
            shutil.rmtree(removed, ignore_errors=True)
        with suppress(OSError):
            (root / FOLDER).rmdir()

    # -- header and state

    @cached_property
    def header(self) -> RunHeader:
        """Return what it takes to open the run."""
        return RunHeader.model_validate_json((self.folder / "header.json").read_bytes())

    @property
    def state(self) -> JournalState:
        """Return how far it was sent."""
        if self._state is None:
            self._state = JournalState.read(self.folder / "state.json") or JournalState()
        return self._state

    def update(self, **values: object) -> None:
        """Change the state."""
        self._state = self.state.model_copy(update=values)
        with suppress(OSError, ResourceError):  # a full disk: what is sent again after a crash is stored once
            self._state.write(self.folder / "state.json")

    @property
    def run_id(self) -> str | None:
        """Return the MLflow run that it goes to; None where that is still to be created."""
        state = self.state
        return state.run.run_id if state.run else self.header.earlier_run_id if state.resumes else None

    # -- operations

    def append(
        self,
        name: str,
        content: Path | NewFile | None = None,
        *,
        nested: str | None = None,
        arguments: Mapping[str, object],
    ) -> None:
        """Append an operation, its file or folder linked or copied as it is now; nothing follows the end of a run."""
        operation = {"name": name, "time": time.time(), "arguments": arguments, "nested": nested}
        file = None if content is None else self._add(content)
        line = json.dumps(operation | {"file": file}, ensure_ascii=False) + "\n"
        with self._writing:
            if self._closed & {nested, None}:
                return
            with self._operations.open("ab+", buffering=0) as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - 1))
                torn = size and stream.read(1) != b"\n"  # its writer was killed in the middle
                stream.write(("\n" * bool(torn) + line).encode())
            if name == "close":
                self._closed.add(nested)
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

    def pending(self) -> Iterator[tuple[Operation, int]]:
        """Yield each operation that was not sent yet, and the position behind it. Torn lines are skipped."""
        if not self._operations.is_file():
            return
        with self._operations.open("rb") as stream:
            stream.seek(self.state.position)
            while (line := stream.readline()).endswith(b"\n"):
                with suppress(ValueError):
                    yield Operation.model_validate(json.loads(line)), stream.tell()

    def mark_sent(self, operations: list[Operation], position: int) -> None:
        """Note that operations were sent, up to a position, and remove their files."""
        self.update(position=position)
        for operation in operations:
            if operation.file:
                shutil.rmtree((self.folder / operation.file).parent, ignore_errors=True)
