"""What ingestion knows of archives and files after each of its steps."""

from __future__ import annotations

from pathlib import Path

from unet_segmentation.utils.strict_model import StrictModel


class DownloadedArchive(StrictModel):
    """An archive, or a single file, on this disk."""

    name: str
    path: str  # relative to the archives folder; absolute for a file of the user's own
    bytes: int
    url: str  # where it came from

    @classmethod
    def from_file(cls, file: Path, stored_path: str, url: str) -> DownloadedArchive:
        """Build the record of a file."""
        return cls(name=file.name, path=stored_path, bytes=file.stat().st_size, url=url)


class Downloads(StrictModel):
    """The archives of a source, in the order in which they are declared; none where the source is a folder."""

    archives: tuple[DownloadedArchive, ...] = ()


class VerifiedArchive(DownloadedArchive):
    """An archive with the hash of its bytes, and that of the files in it that the layout uses."""

    sha256: str
    content_sha256: str


class VerifiedArchives(StrictModel):
    """The archives of a source, verified, and the hash of what all of them hold; None where there is none."""

    archives: tuple[VerifiedArchive, ...] = ()
    content_sha256: str | None = None


class ExtractedFiles(StrictModel):
    """The files of a source."""

    root: str  # absolute path of the folder that holds them, or the URL of a folder source
    files: int  # how many there are
    content_sha256: str | None = None  # of the images and masks; None for a folder source
