"""Zip and tar archives that strangers made: what they hold, its hashes, and unpacking that stays in the target.

Archives may lie in one another. One inside is unpacked where it lies, into a folder of its stem: ``a/b.zip`` becomes
``a/b/...``. A member that gzip compressed on its own (``x.ppm.gz``) loses the ending. Everything else in the project
sees the paths that come of this.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from unet_segmentation.errors import ResourceError, SourceError
from unet_segmentation.utils.progress_bar import Advance, byte_progress

logger = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes
MAGIC = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"PK\x03\x04": "a truncated zip archive",
    b"\x1f\x8b": "gzip of something that is no tar, or cut",
}
NESTED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
DEPTH = 4  # archives in archives in archives; data sets have one level, an archive that holds itself has no end
# No data set grows a thousandfold when it is unpacked, not even one of empty masks; a bomb does. Small ones may.
RATIO, HARMLESS = 1000, 1 << 30


@dataclass(frozen=True)
class ArchiveEntry:
    """An archive, or a plain file, and where in the target its files go."""

    path: Path
    into: str = ""  # a folder in the target; empty for the target itself
    plain_name: str | None = None  # of a file that is no archive

    @property
    def plain_path(self) -> str:
        """Path in the target of a plain file."""
        return f"{_prefix(self.into)}{self.plain_name}"


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: its path (forward slashes, checked), its size in bytes, how to read it."""

    path: str
    size: int
    open: Callable[[], IO[bytes]]


class Contents:
    """The files of an opened archive, and of those inside it. All were checked when this was made.

    Iterating gives each file in the order they are stored. It must be read before the next one is asked for.
    """

    def __init__(self, walk: Callable[[], Iterator[Member]]) -> None:
        self._walk = walk
        self.sizes: dict[str, int] = {}  # bytes, by path
        self._last: dict[str, int] = {}
        for number, member in enumerate(walk()):
            self.sizes[member.path] = member.size
            self._last[member.path] = number  # a later entry of the same name replaces the earlier one, as in tar

    def __iter__(self) -> Iterator[Member]:
        for number, member in enumerate(self._walk()):
            if self._last[member.path] == number:
                yield replace(member, size=self.sizes[member.path])


def check_archive(path: Path) -> None:
    """Raise SourceError where a file is no zip or tar archive, or a zip whose end is missing."""
    with path.open("rb") as stream:
        if _kind(stream) is None:
            stream.seek(0)
            raise SourceError(f"{path} is no whole zip or tar archive, but {_what(stream.read(80))}.")


@contextmanager
def opened(path: Path, limit: int, into: str = "", scratch: Path | None = None) -> Iterator[Contents]:
    """Open a zip, or a tar with or without gzip, bzip2 or xz, and check all that is in it.

    Args:
        path: the archive.
        limit: bytes that the files may have together, unpacked.
        into: folder that stands before all paths.
        scratch: folder for archives in the archive while they are read; by default that of the system.

    Raises:
        SourceError: it is damaged, or holds what it must not: a path out of the target, a link, a device, an
            encrypted file, archives in archives without end, more than ``limit``.
    """
    check_archive(path)
    with _explained(path), path.open("rb") as stream:
        yield Contents(lambda: _members(str(path), stream, _prefix(into), 0, _Budget(path, limit), scratch))


def digests(members: Contents, selects: Callable[[str], bool], advance: Advance) -> dict[str, str]:
    """Return the SHA-256 in hexadecimal of the selected files of an opened archive, by path."""
    hashes = {}
    for member in members:
        if selects(member.path):
            digest = hashlib.sha256()
            for chunk in _chunks(member, advance):
                digest.update(chunk)
            hashes[member.path] = digest.hexdigest()
    return hashes


def unpack_all(entries: Sequence[ArchiveEntry], target: Path, selects: Callable[[str], bool]) -> None:
    """Unpack archives, in order, into an existing, empty folder, and copy plain files into it.

    Where two archives hold a file of the same name that does not matter (a README), the first one's stays.

    Raises:
        ResourceError: the disk has not enough room.
        SourceError: an archive is damaged or holds what it must not, or two hold a file of the same name that matters.
    """
    for entry in entries:
        if entry.plain_name is not None:
            size = entry.path.stat().st_size
            _check_room(entry.path, size, target)
            plain = Member(entry.plain_path, size, partial(entry.path.open, "rb"))  # type: ignore[arg-type]
            with byte_progress("Copying", size) as advance:
                _write(plain, target, entry.path, advance)
            continue
        with opened(entry.path, shutil.disk_usage(target).total, entry.into, scratch=target) as contents:
            new = {path for path in contents.sizes if selects(path) or not os.path.exists(target / path)}
            total = sum(contents.sizes[path] for path in new)
            _check_room(entry.path, total, target)
            with byte_progress("Unpacking", total) as advance:
                for member in contents:
                    if member.path in new:
                        _write(member, target, entry.path, advance)


def _check_room(archive: Path, needed: int, target: Path) -> None:
    free = shutil.disk_usage(target).free
    if needed > free:
        raise ResourceError(
            f"Unpacking {archive.name} needs {gigabytes(needed)}, but the disk of {target.parent} has "
            f"{gigabytes(free)} free. Free some space, or move the project's data folder to a larger disk."
        )


def _write(member: Member, target: Path, archive: Path, advance: Advance) -> None:
    file = target / member.path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        output = file.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise SourceError(
            f"{archive} holds {member.path!r}, which stands in the way of a file or folder that is unpacked already."
        ) from error
    except OSError as error:
        if error.errno not in {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}:
            raise
        raise SourceError(
            f"{archive} holds {member.path!r}, a name that this disk does not take ({error.strerror}). Unpack the "
            "archive by hand, and use source.folder."
        ) from error
    with output:
        for chunk in _chunks(member, advance):
            output.write(chunk)


def _chunks(member: Member, advance: Advance) -> Iterator[bytes]:
    read = 0
    with member.open() as stream:
        while read <= member.size and (chunk := stream.read(CHUNK)):
            read += len(chunk)
            if read <= member.size:  # never more than was counted when the archive was checked
                yield chunk
                advance(len(chunk))
    if read != member.size:
        raise EOFError(f"{member.path!r} has {'more than' if read > member.size else read} bytes of {member.size}")


def file_digests(path: Path, algorithms: Sequence[str], advance: Advance = lambda _: None) -> dict[str, str]:
    """Return the hashes of a file in hexadecimal, by ``hashlib``'s name of the algorithm; it is read once."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
            advance(len(chunk))
    return {name: digest.hexdigest() for name, digest in digests.items()}


def gigabytes(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e3:.0f} kB"


class _Budget:
    """The size that an archive may unpack to. Counts as the files are listed: a bomb's list may itself be endless."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit, self._packed = path, limit, path.stat().st_size
        self._spent = 0

    def spend(self, count: int) -> None:
        self._spent += count
        if self._spent > self._limit:
            raise SourceError(
                f"{self._path} says that it unpacks to more than {gigabytes(self._limit)}, which is all that the disk "
                "could hold. An archive like this is broken or made to do harm."
            )
        if self._spent > max(HARMLESS, RATIO * self._packed):
            raise SourceError(
                f"{self._path} was refused: it unpacks to more than {RATIO} times its own size "
                f"({gigabytes(self._packed)}). An archive like this is made to do harm."
            )


def _members(
    where: str, stream: IO[bytes], prefix: str, depth: int, budget: _Budget, scratch: Path | None
) -> Iterator[Member]:
    """Yield the members of an archive and of those in it; ``where`` names it in messages."""
    for member in _tar_members(where, stream) if _kind(stream) == "tar" else _zip_members(where, stream):
        path = f"{prefix}{member.path}"
        budget.spend(member.size)
        if _stem(path) is None:
            yield _gunzipped(member, path, budget) if _is_single_gzip(member, path) else replace(member, path=path)
            continue
        if depth == DEPTH:
            raise _refused(where, member.path, f"is an archive in {depth} others, and may have no end")
        with tempfile.TemporaryFile(dir=scratch) as inner:
            for chunk in _chunks(member, lambda _: None):
                inner.write(chunk)
            if _kind(inner) is None:
                logger.warning("%s in %s is no whole archive; it stays as it is", member.path, where)
                yield Member(path, member.size, member.open)
            else:
                yield from _members(f"{where}/{member.path}", inner, f"{_stem(path)}/", depth + 1, budget, scratch)


def _gunzipped(member: Member, path: str, budget: _Budget) -> Member:
    """Unpack a member that gzip compressed on its own. Only reading it through tells its size."""

    def open_unpacked() -> IO[bytes]:
        return gzip.GzipFile(fileobj=member.open())  # type: ignore[return-value]

    size = 0
    with open_unpacked() as stream:
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            budget.spend(len(chunk))
    return Member(path.removesuffix(".gz"), size, open_unpacked)


def _is_single_gzip(member: Member, path: str) -> bool:
    if not path.endswith(".gz") or path.endswith("/.gz"):
        return False
    with member.open() as stream:
        return stream.read(2) == b"\x1f\x8b"


def _stem(path: str) -> str | None:
    """Return the folder that an archive in an archive is unpacked into; None for a file that is none by its name."""
    name = path.rsplit("/", 1)[-1].lower()
    ending = max((ending for ending in NESTED if name.endswith(ending)), key=len, default=None)
    return path[: -len(ending)] if ending is not None and len(name) > len(ending) else None


def _zip_members(where: str, stream: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            name = _checked(where, info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _refused(
                    where, info.filename, "is a symbolic link" if kind == stat.S_IFLNK else "is a special file"
                )
            if _is_junk(name) or info.is_dir():  # in this order: is_dir fails at an empty name
                continue
            if info.flag_bits & 1:
                raise _refused(where, info.filename, "is encrypted; unpack the archive by hand and use source.folder")
            yield Member(name, info.file_size, partial(archive.open, info))


def _tar_members(where: str, stream: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=stream) as archive:
        for info in archive:
            name = _checked(where, info.name)
            if info.issym() or info.islnk():
                raise _refused(
                    where, info.name, f"is a {'symbolic' if info.issym() else 'hard'} link to {info.linkname!r}"
                )
            if not info.isreg() and not info.isdir():
                raise _refused(where, info.name, "is a special file")
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


def _checked(where: str, name: str) -> str:
    """Bring a member's name to forward slashes; refuse one that could leave the target."""
    parts = name.replace("\\", "/").split("/")
    if (not parts[0] and len(parts) > 1) or (parts[0].endswith(":") and len(parts[0]) == 2):
        raise _refused(where, name, "is an absolute path")
    if ".." in parts:
        raise _refused(where, name, "leads out of the folder")
    if "\0" in name:
        raise _refused(where, name, "has a zero byte in its name")
    return "/".join(part for part in parts if part not in {"", "."})


def _refused(where: str, name: str, why: str) -> SourceError:
    return SourceError(f"{where} was refused, and nothing of it was unpacked: its entry {name!r} {why}.")


def _is_junk(path: str) -> bool:
    """Return whether a path is none, or what macOS adds: resource forks, an "AppleDouble" file for every real one."""
    return not path or path.startswith("__MACOSX/") or path.rsplit("/", 1)[-1].startswith("._")


def _prefix(folder: str) -> str:
    return f"{folder}/" if folder else ""


def _kind(stream: IO[bytes]) -> str | None:
    """Return whether a file is a tar (with or without compression) or a zip. A tar that holds a zip looks like both."""
    stream.seek(0)
    try:
        with tarfile.open(fileobj=stream):
            return "tar"
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError):
        pass
    finally:
        stream.seek(0)
    return "zip" if zipfile.is_zipfile(stream) else None


def _what(start: bytes) -> str:
    """Describe a file by its first bytes."""
    named = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    return named or (f"something that begins with {start[:40]!r}" if start else "empty")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    damage = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
    try:
        yield
    except (*damage, struct.error, UnicodeError, OverflowError) as error:
        raise SourceError(f"{path} is truncated or damaged: {error}.") from error
    except OSError as error:
        # gzip and bz2 raise without a number, a zip that points before its start as an invalid argument. All else is
        # the machine's trouble, not the archive's.
        if error.errno not in {None, errno.EINVAL}:
            raise
        raise SourceError(f"{path} is truncated or damaged: {error}.") from error
