import errno
import os
import subprocess
import sys

import pytest

from unet_segmentation.errors import ResourceError
from unet_segmentation.utils.atomic_io import atomic_write


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    for text in ("one", "two"):
        with atomic_write(target) as temporary:
            temporary.write_text(text)
            assert not target.exists() or target.read_text() == "one"
        assert target.read_text() == text
    assert os.listdir(target.parent) == ["file.txt"]


def test_a_folder_replaces_the_old_one_with_all_its_files(tmp_path):
    target = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_write(target) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert os.listdir(target) == ["new"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_nothing_stays_behind_when_writing_fails(tmp_path, error):
    target = tmp_path / "file"
    target.write_text("old")

    def write_half() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_says_so(tmp_path):
    with pytest.raises(ResourceError, match="disk is full"), atomic_write(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_a_killed_run_left_is_swept_and_what_a_live_one_writes_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".file.{dead.pid}.partial").write_text("half")
    (tmp_path / f".file.{os.getppid()}.partial").write_text("being written")
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("x")
    assert sorted(os.listdir(tmp_path)) == [f".file.{os.getppid()}.partial", "file"]
