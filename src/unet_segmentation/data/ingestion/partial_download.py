"""A download that is not complete: its bytes under a stable name, and the origin of the file they belong to."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from unet_segmentation.data.ingestion.urls import shown


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
        """Return whether the rest may come from an address.

        It may if the server can tell that the file is still the same, or if a hash of the whole will tell in the end.
        """
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
