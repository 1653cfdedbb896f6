from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sources.conftest import PAIRS, tarred, zipped
from unet_segmentation.errors import ResourceError, SourceError
from unet_segmentation.sources import archives, content
from unet_segmentation.sources.archives import Parcel, check_archive, file_digests, opened, unpack_all
from unet_segmentation.sources.content import archive_content_sha256, combined, content_sha256
from unet_segmentation.sources.layout import Layout

LAYOUT = Layout("top/images/{id}.png", "top/masks/{id}.png")
Put = Callable[[str, bytes], Path]


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(archive: Path, tmp_path: Path) -> dict[str, bytes]:
    target = tmp_path / "inside" / "target"
    target.mkdir(parents=True)
    unpack_all([Parcel(archive)], target, LAYOUT.uses)
    return tree(target)


ALL_KINDS = {
    "a.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda files: tarred(files, "w:gz"),
    "a.tar.bz2": lambda files: tarred(files, "w:bz2"),
    "a.tar.xz": lambda files: tarred(files, "w:xz"),
}


@pytest.mark.parametrize("name", ALL_KINDS)
def test_every_kind_gives_the_same_files_and_the_same_content_hash(name: str, put: Put, tmp_path: Path) -> None:
    archive = put(name, ALL_KINDS[name]({**PAIRS, "top/README": b"hello"}))
    assert unpacked(archive, tmp_path) == {**PAIRS, "top/README": b"hello"}
    lines = [f"{path}\0{hashlib.sha256(body).hexdigest()}\n" for path, body in PAIRS.items()]
    truth = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert archive_content_sha256(archive, LAYOUT.uses) == truth


def test_the_content_hash_sees_content_and_names_of_used_files_only(put: Put) -> None:
    truth = archive_content_sha256(put("a.zip", zipped(PAIRS)), LAYOUT.uses)
    changes = {
        "order": (dict(reversed(PAIRS.items())), True),
        "other": ({**PAIRS, "top/notes.txt": b"new"}, True),
        "twins": ({**PAIRS, "top/images/._a.png": b"x", "__MACOSX/top/images/._a.png": b"x"}, True),
        "pixels": ({**PAIRS, "top/masks/a.png": b"new"}, False),
        "name": ({name.replace("a.png", "z.png"): body for name, body in PAIRS.items()}, False),
        "more": ({**PAIRS, "top/images/d.png": b"new"}, False),
        "fewer": (dict(list(PAIRS.items())[1:]), False),
    }
    for name, (files, same) in changes.items():
        assert (archive_content_sha256(put(f"{name}.zip", zipped(files)), LAYOUT.uses) == truth) is same, name


def test_content_hashes_of_several_archives_are_joined() -> None:
    assert combined([]) is None
    assert combined(["ab"]) == "ab"
    assert combined(["ab", "cd"]) == hashlib.sha256(b"ab\ncd").hexdigest()
    assert content_sha256({}) == hashlib.sha256(b"").hexdigest()


def test_apple_twins_are_left_out(put: Put, tmp_path: Path) -> None:
    files = {**PAIRS, "__MACOSX/top/._x": b"1", "top/images/._a.png": b"1"}
    assert unpacked(put("a.zip", zipped(files)), tmp_path) == PAIRS


def test_backslashes_of_windows_zips_are_folders(put: Put, tmp_path: Path) -> None:
    assert unpacked(put("a.zip", zipped({"top\\images\\a.png": b"1"})), tmp_path) == {"top/images/a.png": b"1"}


def linked(kind: bytes, name: str = "top/images/z.png", target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def zip_with_mode(mode: int) -> bytes:
    stream = io.BytesIO(zipped(PAIRS))
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo("top/images/z.png")
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


def encrypted() -> bytes:
    body = bytearray(zipped({"top/images/secret.png": b"1"}))
    body[6] |= 1  # the flag in the local header ...
    start = body.index(b"PK\x01\x02")
    body[start + 8] |= 1  # ... and in the directory
    return bytes(body)


HOSTILE = {
    "parent": (zipped({**PAIRS, "../evil.png": b"x"}), "'../evil.png' leads out of the folder"),
    "inner parent": (zipped({**PAIRS, "top/../../evil.png": b"x"}), "leads out of the folder"),
    "windows parent": (zipped({**PAIRS, "top\\..\\..\\evil.png": b"x"}), "leads out of the folder"),
    "absolute": (zipped({**PAIRS, "/tmp/evil.png": b"x"}), "'/tmp/evil.png' is an absolute path"),
    "drive": (zipped({**PAIRS, "C:\\evil.png": b"x"}), "is an absolute path"),
    "zip link": (zip_with_mode(stat.S_IFLNK | 0o777), "'top/images/z.png' is a symbolic link"),
    "zip fifo": (zip_with_mode(stat.S_IFIFO | 0o777), "is a special file"),
    "encrypted": (encrypted(), "is encrypted"),
    "tar parent": (tarred({**PAIRS, "../evil.png": b"x"}), "leads out of the folder"),
    "tar absolute": (tarred({**PAIRS, "/tmp/evil.png": b"x"}, "w:gz"), "is an absolute path"),
    "tar link": (tarred(PAIRS, "w", linked(tarfile.SYMTYPE)), "is a symbolic link to '/etc/passwd'"),
    "tar hard link": (tarred(PAIRS, "w:gz", linked(tarfile.LNKTYPE)), "is a hard link to '/etc/passwd'"),
    "tar device": (tarred(PAIRS, "w", linked(tarfile.CHRTYPE)), "is a special file"),
    "tar fifo": (tarred(PAIRS, "w:xz", linked(tarfile.FIFOTYPE)), "is a special file"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_before_anything_is_written(kind: str, put: Put, tmp_path: Path) -> None:
    body, words = HOSTILE[kind]
    archive = put("hostile", body)
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(SourceError) as refusal:
        unpack_all([Parcel(archive)], target, LAYOUT.uses)
    assert words in str(refusal.value)
    assert str(archive) in str(refusal.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]
    with pytest.raises(SourceError, match="nothing of it was unpacked"):
        archive_content_sha256(archive, LAYOUT.uses)


NOISE = {f"top/images/{n}.png": random.Random(n).randbytes(2500) for n in range(8)}  # nothing compresses it


@pytest.mark.parametrize("name", ALL_KINDS)
def test_no_truncation_goes_unseen(name: str, put: Put, tmp_path: Path) -> None:
    body = ALL_KINDS[name](NOISE)
    truth = archive_content_sha256(put(name, body), LAYOUT.uses)
    cuts = {
        0,
        1,
        5,
        100,
        600,
        512 * 6,
        len(body) // 3,
        len(body) // 2,
        len(body) * 9 // 10,
        len(body) - 20,
        len(body) - 1,
    }
    for cut in sorted(cuts):
        archive = put(name, body[:cut])
        try:
            found = archive_content_sha256(archive, LAYOUT.uses)
        except SourceError:
            continue
        assert name == "a.tar"  # only the padding after the end of a plain tar may be lost without harm
        assert found == truth


@pytest.mark.parametrize("name", ALL_KINDS)
def test_damage_within_is_found(name: str, put: Put) -> None:
    body = ALL_KINDS[name](NOISE)
    truth = archive_content_sha256(put(name, body), LAYOUT.uses)
    for share in (0.1, 0.3, 0.5, 0.7):
        damaged = bytearray(body)
        place = int(len(body) * share)
        damaged[place : place + 8] = bytes(255 - byte for byte in damaged[place : place + 8])
        with contextlib.suppress(SourceError):
            assert archive_content_sha256(put(name, bytes(damaged)), LAYOUT.uses) != truth


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "but empty"),
        (b"<!DOCTYPE html>", "<!DOCTYPE html>"),
        (b"Rar!\x1a\x07" + b"0" * 100, "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c" + b"0" * 100, "a 7-Zip archive"),
        (zipped(PAIRS)[:-30], "truncated zip"),
    ],
)
def test_what_is_no_archive_is_named(body: bytes, words: str, put: Put) -> None:
    with pytest.raises(SourceError) as refusal:
        check_archive(put("x", body))
    assert words in str(refusal.value)


def test_a_bomb_is_refused_by_what_it_declares(put: Put, tmp_path: Path) -> None:
    body = bytearray(zipped({"top/images/a.png": b"0" * 1000}))
    start = body.index(b"PK\x01\x02")
    body[start + 24 : start + 28] = struct.pack("<I", 2**32 - 2)
    archive = put("bomb.zip", bytes(body))
    with pytest.raises(SourceError, match=r"unpacks to more than 1.00 GB"), opened(archive, limit=10**9):
        pass
    with pytest.raises(SourceError, match="truncated or damaged"), opened(archive, limit=10**12) as members:
        archives.digests(members, LAYOUT.uses, lambda _: None)
    endless = linked(tarfile.REGTYPE)
    endless.size = 10**15
    archive = put("bomb.tar", tarred(PAIRS, "w", endless))
    with pytest.raises(SourceError, match=r"unpacks to more than|truncated"):
        unpacked(archive, tmp_path)


def test_too_little_room_is_said_before_unpacking(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = put("a.zip", zipped(PAIRS))
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: archives.shutil._ntuple_diskusage(10**9, 10**9, 10))
    with pytest.raises(ResourceError, match=r"Unpacking a.zip needs .* has 0 kB free"):
        unpacked(archive, tmp_path)


def test_a_file_that_is_a_folder_too_is_refused(put: Put, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="stands in the way"):
        unpacked(put("a.zip", zipped({"top/a": b"1", "top/a/b": b"1"})), tmp_path)


def test_several_archives_share_a_folder(put: Put, tmp_path: Path) -> None:
    images = {**{name: body for name, body in PAIRS.items() if "images" in name}, "README": b"of the images"}
    masks = {**{name: body for name, body in PAIRS.items() if "masks" in name}, "README": b"of the masks"}
    first, second = put("i.zip", zipped(images)), put("m.tar.gz", tarred(masks, "w:gz"))
    (tmp_path / "x").mkdir()
    unpack_all([Parcel(first), Parcel(second)], tmp_path / "x", LAYOUT.uses)
    assert tree(tmp_path / "x") == {**PAIRS, "README": b"of the images"}
    (tmp_path / "y").mkdir()
    with pytest.raises(SourceError, match=r"i2.zip holds 'top/images/a.png', which stands in the way"):
        unpack_all([Parcel(first), Parcel(put("i2.zip", zipped(images)))], tmp_path / "y", LAYOUT.uses)


def test_a_full_disk_is_no_damage(put: Put) -> None:
    with pytest.raises(OSError, match="No space"), opened(put("a.zip", zipped(PAIRS)), limit=10**9):
        raise OSError(28, os.strerror(28))


def test_hashes_of_files(put: Put) -> None:
    path = put("x", b"abc")
    assert file_digests(path, ["sha256", "sha1", "md5"]) == {
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
        "md5": "900150983cd24fb0d6963f7d28e17f72",
    }


def test_the_hash_can_be_asked_for(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    archive = put("a.zip", zipped(PAIRS))
    layout = "source: {images: 'top/images/{id}.png', masks: 'top/masks/{id}.png'}"
    put("conf/mine/parameters.yml", layout.encode())
    monkeypatch.chdir(tmp_path)
    assert content.main([str(archive), "mine"]) == 0
    assert capsys.readouterr().out.strip() == archive_content_sha256(archive, LAYOUT.uses)
    assert content.main([str(archive), "other"]) == 1
    assert content.main(["missing.zip", "mine"]) == 1
    assert "no archive missing.zip" in capsys.readouterr().err
    assert content.main([]) == 2
