"""What kinds of files there are: pictures, tables of numbers, annotations, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import ENDINGS, UnreadableError, read_bytes

PICTURES = set(ENDINGS)
NUMBERS = {"mat", "txt", "csv"}  # may hold a mask as numbers
ANNOTATIONS = {"json", "txt", "xml"}
LISTS = {"txt", "lst", "csv", "tsv"}
AT_MOST = 64 * 2**20  # bytes of an annotation file that are looked at

_YOLO_LINE = re.compile(r"\d+(?:\s+[-+0-9.eE]+){4,}\s*")
_GRID = re.compile(r"[-+0-9.eE\s,;]+")


def ending(path: str) -> str:
    """Return the ending of a file's name in small letters, without the dot; empty where there is none."""
    return PurePosixPath(path).suffix[1:].lower()


def may_be_data(path: str) -> bool:
    """Return whether a path may be an image, a mask or an annotation file, judging by its name alone."""
    return ending(path) in PICTURES | NUMBERS | ANNOTATIONS


def kind_of(storage: FileStore, path: str) -> str:  # noqa: PLR0911 - a list of kinds
    """Describe what a file is.

    Returns:
        ``picture`` (pixels), ``grid`` (numbers as text), ``matlab``; ``coco``, ``yolo``, ``labelme``, ``pascal``
        (annotations); ``empty``; ``text`` (may be a list); ``none``.
    """
    name = ending(path)
    if name in PICTURES:
        return "picture"
    try:
        data = read_bytes(storage, path, may_be_empty=True)[:AT_MOST]
    except (UnreadableError, OSError):
        return "none"
    if not data.strip():
        return "empty"
    if name == "mat":
        return "matlab"
    if name == "xml":
        return "pascal" if b"<object" in data or b"<annotation" in data else "none"
    text = data.decode("utf-8-sig", errors="replace")
    if name == "json":
        return _json_kind(text)
    if name in {"txt", "csv"}:
        return _text_kind(text)
    return "none"


def spread(items: Sequence[str], count: int) -> list[str]:
    """Take a few of many, spread evenly over all of them."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]


def kind_of_most(storage: FileStore, paths: Sequence[str]) -> str:
    """Describe what files of one kind are, from a few of them: an empty one among others says nothing."""
    kinds = [kind_of(storage, path) for path in spread(paths, 5)]
    telling = [kind for kind in kinds if kind != "empty"]
    return max(telling, key=telling.count) if telling else "none"


def texts(paths: Iterable[str]) -> list[str]:
    """Name the files that may be lists or tables of an official split."""
    return [path for path in paths if ending(path) in LISTS]


def _json_kind(text: str) -> str:
    if '"shapes"' in text:
        return "labelme"
    if '"images"' in text and ('"annotations"' in text or '"categories"' in text):
        return "coco"
    return "none"


def _text_kind(text: str) -> str:
    head = "\n".join(text.splitlines()[:50])
    if all(_YOLO_LINE.fullmatch(line) for line in head.splitlines() if line.strip()) and _are_shares(head):
        return "yolo"
    rows = [len(re.split(r"[\s,;]+", line.strip())) for line in head.splitlines() if line.strip()]
    if _GRID.fullmatch(head) and len(rows) > 1 and len(set(rows)) == 1 and rows[0] > 1:
        return "grid"
    return "text"


def _are_shares(head: str) -> bool:
    """Tell shares of width and height from other numbers."""
    try:
        numbers = [float(word) for line in head.splitlines() for word in line.split()[1:]]
    except ValueError:
        return False
    return all(-0.01 <= number <= 1.01 for number in numbers) and any(number % 1 for number in numbers)
