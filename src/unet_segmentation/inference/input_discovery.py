"""The images to predict: from a folder, a file, one of its pages, a glob or a URL to a list of files."""

from __future__ import annotations

import fnmatch
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from unet_segmentation.data.ingestion.urls import file_name, queried_name
from unet_segmentation.data.io.filesystem import WEB, FileStore, split_page
from unet_segmentation.data.io.image_decoders import ENDINGS, count_pages
from unet_segmentation.errors import DataError

logger = logging.getLogger(__name__)

WILD = frozenset("*?[")
MANY_PAGES = frozenset({"tif", "tiff", "gif", "webp"})  # endings of files that may hold more than one image


class Input(NamedTuple):
    """An image to predict."""

    path: str  # relative to the storage's root; `volume.tif#3` is a page
    name: str  # of its results, without an ending: the path without its own, where that is unique
    stamp: str  # changes when the file changes


def list_inputs(source: str, options: Mapping[str, object] | None = None) -> tuple[FileStore, list[Input]]:
    """Find the images that a user means.

    Args:
        source: a folder (with all below it), a file, a page (`volume.tif#3`), a glob, or a URL of a file or folder; in
            a URL only `*` stands for something else.
        options: for a URL, what fsspec wants to know.

    Returns:
        Where they are, and the images, sorted by path. A file of several pages gives an image for each.

    Raises:
        DataError: nothing is there, or no image.
    """
    storage, paths = _find(source, options)
    spoken = _spoken if storage.is_web else str
    endings = {path: _ending(spoken(path)) for path in paths}
    images = [path for path in paths if endings[path] in ENDINGS]
    others = Counter(ending or "no ending" for ending in endings.values() if ending not in ENDINGS)
    if not images:
        contents = f"{sum(others.values())} files of other kinds ({_counted(others)})" if others else "no file"
        raise DataError(f"{source} holds no image: {contents}. Images end in {', '.join(sorted(ENDINGS))}.")
    if others:
        logger.info("Left aside: %d files that are no images (%s)", sum(others.values()), _counted(others))
    pages = [page for path in images for page in _pages(storage, path, endings[path])]
    names = _names({path: spoken(path) for path in pages})
    stamps = storage.stamps([split_page(path)[0] for path in pages])
    return storage, [Input(path, names[path], stamp) for path, stamp in zip(pages, stamps, strict=True)]


def _find(source: str, options: Mapping[str, object] | None) -> tuple[FileStore, list[str]]:
    """Return the storage and the files in it that are meant."""
    if "://" in source:
        return _find_remote(source, options)
    here = Path(source).expanduser()
    if here.is_dir():
        storage = FileStore(here)
        return storage, list(storage.walk())
    if here.is_file():
        return FileStore(here.parent), [here.name]
    file, page = split_page(source)
    if page is not None and Path(file).expanduser().is_file():
        return FileStore(Path(file).expanduser().parent), [Path(source).name]
    if WILD & set(source):
        fixed = next(parent for parent in here.parents if not WILD & set(str(parent)))
        if not fixed.is_dir():
            raise DataError(f"There is no folder {fixed}, so nothing matches {here}.")
        return _matching(FileStore(fixed), here.relative_to(fixed).as_posix())
    raise DataError(f"There is nothing at {source}. Give a folder, an image file, a glob or a URL.")


def _find_remote(source: str, options: Mapping[str, object] | None) -> tuple[FileStore, list[str]]:
    if "*" in source:
        fixed = source.partition("*")[0].rpartition("/")[0]
        return _matching(FileStore(fixed, options), source.removeprefix(f"{fixed}/"))
    is_web = source.startswith(WEB)  # elsewhere a name may hold # and ?
    if _ending(file_name(source) if is_web else source) in ENDINGS:
        address = source.partition("?")[0] if is_web else source  # a query belongs to the file, slashes and all
        folder = address.rpartition("/")[0]
        return FileStore(folder, options), [source.removeprefix(f"{folder}/")]
    storage = FileStore(source, options)
    return storage, list(storage.walk())


def _matching(storage: FileStore, pattern: str) -> tuple[FileStore, list[str]]:
    return storage, [path for path in storage.walk() if fnmatch.fnmatchcase(path, pattern)]


def _pages(storage: FileStore, path: str, ending: str) -> list[str]:
    if split_page(path)[1] is not None or ending not in MANY_PAGES:
        return [path]
    count = count_pages(storage, path)
    return [path] if count == 1 else [f"{path}#{page}" for page in range(count)]


def _names(spoken: Mapping[str, str]) -> dict[str, str]:
    """Name the results: `a/b.png` gives `a/b`; where `a/b.jpg` is there as well, both keep their endings."""
    short = {path: _without_ending(name) for path, name in spoken.items()}
    counts = Counter(name.casefold() for name in short.values())
    return {path: name if counts[name.casefold()] == 1 else spoken[path] for path, name in short.items()}


def _spoken(path: str) -> str:
    """Undo what an address does to names, but where a name would lead to another folder; a query can name the file.

    >>> _spoken("wells/a%20b.png"), _spoken("wells/%2Fetc%2Fa.png"), _spoken("%2e%2e/a.png")
    ('wells/a b.png', 'wells/%2Fetc%2Fa.png', '%2e%2e/a.png')
    >>> _spoken("a.png?key=x/y"), _spoken("get?path=/wells/a.tif#3")
    ('a.png', 'a.tif#3')
    """
    file, page = split_page(path)
    address, _, query = file.partition("?")
    folder, slash, name = address.rpartition("/")
    if not PurePosixPath(name).suffix:
        address = f"{folder}{slash}{queried_name(query) or name}"
    spoken = "/".join(part if _leads_away(unquote(part)) else unquote(part) for part in address.split("/"))
    return spoken if page is None else f"{spoken}#{page}"


def _leads_away(name: str) -> bool:
    return name in {".", ".."} or any(mark in name for mark in "/\\\0")


def _without_ending(path: str) -> str:
    file, page = split_page(path)
    stem = str(PurePosixPath(file).with_suffix(""))
    return stem if page is None else f"{stem}#{page}"


def _ending(path: str) -> str:
    return PurePosixPath(split_page(path)[0]).suffix[1:].lower()


def _counted(endings: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5))
