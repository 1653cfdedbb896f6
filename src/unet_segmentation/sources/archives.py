"""Zip and tar archives that strangers made: what they hold, its hashes, and unpacking that stays in the target."""

from __future__ import annotations

import errno
import hashlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from unet_segmentation.errors import ResourceError, SourceError
from unet_segmentation.sources.progress import Advance, byte_progress

CHUNK = 1 << 20  # bytes
MAGIC = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"PK\x03\x04": "a truncated zip archive",
}
JUNK = ("__MACOSX", "._")  # what macOS adds: resource forks, one "AppleDouble" file beside every real one


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: its path in it (forward slashes, checked), its size in bytes, how to read it."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]


def check_archive(path: Path) -> None:
    """See whether a file is a zip or tar archive at all.

    Raises:
        SourceError: it is something else, or a zip whose end is missing.
    """
    if not zipfile.is_zipfile(path) and not _is_tar(path):
        with path.open("rb") as stream:
            start = stream.read(80)
        what = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
        if what is None:
            what = "empty" if not start else f"something that begins with {start[:40]!r}"
        raise SourceError(f"{path} is no whole zip or tar archive, but {what}.")


@contextmanager
def opened(path: Path, limit: int) -> Iterator[list[Member]]:
    """Open an archive and give the files in it, in the order they are stored.

    Args:
        path: a zip, or a tar with or without gzip, bzip2 or xz.
        limit: bytes that the files may have together, unpacked.

    Raises:
        SourceError: it is damaged, or holds what it must not: a path out of the target, a link, a device, an
            encrypted file, more than ``limit``.
    """
    check_archive(path)
    with _explained(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _collect(path, _zip_members(path, archive), limit)
        else:
            with tarfile.open(path) as archive:
                yield _collect(path, _tar_members(path, archive), limit)


def digests(members: list[Member], wanted: Callable[[str], bool], advance: Advance) -> dict[str, str]:
    """Hash the wanted files of an opened archive.

    Args:
        members: of the archive.
        wanted: says by its path whether a file is wanted.
        advance: told the bytes as they are read.

    Returns:
        SHA-256 in hexadecimal, by path.
    """
    found = {}
    for member in members:
        if wanted(member.path):
            digest = hashlib.sha256()
            for chunk in _chunks(member, advance):
                digest.update(chunk)
            found[member.path] = digest.hexdigest()
    return found


def unpack_all(archives: list[Path], target: Path, wanted: Callable[[str], bool]) -> None:
    """Unpack archives into one folder.

    Args:
        archives: zip or tar, in the order in which they were declared.
        target: an existing, empty folder.
        wanted: says by its path whether a file matters. Where two archives hold a file of the same name that does
            not (a README), the first one's stays.

    Raises:
        ResourceError: the disk has not enough room.
        SourceError: an archive is damaged or holds what it must not, or two hold a wanted file of the same name.
    """
    for archive in archives:
        free = shutil.disk_usage(target).free
        with opened(archive, limit=shutil.disk_usage(target).total) as members:
            new = [member for member in members if not (target / member.path).exists() or wanted(member.path)]
            total = sum(member.size for member in new)
            if total > free:
                raise ResourceError(
                    f"Unpacking {archive.name} needs {gigabytes(total)}, but the disk of {target.parent} has "
                    f"{gigabytes(free)} free. Free some space, or move the project's data folder to a larger disk."
                )
            with byte_progress("Unpacking", total) as advance:
                for member in new:
                    _write(member, target, archive, advance)


def _write(member: Member, target: Path, archive: Path, advance: Advance) -> None:
    file = target / member.path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        output = file.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise SourceError(
            f"{archive} holds {member.path!r}, which stands in the way of a file or folder that is unpacked already."
        ) from error
    with output:
        for chunk in _chunks(member, advance):
            output.write(chunk)


def _chunks(member: Member, advance: Advance) -> Iterator[bytes]:
    read = 0
    with member.open() as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
            read += len(chunk)
            advance(len(chunk))
    if read != member.size:
        raise EOFError(f"{member.path!r} has {read} bytes instead of {member.size}")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hash a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def gigabytes(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e3:.0f} kB"


def _collect(path: Path, members: Iterator[Member], limit: int) -> list[Member]:
    """List the members, and stop at the first that makes them too many bytes: a bomb's list may itself be endless."""
    found: dict[str, Member] = {}
    total = 0
    for member in members:
        total += member.size
        if total > limit:
            raise SourceError(
                f"{path} says that it unpacks to more than {gigabytes(limit)}, which is all that the disk could hold. "
                "An archive like this is broken or made to do harm."
            )
        found[member.path] = member  # a later entry of the same name replaces the earlier one, as in tar
    return list(found.values())


def _zip_members(path: Path, archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        name = _checked(path, info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise _refused(path, info.filename, "is a symbolic link" if kind == stat.S_IFLNK else "is a special file")
        if info.is_dir() or _is_junk(name):
            continue
        if info.flag_bits & 1:
            raise _refused(path, info.filename, "is encrypted; unpack the archive by hand and use source.folder")
        yield Member(name, info.file_size, partial(archive.open, info))


def _tar_members(path: Path, archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        name = _checked(path, info.name)
        if info.issym() or info.islnk():
            raise _refused(path, info.name, f"is a {'symbolic' if info.issym() else 'hard'} link to {info.linkname!r}")
        if not info.isreg() and not info.isdir():
            raise _refused(path, info.name, "is a special file")
        if info.isreg() and not _is_junk(name):
            yield Member(name, info.size, partial(archive.extractfile, info))  # type: ignore[arg-type]
    # tarfile takes a cut between two files, or a damaged header, for the end. A whole tar ends with zeros.
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)  # type: ignore[attr-defined]
    end = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise tarfile.ReadError("its end is missing")
    while archive.fileobj.read(CHUNK):  # gzip, bzip2 and xz check their sums when they come to their end
        pass


def _checked(path: Path, name: str) -> str:
    """Bring a member's name to forward slashes; refuse one that could leave the target."""
    parts = name.replace("\\", "/").split("/")
    if not parts[0] and len(parts) > 1:
        raise _refused(path, name, "is an absolute path")
    if parts[0].endswith(":") and len(parts[0]) == 2:
        raise _refused(path, name, "is an absolute path")
    if ".." in parts:
        raise _refused(path, name, "leads out of the folder")
    return "/".join(part for part in parts if part not in {"", "."})


def _refused(path: Path, name: str, why: str) -> SourceError:
    return SourceError(f"{path} was refused, and nothing of it was unpacked: its entry {name!r} {why}.")


def _is_junk(path: str) -> bool:
    return not path or path.startswith(f"{JUNK[0]}/") or path.rsplit("/", 1)[-1].startswith(JUNK[1])


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, zlib.error, lzma.LZMAError, OSError):  # compressed, and cut within the first block
        return False


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise SourceError(f"{path} is truncated or damaged: {error}.") from error
    except OSError as error:
        # gzip and bz2 raise without a number, a zip that points before its start as an invalid argument. All else is
        # the machine's trouble, not the archive's.
        if error.errno not in {None, errno.EINVAL}:
            raise
        raise SourceError(f"{path} is truncated or damaged: {error}.") from error
