"""Verify archives against the hashes that are declared for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from unet_segmentation.data.ingestion.archives import file_digests
from unet_segmentation.data.ingestion.content_hash import archive_content_sha256, combined, content_sha256
from unet_segmentation.data.ingestion.fetch_archives import FILE_HASHES, archive_entry, declarations
from unet_segmentation.data.ingestion.records import DownloadedArchive, Downloads, VerifiedArchive, VerifiedArchives
from unet_segmentation.data.layout.layout import Layout
from unet_segmentation.errors import SourceError
from unet_segmentation.parameters.source import ArchiveParameters, SourceParameters
from unet_segmentation.utils.atomic_io import remove
from unet_segmentation.utils.progress_bar import byte_progress

logger = logging.getLogger(__name__)

OWN_FILE_HINT = "The file was left as it is. Get it again from its publisher, or correct what parameters.yml declares."
DELETED_HINT = (
    "The file was deleted: run again to download it again. If that does not help, get it in another way and pass "
    "--params source.archive=/path/to/{name}, or correct what parameters.yml declares."
)


def verify_archives(downloads: Downloads, source: SourceParameters, folder: Path) -> VerifiedArchives:
    """Check every archive against the hashes that are declared for it.

    A download that is wrong is deleted, so that the next run fetches it again. A file of the user's own never is.

    Raises:
        SourceError: an archive is missing, is damaged, holds what it must not, or is not what is declared.
    """
    uses = Layout.of(source).uses
    declared = declarations(source, downloads.archives)
    archives = tuple(_verify(*pair, uses, folder) for pair in zip(downloads.archives, declared, strict=True))
    content = combined([archive.content_sha256 for archive in archives])
    return VerifiedArchives(archives=archives, content_sha256=content)


def _verify(
    record: DownloadedArchive, declared: ArchiveParameters | None, uses: Callable[[str], bool], folder: Path
) -> VerifiedArchive:
    entry = archive_entry(record, declared, folder)
    path = entry.path
    if not path.is_file():
        raise SourceError(f"{path} is not there any more: run the node download again.")
    try:
        algorithms = {"sha256"} | {key for key in FILE_HASHES if declared is not None and getattr(declared, key)}
        with byte_progress("Verifying", path.stat().st_size) as advance:
            digests = file_digests(path, sorted(algorithms), advance)
        _check_hashes(path, declared, digests)
        if entry.plain_name is None:
            content = archive_content_sha256(path, uses, entry.into, scratch=folder)
        else:
            content = content_sha256({entry.plain_path: digests["sha256"]})
        _check_hashes(path, declared, {"content_sha256": content})
    except SourceError as error:
        is_own = Path(record.path).is_absolute() or (declared is not None and declared.url is None)
        if not is_own:
            remove(path)
        raise SourceError(f"{error} {OWN_FILE_HINT if is_own else DELETED_HINT.format(name=path.name)}") from error
    if declared is not None and not any(getattr(declared, key) for key in (*FILE_HASHES, "content_sha256")):
        logger.info("%s has no hash declared; to pin it, declare content_sha256: %s", path.name, content)
    return VerifiedArchive(**record.model_dump(), sha256=digests["sha256"], content_sha256=content)


def _check_hashes(path: Path, declared: ArchiveParameters | None, digests: Mapping[str, str]) -> None:
    for key, value in digests.items():
        expected = getattr(declared, key, None)
        if expected not in {None, value}:
            raise SourceError(
                f"{path} is not the archive that is declared: its {key} is {value}, declared is {expected}."
            )
