"""Fetch the archives of a source: drawn, downloaded, fetched by hand, or the user's own."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from unet_segmentation.data.ingestion.archives import ArchiveEntry, check_archive
from unet_segmentation.data.ingestion.download import Download, Network, fetch_all
from unet_segmentation.data.ingestion.records import DownloadedArchive
from unet_segmentation.data.ingestion.urls import archive_name, file_name, local_path, shown
from unet_segmentation.errors import ConfigurationError, SourceError
from unet_segmentation.parameters.source import ArchiveParameters, GeneratorParameters, SourceParameters
from unet_segmentation.utils.atomic_io import atomic_write

logger = logging.getLogger(__name__)

FILE_HASHES = ("sha256", "sha1", "md5")  # of the archive as a file


def fetch_archives(
    source: SourceParameters, folder: Path, network: Network, resolve: Callable[[Path], Path]
) -> list[DownloadedArchive]:
    """Bring all archives of a source onto the disk.

    Args:
        source: with archives, or paths that replace them.
        folder: for what is downloaded or was fetched by hand.
        network: timeouts, retries and certificates.
        resolve: makes a path of the user's absolute.

    Raises:
        SourceError: one cannot be had.
        ResourceError: the disk has not enough room for all.
        ConfigurationError: two would be stored under the same name.
    """
    if source.archive is not None:
        own = source.local_archives
        declared: Sequence[ArchiveParameters | None] = source.archives or [None] * len(own)
        return [_own_archive(address, archive, resolve) for address, archive in zip(own, declared, strict=True)]
    downloads = [_planned(archive, folder, resolve) for archive in source.archives]
    name, count = Counter(map(_stored_name, source.archives)).most_common(1)[0]
    if count > 1:
        raise ConfigurationError(
            f"source.archives: {count} of them would be stored as {name!r}. Declare another url, or another file."
        )
    _check_fetched_by_hand(source.archives, folder)
    fetch_all([download for download in downloads if download is not None], network)
    records = []
    for archive, download in zip(source.archives, downloads, strict=True):
        if archive.url is not None and download is None:
            records.append(_own_archive(archive.url, archive, resolve))
        else:
            file, url = folder / _stored_name(archive), shown(archive.url) if archive.url else str(archive.page)
            records.append(DownloadedArchive.from_file(file, file.name, url))
    return records


def draw_archive(generator: GeneratorParameters, folder: Path) -> DownloadedArchive:
    """Draw the embedded problem's archive. Its name changes with the parameters and with the generator itself."""
    from unet_segmentation.data.synthetic import cells

    content = generator.model_dump_json().encode() + Path(cells.__file__).read_bytes()
    token = hashlib.sha256(content).hexdigest()[:8]
    path = folder / f"{generator.name}-{generator.images}-of-{generator.size}px-seed-{generator.seed}-{token}.zip"
    if not path.is_file():
        logger.info("Drawing %d images of %s", generator.images, generator.name)
        with atomic_write(path) as temporary:
            cells.write_archive(generator, temporary)
    return DownloadedArchive.from_file(path, path.name, url=f"generator:{generator.name}")


def declarations(source: SourceParameters, records: Sequence[DownloadedArchive]) -> Sequence[ArchiveParameters | None]:
    """Return what is declared of each archive; None for one that was only named, or drawn."""
    return source.archives or [None] * len(records)


def archive_entry(record: DownloadedArchive, declared: ArchiveParameters | None, folder: Path) -> ArchiveEntry:
    """Return where the files of an archive go."""
    path = folder / record.path
    if declared is None:
        return ArchiveEntry(path)
    plain_name = None if declared.unpack else declared.file or file_name(declared.url or "") or path.name
    return ArchiveEntry(path, declared.into, plain_name)


def _planned(archive: ArchiveParameters, folder: Path, resolve: Callable[[Path], Path]) -> Download | None:
    """Plan a download; None where the archive is on this machine, or has to be fetched by hand."""
    if archive.url is None:
        return None
    local = local_path(archive.url)
    if local is not None and (resolve(local).exists() or not archive.mirrors):
        return None
    hashed = any(getattr(archive, key) for key in FILE_HASHES)
    return Download([archive.url, *archive.mirrors], folder / _stored_name(archive), hashed, archive.unpack)


def _stored_name(archive: ArchiveParameters) -> str:
    return archive.file or archive_name(archive.url or "")


def _check_fetched_by_hand(archives: Sequence[ArchiveParameters], folder: Path) -> None:
    """Raise where archives that need a login are missing, before others are downloaded for nothing."""
    missing = [one for one in archives if one.url is None and not (folder / str(one.file)).is_file()]
    if not missing:
        return
    lines = "\n".join(f"  {archive.file}  from {archive.page}" for archive in missing)
    paths = ";".join(f"/path/to/{archive.file or 'archive.zip'}" for archive in archives)
    raise SourceError(
        f"What needs a login cannot be downloaded by a program. Get by hand:\n{lines}\nPut it into {folder.absolute()} "
        f'and run again; or name the files: --params "source.archive={paths}"'
    )


def _own_archive(
    address: str, declared: ArchiveParameters | None, resolve: Callable[[Path], Path]
) -> DownloadedArchive:
    """Check a file of the user's own, which stays where it is."""
    local = local_path(address)
    if local is None:
        raise SourceError(f"source.archive takes files on this machine, not {address}: declare it as source.archives.")
    path = resolve(local)
    if path.is_dir():
        raise SourceError(f"{path} is a folder, not an archive: declare a folder as source.folder.")
    if not path.is_file():
        raise SourceError(f"There is no archive {path}: check the path ({address}).")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path} cannot be read: check its permissions.")
    if declared is None or declared.unpack:
        check_archive(path)
    return DownloadedArchive.from_file(path, str(path), url=path.as_uri())
