"""What kinds of files there are: pictures, tables of numbers, annotations, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import ENDINGS, UnreadableError, read_bytes

PICTURES = set(ENDINGS)
NUMBERS = {"mat", "txt", "csv"}  # may hold a mask as numbers
LISTS = {"txt", "lst", "csv", "tsv"}  # may hold a predefined split
MAX_BYTES = 64 * 2**20  # of an annotation file that are read


def ending(path: str) -> str:
    """Return the extension of a file's name in lower case, without the dot; empty where there is none."""
    return PurePosixPath(path).suffix[1:].lower()


def may_be_data(path: str) -> bool:
    """Return whether a path may be an image, a mask or an annotation file, judging by its name alone."""
    annotations = frozenset().union(*(entry.extensions for _, entry in ANNOTATION_FORMATS))
    return ending(path) in PICTURES | NUMBERS | annotations


def kind_of(storage: FileStore, path: str) -> str:  # noqa: PLR0911 - a list of kinds
    """Return the kind of a file.

    Returns:
        ``picture`` (pixels), ``grid`` (numbers as text), ``matlab``; the name of an annotation format; ``empty``;
        ``text`` (may be a list); ``none``.
    """
    name = ending(path)
    if name in PICTURES:
        return "picture"
    try:
        data = read_bytes(storage, path, may_be_empty=True)[:MAX_BYTES]
    except (UnreadableError, OSError):
        return "none"
    if not data.strip():
        return "empty"
    if name == "mat":
        return "matlab"
    text = data.decode("utf-8-sig", errors="replace")
    for kind, annotation_format in ANNOTATION_FORMATS:
        if name in annotation_format.extensions and annotation_format.detect(text):
            return kind
    if name not in {"txt", "csv"}:
        return "none"
    return "grid" if _is_grid(text) else "text"


def kind_of_most(storage: FileStore, paths: Sequence[str]) -> str:
    """Return the kind of files of one family, from a few of them: an empty one among others says nothing."""
    kinds = [kind for path in spread(paths, 5) if (kind := kind_of(storage, path)) != "empty"]
    return max(kinds, key=kinds.count) if kinds else "none"


def spread(items: Sequence[str], count: int) -> list[str]:
    """Return a few of many, spread evenly over all of them."""
    if len(items) <= count:
        return list(items)
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]


def track(paths: Sequence[str], step: str) -> Iterable[str]:
    """Show a progress bar over paths, on a terminal only."""
    from rich import get_console, progress

    console = get_console()
    return progress.track(paths, step, console=console, transient=True, disable=not console.is_terminal)


def _is_grid(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines()[:50] if line.strip()]
    columns = {len(re.split(r"[\s,;]+", line)) for line in lines}
    is_numeric = bool(re.fullmatch(r"[-+0-9.eE\s,;]+", "\n".join(lines)))
    return is_numeric and len(lines) > 1 and len(columns) == 1 and 1 not in columns
