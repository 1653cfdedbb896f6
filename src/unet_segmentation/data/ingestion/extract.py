"""Extract archives into one folder, unless their files are there already, complete."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from unet_segmentation.data.ingestion.archives import unpack_all
from unet_segmentation.data.ingestion.fetch_archives import archive_entry, declarations
from unet_segmentation.data.ingestion.records import ExtractedFiles, VerifiedArchives
from unet_segmentation.data.io.filesystem import FileStore, count_files_and_bytes
from unet_segmentation.data.layout.layout import Layout
from unet_segmentation.parameters.source import SourceParameters
from unet_segmentation.utils.atomic_io import atomic_write

logger = logging.getLogger(__name__)

MARKER = ".extracted.json"  # in the folder of the extracted files: of which archives they are


def extract_archives(
    verified: VerifiedArchives, source: SourceParameters, archives_dir: Path, raw_dir: Path
) -> ExtractedFiles:
    """Extract the archives of a source into a folder, which is replaced unless it holds what these archives gave.

    Raises:
        SourceError: two archives hold different files of the same name.
        ResourceError: the disk is full.
    """
    declared = declarations(source, verified.archives)
    entries = [archive_entry(*pair, archives_dir) for pair in zip(verified.archives, declared, strict=True)]
    contents = [
        [record.sha256, entry.into, entry.plain_name] for record, entry in zip(verified.archives, entries, strict=True)
    ]
    marker = raw_dir / MARKER
    if not marker.is_file() or _read(marker) != {"archives": contents, **count_files_and_bytes(FileStore(raw_dir))}:
        with atomic_write(raw_dir) as temporary:
            temporary.mkdir()
            unpack_all(entries, temporary, Layout.of(source).uses)
            counts = count_files_and_bytes(FileStore(temporary))
            (temporary / MARKER).write_text(json.dumps({"archives": contents, **counts}), encoding="utf-8")
        logger.info("Unpacked %d files into %s", counts["files"], raw_dir)
    count = int(str(_read(marker)["files"]))
    return ExtractedFiles(root=str(raw_dir.absolute()), files=count, content_sha256=verified.content_sha256)


def _read(file: Path) -> dict[str, object]:
    try:
        content: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content
