"""The hash of what an archive holds, for archives whose own hash is not stable (GitHub generates its zips).

``python -m unet_segmentation.data.ingestion.content_hash ARCHIVE PROBLEM`` prints it for the layout in
``conf/PROBLEM/parameters.yml``.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from unet_segmentation.data.ingestion.archives import digests, opened
from unet_segmentation.data.ingestion.urls import archive_name, file_name
from unet_segmentation.data.layout.layout import Layout
from unet_segmentation.errors import ConfigurationError, ProjectError, SourceError
from unet_segmentation.parameters.source import ArchiveParameters, SourceParameters
from unet_segmentation.utils.progress_bar import byte_progress


def content_sha256(hashes: Mapping[str, str]) -> str:
    r"""Hash files by path and SHA-256 in hexadecimal: of the lines ``path\0sha256\n`` in UTF-8, by code point."""
    lines = "".join(f"{path}\0{hashes[path]}\n" for path in sorted(hashes))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def archive_content_sha256(
    archive: Path, uses: Callable[[str], bool], into: str = "", scratch: Path | None = None
) -> str:
    """Hash the files of an archive that a layout uses; see `archives.opened`."""
    limit = shutil.disk_usage(archive.parent).total
    with opened(archive, limit, into, scratch) as contents:
        total = sum(size for path, size in contents.sizes.items() if uses(path))
        with byte_progress("Verifying", total) as advance:
            return content_sha256(digests(contents, uses, advance))


def combined(hashes: Sequence[str]) -> str | None:
    """Join the content hashes of several archives into one; that of a single archive stays as it is."""
    if len(hashes) < 2:
        return hashes[0] if hashes else None
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Print the hash for an archive and the layout of a problem."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m unet_segmentation.data.ingestion.content_hash ARCHIVE PROBLEM\n")
        return 2
    try:
        source = _source(arguments[1])
        archive = Path(arguments[0])
        if not archive.is_file():
            raise SourceError(f"There is no archive {archive}.")
        content = archive_content_sha256(archive, Layout.of(source).uses, _into(archive, source.archives))
        sys.stdout.write(f"{content}\n")
    except ProjectError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _source(problem: str) -> SourceParameters:
    """Read a problem's layout. Its source may still lack an origin, for which the hash is needed."""
    import yaml
    from pydantic import ValidationError

    path = Path("conf") / problem / "parameters.yml"
    if not path.is_file():
        raise ConfigurationError(f"There is no {path}. Run this in the project's root.")
    try:
        source: dict[str, object] = yaml.safe_load(path.read_text(encoding="utf-8"))["source"]
        has_origin = any(source.get(key) for key in ("generator", "archives", "archive", "folder"))
        return SourceParameters.model_validate(source if has_origin else {**source, "folder": "."})
    except (yaml.YAMLError, ValidationError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} declares no source as it should be: {error}") from error


def _into(archive: Path, declared: Sequence[ArchiveParameters]) -> str:
    """Return the folder that an archive's files go to: by its name where archives go to different ones."""
    folders = {one.into for one in declared}
    named = {one.into for one in declared if archive.name in _names(one)}
    if len(named or folders) > 1:
        names = ", ".join(sorted(min(_names(one)) for one in declared))
        raise ConfigurationError(f"The archives declared go to different folders. Name yours as one of them: {names}.")
    return next(iter(named or folders), "")


def _names(declared: ArchiveParameters) -> set[str]:
    urls = [declared.url] if declared.url is not None else []
    return {name for name in (declared.file, *map(archive_name, urls), *map(file_name, urls)) if name}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
