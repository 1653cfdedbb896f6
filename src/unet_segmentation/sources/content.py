"""The hash of what an archive holds, for archives whose own hash is not stable (GitHub makes its zips anew).

``python -m unet_segmentation.sources.content ARCHIVE PROBLEM`` prints it for the layout in
``conf/PROBLEM/parameters.yml``.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from unet_segmentation.errors import ConfigurationError, ProjectError, SourceError
from unet_segmentation.sources.archives import digests, opened
from unet_segmentation.sources.layout import Layout
from unet_segmentation.sources.progress import byte_progress


def content_sha256(hashes: Mapping[str, str]) -> str:
    r"""Hash over files: SHA-256 of the lines ``path\0sha256\n`` in UTF-8, sorted by path (by code point).

    Args:
        hashes: SHA-256 of each file in hexadecimal, by its path in the archive.
    """
    lines = "".join(f"{path}\0{hashes[path]}\n" for path in sorted(hashes))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def archive_content_sha256(archive: Path, wanted: Callable[[str], bool]) -> str:
    """Hash the files of an archive that a layout uses.

    Args:
        archive: zip or tar.
        wanted: says by its path whether a file counts: ``Layout.uses``.

    Raises:
        SourceError: the archive is damaged, or holds what it must not.
    """
    with opened(archive, limit=shutil.disk_usage(archive.parent).total) as members:
        total = sum(member.size for member in members if wanted(member.path))
        with byte_progress("Verifying", total) as advance:
            return content_sha256(digests(members, wanted, advance))


def combined(hashes: Sequence[str]) -> str | None:
    """Join the content hashes of several archives into one; that of a single archive stays as it is."""
    if len(hashes) < 2:
        return hashes[0] if hashes else None
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Print the hash for an archive and the layout of a problem."""
    import yaml

    if len(arguments) != 2:
        sys.stderr.write("usage: python -m unet_segmentation.sources.content ARCHIVE PROBLEM\n")
        return 2
    try:
        path = Path("conf") / arguments[1] / "parameters.yml"
        if not path.is_file():
            raise ConfigurationError(f"There is no {path}. Run this in the project's root.")
        source = yaml.safe_load(path.read_text(encoding="utf-8"))["source"]
        if not Path(arguments[0]).is_file():
            raise SourceError(f"There is no archive {arguments[0]}.")
        layout = Layout(source["images"], source.get("masks"), source.get("splits"))
        sys.stdout.write(archive_content_sha256(Path(arguments[0]), layout.uses) + "\n")
    except ProjectError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
