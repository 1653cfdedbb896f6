"""Atomic writes: files and folders are written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_segmentation.errors import ResourceError


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``target`` to write a file or a folder to; rename it if nothing was raised.

    What was at ``target`` is replaced. Nothing stays behind where writing fails. A full disk is a ResourceError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial{target.suffix}")
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.partial{target.suffix}"):
        if not _belongs_to_live_process(leftover, target):  # a run was killed while it wrote
            remove(leftover)
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
        remove(temporary)  # it is still there where both are links to one file
    except BaseException as error:
        remove(temporary)
        raise disk_full_error(error, target) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file under a second name where the file system can, else copy it."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _belongs_to_live_process(partial: Path, target: Path) -> bool:
    import psutil

    number = partial.name.removeprefix(f".{target.name}.").partition(".")[0]
    return number.isdigit() and psutil.pid_exists(int(number))


def disk_full_error(error: BaseException, target: Path) -> BaseException:
    """Return the error to raise where a file could not be written: plain words for a full disk."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ResourceError(
            f"The disk is full: {target} could not be written. Nothing half-written was left behind. "
            "Free some space (or move the project's data folder to a larger disk) and run again."
        )
    return error
