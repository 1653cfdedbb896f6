"""Nodes of the acquisition pipeline."""

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.utils import find_kedro_project

from unet_segmentation.data.io.filesystem import FileStore, count_files_and_bytes
from unet_segmentation.errors import DataError, SourceError
from unet_segmentation.parameters import ArchiveParameters, SourceParameters
from unet_segmentation.utils.atomic_io import atomic_write, remove

logger = logging.getLogger(__name__)

MARKER = ".extracted.json"  # lies in the folder of extracted files and says of which archives they are


def download(source: SourceParameters, archives_dir: Path) -> dict[str, Any]:
    """Get the archives: from the network, from the disk, or drawn by the embedded generator.

    What is there already is not fetched or drawn again, and what a run before has begun is gone on with.

    Returns:
        ``archives``: of each its ``name``, ``path`` (relative to the archives folder; absolute for a file of the
        user's own), ``bytes`` and ``url``. Empty where the source is a folder.

    Raises:
        SourceError: an archive cannot be had.
        ResourceError: the disk has not enough room for all of them.
        DataError: the folder of a folder source is not there.
    """
    from unet_segmentation.data.ingestion.download import Network
    from unet_segmentation.data.ingestion.fetch_archives import draw_archive, fetch_archives

    if source.folder is not None:
        _own_root(source.folder)
        return {"archives": []}
    if source.generator is not None:
        return {"archives": [draw_archive(source.generator, archives_dir)]}
    bundle = None if source.ca_bundle is None else _own_path(Path(source.ca_bundle).expanduser())
    network = Network(source.timeout_seconds, source.retries, source.parallel, bundle)
    return {"archives": fetch_archives(source, archives_dir, network, _own_path)}


def verify(downloads: dict[str, Any], source: SourceParameters, archives_dir: Path) -> dict[str, Any]:
    """Check every archive against the hashes that are declared for it.

    A download that is wrong is deleted, so that the next run fetches it anew. A file of the user's own never is.

    Returns:
        ``archives`` as before, each with its ``sha256`` and ``content_sha256``, and ``content_sha256`` of all.

    Raises:
        SourceError: an archive is damaged, holds what it must not, or is not what is declared.
    """
    from unet_segmentation.data.ingestion.archives import file_digests
    from unet_segmentation.data.ingestion.content_hash import archive_content_sha256, combined, content_sha256
    from unet_segmentation.data.ingestion.fetch_archives import FILE_HASHES, archive_entry, declarations
    from unet_segmentation.data.layout.layout import Layout
    from unet_segmentation.utils.progress_bar import byte_progress

    uses = Layout.of(source).uses
    verified = []
    for record, declared in zip(downloads["archives"], declarations(source, downloads["archives"]), strict=True):
        parcel = archive_entry(record, declared, archives_dir)
        path = parcel.path
        if not path.is_file():
            raise SourceError(f"{path} is not there any more: run the node download again.")
        try:
            wanted = {"sha256"} | {key for key in FILE_HASHES if declared is not None and getattr(declared, key)}
            with byte_progress("Verifying", path.stat().st_size) as advance:
                found = file_digests(path, sorted(wanted), advance)
            _check_hashes(path, declared, found)
            if parcel.plain_name is None:
                content = archive_content_sha256(path, uses, parcel.into, scratch=archives_dir)
            else:
                content = content_sha256({parcel.plain_path: found["sha256"]})
            _check_hashes(path, declared, {"content_sha256": content})
        except SourceError as error:
            own = Path(record["path"]).is_absolute() or (declared is not None and declared.url is None)
            raise SourceError(f"{error} {_way_out(path, own)}") from error
        if declared is not None and not any(getattr(declared, key) for key in (*FILE_HASHES, "content_sha256")):
            logger.info("%s has no hash declared; to pin it, declare content_sha256: %s", path.name, content)
        verified.append({**record, "sha256": found["sha256"], "content_sha256": content})
    return {"archives": verified, "content_sha256": combined([archive["content_sha256"] for archive in verified])}


def extract(verified: dict[str, Any], source: SourceParameters, archives_dir: Path, raw_dir: Path) -> dict[str, Any]:
    """Unpack the archives into one folder, unless they lie there already, whole.

    Returns:
        ``root``: the absolute path of the folder with the files (for a folder source, that folder, or its URL),
        ``files``: how many lie there, ``content_sha256`` of the images and masks (None for a folder source).

    Raises:
        SourceError: two archives hold different files of the same name.
        ResourceError: the disk is full.
    """
    from unet_segmentation.data.ingestion.archives import unpack_all
    from unet_segmentation.data.ingestion.fetch_archives import archive_entry, declarations
    from unet_segmentation.data.layout.layout import Layout

    content = verified["content_sha256"]
    if source.folder is not None:
        root = _own_root(source.folder)
        count = sum(1 for _ in FileStore(root, source.storage_options).walk())
        return {"root": root, "files": count, "content_sha256": None}
    records = verified["archives"]
    pairs = zip(records, declarations(source, records), strict=True)
    parcels = [archive_entry(record, declared, archives_dir) for record, declared in pairs]
    unpacked = [
        [record["sha256"], parcel.into, parcel.plain_name] for record, parcel in zip(records, parcels, strict=True)
    ]
    marker = raw_dir / MARKER
    if not marker.is_file() or _read(marker) != {"archives": unpacked, **count_files_and_bytes(FileStore(raw_dir))}:
        with atomic_write(raw_dir) as temporary:
            temporary.mkdir()
            unpack_all(parcels, temporary, Layout.of(source).uses)
            marked = {"archives": unpacked, **count_files_and_bytes(FileStore(temporary))}
            (temporary / MARKER).write_text(json.dumps(marked), encoding="utf-8")
        logger.info("Unpacked %d files into %s", marked["files"], raw_dir)
    return {"root": str(raw_dir.absolute()), "files": _read(marker)["files"], "content_sha256": content}


def index(extracted: dict[str, Any], source: SourceParameters) -> pd.DataFrame:
    """List the samples: a row per image, with its masks, its region of interest, its group and its official split.

    Returns:
        ``sample_id`` (unique), ``image``, ``masks`` and ``roi`` (paths relative to the root, with ``#3`` at the end
        where a page is meant), ``group``, ``split``. A mask without an image has a row too, with an empty ``image``,
        for the inspection to report.

    Raises:
        DataError: the layout matches nothing, two images claim the same id, or a list or table does not fit.
    """
    from unet_segmentation.data.io.page_count import count_pages
    from unet_segmentation.data.layout.layout import Layout, find_samples, samples_table
    from unet_segmentation.data.layout.predefined_splits import apply_table, split_by_lists

    storage = FileStore(extracted["root"], source.storage_options)
    if storage.is_local and not Path(storage.root).is_dir():
        raise DataError(f"The folder {storage} is not there any more: run the node extract again.")
    paths = list(storage.walk())
    samples = find_samples(paths, Layout.of(source), str(storage), partial(count_pages, storage))
    if source.split_lists:
        lists, names = _lists(source, storage, paths)
        samples = split_by_lists(samples, lists, source.unlisted, names)
    if source.split_table is not None:
        file, text = _table(source.split_table.file, storage, paths)
        samples = apply_table(samples, text, source.split_table.model_copy(update={"file": file}), source.unlisted)
    table = samples_table(samples, source.group, str(storage))
    logger.info(
        "%d images, %d with a mask",
        sum(sample.image != "" for sample in samples),
        sum(sample.image != "" and bool(sample.masks) for sample in samples),
    )
    return table


def _lists(
    source: SourceParameters, storage: FileStore, paths: list[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Read the lists of an official split: of each split the lines, and what to call the list in a message."""
    from unet_segmentation.data.layout.predefined_splits import find_file, read_text

    lists: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for split, given in source.split_lists.items():
        if isinstance(given, str):
            names[split] = find_file(paths, given, f"source.split_lists.{split}", str(storage))
            lists[split] = read_text(storage, names[split]).splitlines()
        else:
            lists[split], names[split] = given, f"source.split_lists.{split}"
    return lists, names


def _table(file: str, storage: FileStore, paths: list[str]) -> tuple[str, str]:
    """Find the table among the files of the data set, else in the project, and read it."""
    from unet_segmentation.data.layout.predefined_splits import find_file, read_text

    own = _own_path(Path(file).expanduser())
    if own.is_file() and file not in paths:
        return str(own), read_text(FileStore(own.parent), own.name)
    found = find_file(paths, file, "source.split_table.file", str(storage))
    return found, read_text(storage, found)


def _own_root(folder: str) -> str:
    """Return the root of a folder source: the absolute path of a folder that is there, or a URL as it is."""
    if "://" in folder:
        return folder
    path = _own_path(Path(folder).expanduser())
    if not path.is_dir():
        raise DataError(f"There is no folder {path} (source.folder: {folder}). Give the folder that holds the files.")
    return str(path)


def _own_path(path: Path) -> Path:
    """Make a path of the user's absolute: from where the command was given, else from the project's root."""
    project = find_kedro_project(Path.cwd())
    if not path.is_absolute() and not path.exists() and project is not None:
        path = project / path
    return path.absolute()


def _check_hashes(path: Path, declared: ArchiveParameters | None, found: Mapping[str, str]) -> None:
    for key, value in found.items():
        expected = getattr(declared, key, None)
        if expected not in {None, value}:
            raise SourceError(
                f"{path} is not the archive that is declared: its {key} is {value}, declared is {expected}."
            )


def _way_out(path: Path, own: bool) -> str:
    if own:
        return "The file was left as it is. Get it anew from its publisher, or correct what parameters.yml declares."
    remove(path)
    return (
        "The file was deleted: run again to get it anew. If that does not help, get it in another way and give "
        f"--params source.archive=/path/to/{path.name}, or correct what parameters.yml declares."
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
