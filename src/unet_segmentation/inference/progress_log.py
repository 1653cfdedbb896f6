"""A log of the finished images of a folder, a line each, so that a run that was killed resumes where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unet_segmentation.inference.input_discovery import Input

Row = dict[str, Any]

NAME = ".finished.jsonl"


class ProgressLog:
    """The finished images of a folder. A line is written when all files of an image are whole.

    Args:
        folder: of the results.
        key: of what made them (model, parameters): lines with another key do not count.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._file, self._key = folder, folder / NAME, key

    def finished(self, inputs: Iterable[Input]) -> dict[str, Row]:
        """Return the rows of the images that are finished, and whose files are as they were."""
        stamps = {each.path: each.stamp for each in inputs}
        rows: dict[str, Row] = {}
        for line in self._lines():
            path = line["row"]["image"]
            if line["key"] == self._key and line["stamp"] and stamps.get(path) == line["stamp"]:
                rows[path] = line["row"]
        return {path: row for path, row in rows.items() if (self._folder / row["mask"]).is_file()}

    def add(self, image: Input, row: Row) -> None:
        """Note that an image is finished."""
        line = json.dumps({"key": self._key, "stamp": image.stamp, "row": row})
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}")  # a line break first: what was cut off by a kill stays a line of its own

    def _lines(self) -> Iterable[dict[str, Any]]:
        if not self._file.is_file():
            return
        with self._file.open(encoding="utf-8", errors="replace") as stream:
            for text in stream:
                try:
                    line = json.loads(text)
                    yield {"key": line["key"], "stamp": line["stamp"], "row": dict(line["row"])}
                except (ValueError, TypeError, KeyError):  # empty, or cut off by a kill
                    continue
