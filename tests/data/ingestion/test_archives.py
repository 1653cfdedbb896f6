from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from copy import copy
from pathlib import Path

import pytest

from tests.data.ingestion.conftest import PAIRS, tarred, zipped
from unet_segmentation.data.ingestion import archives, content_hash
from unet_segmentation.data.ingestion.archives import ArchiveEntry, check_archive, file_digests, opened, unpack_all
from unet_segmentation.data.ingestion.content_hash import archive_content_sha256, combined, content_sha256
from unet_segmentation.data.layout.layout import Layout
from unet_segmentation.errors import ResourceError, SourceError

LAYOUT = Layout("top/images/{id}.png", "top/masks/{id}.png")
Put = Callable[[str, bytes], Path]


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(archive: Path, tmp_path: Path) -> dict[str, bytes]:
    target = tmp_path / "inside" / "target"
    target.mkdir(parents=True)
    unpack_all([ArchiveEntry(archive)], target, LAYOUT.uses)
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
        unpack_all([ArchiveEntry(archive)], target, LAYOUT.uses)
    assert words in str(refusal.value)
    assert str(archive) in str(refusal.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]
    with pytest.raises(SourceError, match="nothing of it was unpacked"):
        archive_content_sha256(archive, LAYOUT.uses)


NOISE_BYTES = random.Random(9).randbytes(5000)
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
            result = archive_content_sha256(archive, LAYOUT.uses)
        except SourceError:
            continue
        assert name == "a.tar"  # only the padding after the end of a plain tar may be lost without harm
        assert result == truth


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


def declaring(size: int) -> bytes:
    """A zip whose one file says that it has another size than it has (1000 bytes)."""
    body = bytearray(zipped({"top/images/a.png": b"0" * 1000}))
    start = body.index(b"PK\x01\x02")
    body[start + 24 : start + 28] = struct.pack("<I", size)
    return bytes(body)


def test_a_bomb_is_refused_by_what_it_declares(put: Put, tmp_path: Path) -> None:
    archive = put("bomb.zip", declaring(2**32 - 2))
    with pytest.raises(SourceError, match=r"unpacks to more than 1.00 GB"), opened(archive, limit=10**9):
        pass
    with pytest.raises(SourceError, match="more than 1000 times its own size"), opened(archive, limit=10**12):
        pass
    endless = linked(tarfile.REGTYPE)
    endless.size = 10**15
    archive = put("bomb.tar", tarred(PAIRS, "w", endless))
    with pytest.raises(SourceError, match=r"unpacks to more than|truncated"):
        unpacked(archive, tmp_path)


@pytest.mark.parametrize("size", [1, 999, 1001, 10**8])
def test_a_file_that_is_not_as_large_as_it_says(size: int, put: Put, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="truncated or damaged"):
        unpacked(put("liar.zip", declaring(size)), tmp_path)


def test_a_bomb_is_refused_by_its_ratio(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(3_000_000)
    bombs = {
        "bomb.tar.bz2": tarred({"top/images/a.png": zeros}, "w:bz2"),
        "bomb.tar.xz": tarred({"top/images/a.png": zeros}, "w:xz"),
        "nested.zip": zipped({"a.zip": zipped({"b.png": zeros})}),  # deflate alone stays below
        "gzip.zip": zipped({"a.png.gz": gzip.compress(gzip.compress(zeros)), "b.png.gz": gzip.compress(zeros)}),
    }
    for name, body in bombs.items():
        unpacked(put(name, body), tmp_path / "first" / name)  # small, so without harm
    monkeypatch.setattr(archives, "HARMLESS", 1_000_000)
    for name in bombs:
        with pytest.raises(SourceError, match="more than 1000 times its own size"):
            unpacked(tmp_path / name, tmp_path / "again" / name)
    assert tree(tmp_path / "again") == {}


def test_the_bomb_of_overlapping_files(put: Put) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", bytes(2_000_000))
        for number in range(1, 1000):  # all of them are the same bytes of the archive
            info = copy(archive.filelist[0])
            info.filename = info.orig_filename = str(number)
            archive.filelist.append(info)
    with (
        pytest.raises(SourceError, match="more than 1000 times its own size"),
        opened(put("x", stream.getvalue()), 10**12),
    ):
        pass


# Archives in archives


@pytest.mark.parametrize("outer", ALL_KINDS)
@pytest.mark.parametrize("inner", ALL_KINDS)
def test_archives_in_archives_are_unpacked_where_they_lie(outer: str, inner: str, put: Put, tmp_path: Path) -> None:
    body = ALL_KINDS[outer]({f"x/{inner}": ALL_KINDS[inner](PAIRS), "x/b.txt": b"hello"})
    archive = put(outer, body)
    truth = {**{f"x/a/{path}": content for path, content in PAIRS.items()}, "x/b.txt": b"hello"}
    assert unpacked(archive, tmp_path) == truth
    layout = Layout("x/a/top/images/{id}.png", "x/a/top/masks/{id}.png")
    flat = put("flat.zip", zipped(truth))
    assert archive_content_sha256(archive, layout.uses) == archive_content_sha256(flat, layout.uses)


@pytest.mark.parametrize("ending", ["tgz", "TBZ2", "txz", "Tar.Gz"])
def test_short_endings_are_known(ending: str, put: Put, tmp_path: Path) -> None:
    mode = {"z": "w:gz", "2": "w:bz2"}.get(ending[-1], "w:xz") if ending != "tgz" else "w:gz"
    assert unpacked(put("a.zip", zipped({f"b.{ending}": tarred({"c": b"1"}, mode)})), tmp_path) == {"b/c": b"1"}


def test_a_member_of_gzip_loses_its_ending(put: Put, tmp_path: Path) -> None:
    files = {"x/im1.ppm.gz": gzip.compress(b"P6" * 5000), "x/plain.gz": b"no gzip", ".gz": b"hidden"}
    truth = {"x/im1.ppm": b"P6" * 5000, "x/plain.gz": b"no gzip", ".gz": b"hidden"}
    assert unpacked(put("a.zip", zipped(files)), tmp_path / "zip") == truth
    assert unpacked(put("a.tar.gz", tarred(files, "w:gz")), tmp_path / "tar") == truth


CUT_GZIPS = [gzip.compress(bytes(100))[:-3], gzip.compress(NOISE_BYTES)[:-2000]]  # the time of making is in them


@pytest.mark.parametrize("body", CUT_GZIPS, ids=["at its checksum", "in its middle"])
def test_a_member_of_gzip_that_was_cut(body: bytes, put: Put, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="truncated or damaged"):
        unpacked(put("a.zip", zipped({"a.ppm.gz": body})), tmp_path)


def test_what_is_no_archive_but_called_one_stays(put: Put, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {**PAIRS, "top/notes.zip": b"no zip", "top/empty.tar": b""}
    assert unpacked(put("a.zip", zipped(files)), tmp_path) == files
    assert "top/notes.zip" in caplog.text


def test_a_tar_that_holds_a_zip_is_a_tar(put: Put, tmp_path: Path) -> None:
    archive = put("a.tar", tarred({"a.png": b"1", "b.zip": zipped({"c.png": b"2"})}))
    assert zipfile.is_zipfile(archive)  # by its end, which is why it must not be asked first
    assert unpacked(archive, tmp_path) == {"a.png": b"1", "b/c.png": b"2"}


def nested(levels: int) -> bytes:
    body = zipped({"a.png": b"1"})
    for _ in range(levels):
        body = zipped({"x.zip": body})
    return body


def test_archives_without_end_are_refused(put: Put, tmp_path: Path) -> None:
    path = "/".join(["x"] * archives.DEPTH) + "/a.png"
    assert unpacked(put("a.zip", nested(archives.DEPTH)), tmp_path / "deep") == {path: b"1"}
    with pytest.raises(SourceError, match="may have no end"):
        unpacked(put("b.zip", nested(archives.DEPTH + 1)), tmp_path / "deeper")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_within_are_refused_too(kind: str, put: Put, tmp_path: Path) -> None:
    body, words = HOSTILE[kind]
    archive = put("outer.zip", zipped({**PAIRS, "top/inner.zip": body}))
    with pytest.raises(SourceError) as refusal:
        unpacked(archive, tmp_path)
    assert words in str(refusal.value)
    assert f"{archive}/top/inner.zip was refused" in str(refusal.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


def test_names_of_every_kind(put: Put, tmp_path: Path) -> None:
    names = ["größe 1.png", "日本/語.png", 'it\'s "quoted".png', " leading.png", "a\nb.png", "%20.png", "~/x.png"]
    files = {f"top/{name}": name.encode() for name in names}
    assert unpacked(put("a.zip", zipped(files)), tmp_path / "zip") == files
    assert unpacked(put("a.tar", tarred(files)), tmp_path / "tar") == files


def test_a_name_that_the_disk_does_not_take(put: Put, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a name that this disk does not take"):
        unpacked(put("a.tar", tarred({"x" * 300: b"1"})), tmp_path)


# Where files go


def test_files_go_into_a_folder(put: Put, tmp_path: Path) -> None:
    archive, plain = put("a.zip", zipped({"a.png": b"1", "b.zip": zipped({"c.png": b"2"})})), put("n.csv", b"x")
    (tmp_path / "x").mkdir()
    parcels = [
        ArchiveEntry(archive, into="p/q"),
        ArchiveEntry(plain, plain_name="names.csv"),
        ArchiveEntry(plain, "p", "names.csv"),
    ]
    unpack_all(parcels, tmp_path / "x", lambda _: True)
    truth = {"p/q/a.png": b"1", "p/q/b/c.png": b"2", "names.csv": b"x", "p/names.csv": b"x"}
    assert tree(tmp_path / "x") == truth
    seen: list[str] = []
    archive_content_sha256(archive, lambda path: bool(seen.append(path)), into="p/q")
    assert set(seen) == {"p/q/a.png", "p/q/b/c.png"}
    with pytest.raises(SourceError, match="stands in the way"):
        unpack_all([ArchiveEntry(plain, plain_name="names.csv")], tmp_path / "x", lambda _: True)


@pytest.mark.parametrize("name", ALL_KINDS)
def test_whatever_is_damaged_ends_in_a_message(name: str, put: Put) -> None:
    """Flip bits anywhere: the archive is refused, or gives what it holds, and nothing else happens."""
    draw = random.Random(name)
    body = ALL_KINDS[name]({"a.png": b"1" * 50, "b.zip": zipped({"c.png": b"2" * 50}), "d.gz": gzip.compress(b"3")})
    for _ in range(200):
        damaged = bytearray(body)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        with contextlib.suppress(SourceError), opened(put(name, bytes(damaged)), limit=10**9) as contents:
            archives.digests(contents, lambda _: True, lambda _: None)


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
    unpack_all([ArchiveEntry(first), ArchiveEntry(second)], tmp_path / "x", LAYOUT.uses)
    assert tree(tmp_path / "x") == {**PAIRS, "README": b"of the images"}
    (tmp_path / "y").mkdir()
    with pytest.raises(SourceError, match=r"i2.zip holds 'top/images/a.png', which stands in the way"):
        unpack_all([ArchiveEntry(first), ArchiveEntry(put("i2.zip", zipped(images)))], tmp_path / "y", LAYOUT.uses)


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
    assert content_hash.main([str(archive), "mine"]) == 0
    assert capsys.readouterr().out.strip() == archive_content_sha256(archive, LAYOUT.uses)
    assert content_hash.main([str(archive), "other"]) == 1
    assert content_hash.main(["missing.zip", "mine"]) == 1
    assert "no archive missing.zip" in capsys.readouterr().err
    assert content_hash.main([]) == 2


def test_the_hash_asked_for_heeds_what_is_declared(put: Put, tmp_path: Path, monkeypatch, capsys) -> None:
    archive, other = put("i.zip", zipped(PAIRS)), put("other.zip", zipped(PAIRS))
    text = """
    source:
      images: "p/top/images/{id}.png"
      masks: "p/top/masks/{id}.png"
      archives: [{url: "https://example.org/i.zip", into: p}, {url: "https://example.org/m.zip"}]
    """
    put("conf/mine/parameters.yml", text.encode())
    put("conf/broken/parameters.yml", b"source: {images: 1}")
    put("conf/none/parameters.yml", b"classes: [a, b]")
    monkeypatch.chdir(tmp_path)
    layout = Layout("p/top/images/{id}.png", "p/top/masks/{id}.png")
    assert content_hash.main([str(archive), "mine"]) == 0
    assert capsys.readouterr().out.strip() == archive_content_sha256(archive, layout.uses, into="p")
    assert content_hash.main([str(other), "mine"]) == 1
    assert "Name yours as one of them" in capsys.readouterr().err
    for problem in ("broken", "none"):
        assert content_hash.main([str(archive), problem]) == 1
        assert "declares no source as it should be" in capsys.readouterr().err
