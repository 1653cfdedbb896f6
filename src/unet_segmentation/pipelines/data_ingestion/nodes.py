"""Nodes of the acquisition pipeline: adapters of the ingestion and layout packages."""

from pathlib import Path

import pandas as pd
from kedro.utils import find_kedro_project

from unet_segmentation.data.ingestion.records import Downloads, ExtractedFiles, VerifiedArchives
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.errors import DataError
from unet_segmentation.parameters import SourceParameters


def download(source: SourceParameters, archives_dir: Path) -> Downloads:
    """Get the archives: from the network, from the disk, or drawn by the embedded generator.

    What is there already is not downloaded or drawn again, and a download that was interrupted is resumed.

    Raises:
        SourceError: an archive cannot be had.
        ResourceError: the disk has not enough room for all of them.
        DataError: the folder of a folder source is not there.
    """
    from unet_segmentation.data.ingestion.download import Network
    from unet_segmentation.data.ingestion.fetch_archives import draw_archive, fetch_archives

    if source.folder is not None:
        _resolve_root(source.folder)
        return Downloads()
    if source.generator is not None:
        return Downloads(archives=(draw_archive(source.generator, archives_dir),))
    bundle = None if source.ca_bundle is None else _resolve(Path(source.ca_bundle).expanduser())
    network = Network(source.timeout_seconds, source.retries, source.parallel, bundle)
    return Downloads(archives=tuple(fetch_archives(source, archives_dir, network, _resolve)))


def verify(downloads: Downloads, source: SourceParameters, archives_dir: Path) -> VerifiedArchives:
    """Check every archive against the hashes that are declared for it."""
    from unet_segmentation.data.ingestion.verify import verify_archives

    return verify_archives(downloads, source, archives_dir)


def extract(verified: VerifiedArchives, source: SourceParameters, archives_dir: Path, raw_dir: Path) -> ExtractedFiles:
    """Extract the archives into one folder, unless their files are there already, complete."""
    from unet_segmentation.data.ingestion.extract import extract_archives

    if source.folder is None:
        return extract_archives(verified, source, archives_dir, raw_dir)
    root = _resolve_root(source.folder)
    count = sum(1 for _ in FileStore(root, source.storage_options).walk())
    return ExtractedFiles(root=root, files=count)


def index(extracted: ExtractedFiles, source: SourceParameters) -> pd.DataFrame:
    """List the samples: a row per image, with its masks, its region of interest, its group and its predefined split."""
    from unet_segmentation.data.layout.sample_index import index_files

    return index_files(extracted.root, source, _resolve)


def _resolve_root(folder: str) -> str:
    """Return the root of a folder source: the absolute path of a folder that is there, or a URL as it is."""
    if "://" in folder:
        return folder
    path = _resolve(Path(folder).expanduser())
    if not path.is_dir():
        raise DataError(f"There is no folder {path} (source.folder: {folder}). Name the folder that holds the files.")
    return str(path)


def _resolve(path: Path) -> Path:
    """Make a path of the user's absolute: from the working directory, else from the project's root."""
    project = find_kedro_project(Path.cwd())
    if not path.is_absolute() and not path.exists() and project is not None:
        path = project / path
    return path.absolute()
