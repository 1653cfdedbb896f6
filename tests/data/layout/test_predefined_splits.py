from __future__ import annotations

import csv
import io
import logging
import string
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.layout.layout import Sample
from unet_segmentation.data.layout.predefined_splits import (
    Names,
    apply_table,
    find_file,
    first_word,
    read_text,
    split_by_lists,
)
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.source import TableParameters

WORD = st.text(string.ascii_letters + string.digits + "_-.ä", min_size=1, max_size=6).filter(
    lambda text: text[0] != "."
)


def flat(*names: str) -> list[Sample]:
    return [Sample(name, None, f"top/images/{name}.png", []) for name in names]


def nested(*names: str) -> list[Sample]:
    return [Sample(name, None, "top/{}/images_png/{}.png".format(*name.split("/")), []) for name in names]


def found(samples: list[Sample], line: str) -> str | None:
    at = Names(samples).find_line(line, "the list")
    return None if at is None else samples[at].id


def split(samples: list[Sample], unlisted: str = "exclude", **lists: list[str]) -> dict[str, str | None]:
    done = split_by_lists(samples, lists, unlisted, {name: f"{name}.txt" for name in lists})  # type: ignore[arg-type]
    return {sample.id: sample.split for sample in done}


@pytest.mark.parametrize(
    ("samples", "line", "sample"),
    [
        (flat("Abyssinian_100"), "Abyssinian_100 1 1 1", "Abyssinian_100"),  # Oxford-IIIT Pet
        (flat("X", "Y"), "/SegNet/CamVid/val/X.png /SegNet/CamVid/valannot/X.png", "X"),  # CamVid
        (flat("2007_000032"), "2007_000032", "2007_000032"),  # Pascal VOC
        (flat("a"), "a.jpg,a_mask.png", "a"),
        (flat("a"), "a.jpg\t1", "a"),
        (flat("a"), '"a.jpg", 1', "a"),
        (flat("a"), "'a'", "a"),
        (flat("a"), "D:\\data\\a.jpg", "a"),
        (flat("a", "b"), "images/a.png labels/b.png", "a"),
        (flat("my cell", "my"), "my cell.png", "my cell"),
        (flat("my cell", "my"), "images/my cell.png", "my cell"),
        (flat("my cell", "my"), '"my cell.png" 3', "my cell"),
        (flat("my cell", "my"), "my other.png", "my"),
        (flat("a.1", "a"), "a.1 0.5", "a.1"),
        (flat("a.1", "a"), "a.png 0.5", "a"),
        (flat("a,b"), "a,b", "a,b"),
        (flat("#1"), "#1.png", "#1"),
        (flat("é"), unicodedata.normalize("NFD", "é.png"), "é"),
        (flat("a"), "b.png", None),
        (flat("a"), "ba", None),
        (nested("p1/001", "p2/001"), "p1/001", "p1/001"),
        (nested("p1/001", "p2/001"), "/foreign/p2/001.png 1", "p2/001"),
        (nested("p1/001", "p2/001"), "/foreign/p2/images_png/001.png", "p2/001"),
        (nested("p1/001", "p2/001"), "p2/masks_png/001.png", "p2/001"),
        (nested("p1/001", "p2/002"), "002.png", "p2/002"),
        (nested("p1/001"), "p2/001.png", None),
        (nested("Dataset 1/001"), "Dataset 1/001.bmp", "Dataset 1/001"),
        ([Sample("a/1", None, "a/1.png", []), Sample("b/a/1", None, "b/a/1.png", [])], "x/b/a/1.png", "b/a/1"),
        ([Sample("a/1", None, "a/1.png", []), Sample("b/a/1", None, "b/a/1.png", [])], "c/a/1.png", "a/1"),
        # By the name of the file, where it says more than the id.
        ([Sample("a", None, "x/a_leftImg8bit.png", [])], "/y/x/a_leftImg8bit.png", "a"),
        ([Sample("a", None, "a/image.png", []), Sample("b", None, "b/image.png", [])], "/y/b/image.png", "b"),
        ([Sample("a", None, "a/image.png", []), Sample("b", None, "b/image.png", [])], "/y/c/image.png", None),
        ([Sample("v-003", None, "v.tif#3", [])], "v-003", "v-003"),
    ],
)
def test_a_line_names_a_sample(samples: list[Sample], line: str, sample: str | None) -> None:
    assert found(samples, line) == sample


def test_an_ambiguous_name_is_refused() -> None:
    with pytest.raises(DataError, match=r"'001.png' in the list can mean several samples"):
        found(nested("p1/001", "p2/001"), "001.png")


@given(
    st.sets(st.tuples(WORD, WORD), min_size=1, max_size=8),
    st.sampled_from(
        ["{0}/{1}", "{0}/{1}.png", "/x/y/{0}/{1}.png", "/x/{0}/z/{1}.png 1 2", '"{0}/{1}.png",3', "{0}\\{1}"]
    ),
)
def test_ids_with_folders_are_found_whatever_stands_around_them(names: set[tuple[str, str]], form: str) -> None:
    samples = [Sample(f"{folder}/{name}", None, f"{folder}/images/{name}.tif", []) for folder, name in sorted(names)]
    for folder, name in names:
        # What looks like an ending, or names a folder twice, can mean another sample too: only a whole id cannot.
        if any(other != name and (other.startswith(f"{name}.") or name.startswith(f"{other}.")) for _, other in names):
            continue
        if {folder, name} & {"x", "y", "z", "images"}:
            continue
        assert found(samples, form.format(folder, name)) == f"{folder}/{name}"


def test_lists_give_the_splits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    samples = flat("a", "b", "c", "d")
    lists = {"train": ["# ids", "", "  ", "a.png 1", "b", "a"], "test": ["x/c.png"]}
    assert split(samples, **lists) == {"a": "train", "b": "train", "c": "test"}
    assert "1 samples on no list: left out" in caplog.text
    assert split(samples, "train", **lists) == {"a": "train", "b": "train", "c": "test", "d": "train"}
    assert "1 samples on no list: used for training" in caplog.text
    assert all(sample.split is None for sample in samples)


def test_names_that_are_not_there_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    split(flat("a"), train=["a", *(f"gone{number}" for number in range(50))])
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage() == "50 names in train.txt fit no sample: gone0, gone16, gone32, ..."


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"train": ["1", "2"]}, "train.txt fits no sample: none of its names is there. It names 1, 2. The ids"),
        ({"train": ["a"], "test": ["# nothing", ""]}, "test.txt fits no sample: it names nothing. The ids"),
        ({"train": ["a", "b"], "test": ["b"]}, "top/images/b.png is on two lists: train.txt and test.txt. Take it off"),
    ],
)
def test_lists_that_do_not_fit_are_refused(lists: dict[str, list[str]], words: str) -> None:
    with pytest.raises(DataError) as refusal:
        split(flat("a", "b"), **lists)
    assert words in str(refusal.value)


@given(st.lists(WORD, unique=True, min_size=3, max_size=20), st.randoms())
def test_every_listed_sample_is_on_its_side(names: list[str], random: object) -> None:
    sides = {name: random.choice(["train", "validation", "test"]) for name in names}  # type: ignore[attr-defined]
    sides |= dict(zip(names, ["train", "validation", "test"], strict=False))
    lists = {side: [name for name in names if sides[name] == side] for side in ("train", "validation", "test")}
    assert split(flat(*names), **lists) == sides


def test_the_file_of_a_list_is_found() -> None:
    paths = ["V/ImageSets/Main/train.txt", "V/ImageSets/Segmentation/train.txt", "V/ImageSets/Segmentation/val.txt"]
    assert find_file(paths, "V/*/Segmentation/train.txt", "k", "x") == paths[1]
    assert find_file(paths, "**/val.txt", "k", "x") == paths[2]
    assert find_file(["{a}.txt"], "{a}.txt", "k", "x") == "{a}.txt"
    with pytest.raises(DataError, match=r"k '\*\*/train.txt' matches several files in x: V/.*Main.*Make it match one"):
        find_file(paths, "**/train.txt", "k", "x")
    with pytest.raises(DataError, match=r"No file in x matches k 'val.txt'. Files like it: V/ImageSets/Seg.*/val.txt"):
        find_file(paths, "val.txt", "k", "x")
    with pytest.raises(DataError, match=r"Files like it: lists/valid.txt, lists/train.txt"):
        find_file(["a.png", "lists/train.txt", "lists/valid.txt"], "lists/val.txt", "k", "x")
    with pytest.raises(DataError, match=r"Files there: a.png"):
        find_file(["a.png"], "lists/val.txt", "k", "x")
    with pytest.raises(DataError, match="no file at all"):
        find_file([], "lists/val.txt", "k", "x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_decoded(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("ä\nb\n".encode(encoding))
    assert read_text(FileStore(tmp_path), "list.txt").splitlines() == ["ä", "b"]


@pytest.mark.parametrize("content", ["ä".encode("latin-1"), b"\x89PNG\r\n\x1a\n\0", b"a\0b"])
def test_what_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"list.txt is no text"):
        read_text(FileStore(tmp_path), "list.txt")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list.txt in .* cannot be read: No such file"):
        read_text(FileStore(tmp_path), "list.txt")


@given(st.text("ab ,\t.\"'\n", max_size=12))
def test_the_first_word_of_any_line(line: str) -> None:
    rest = line.lstrip()
    if rest[:1] in {'"', "'"} and rest[0] in rest[1:]:
        assert first_word(line) == rest[1:].split(rest[0])[0]
    else:
        ends = [at for at, character in enumerate(rest) if character.isspace() or character == ","]
        assert first_word(line) == rest[: ends[0] if ends else None]


def table(text: str, samples: list[Sample], unlisted: str = "exclude", **columns: object) -> dict[str, tuple]:
    parameters = TableParameters.model_validate({"file": "t.csv", **columns})
    return {sample.id: (sample.split, sample.group) for sample in apply_table(samples, text, parameters, unlisted)}  # type: ignore[arg-type]


def test_a_table_gives_splits_and_groups(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    text = "file,set,patient\nx/0012.png,Training,0007\nNA.png, VAL ,NA\n3,test,a\n4,,a\n5,train,a\n"
    samples = flat("0012", "NA", "3", "4", "6")
    assert table(text, samples, id="file", split="set", group="patient") == {
        "0012": ("train", "0007"),
        "NA": ("validation", "NA"),
        "3": ("test", "a"),
    }
    assert "2 samples without a split in t.csv: left out" in caplog.text
    assert "1 names in t.csv fit no sample: 5" in caplog.text
    assert "1 samples have no group in t.csv, so each is its own: 6" in caplog.text
    assert table(text, samples, "train", id="file", split="set")["6"] == ("train", None)


def test_a_sample_without_a_group_gets_one_that_no_other_has() -> None:
    assert table("id,g\na,b\nc,d\n", flat("a", "b", "c"), group="g") == {
        "a": (None, "b"),
        "b": (None, "b'"),
        "c": (None, "d"),
    }


@pytest.mark.parametrize("value", ["train", "training", "TRAIN", "Train "])
def test_the_usual_names_of_splits_are_known(value: str) -> None:
    text = f"id,split\na,{value}\nb,valid\nc,Validation\nd,dev\ne,testing\nf,TEST\n"
    assert [side for side, _ in table(text, flat(*"abcdef"), split="split").values()] == [
        "train",
        "validation",
        "validation",
        "validation",
        "test",
        "test",
    ]


def test_a_tables_own_names_of_splits() -> None:
    splits = {"train": "0", "test": "1"}
    assert table("id,fold\na,0\nb,1\n", flat("a", "b"), split="fold", splits=splits) == {
        "a": ("train", None),
        "b": ("test", None),
    }
    with pytest.raises(DataError, match=r"'fold' of t.csv holds '2', which names no split. Values there: 0, 2"):
        table("id,fold\na,0\nb,2\n", flat("a", "b"), split="fold", splits=splits)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,split\na,train\n", "t.csv has no column 'id' (source.split_table.id). Columns there: name, split."),
        ("id,Split\na,train\n", "Did you mean 'Split'?"),
        ("", "has no column 'id'"),
        ("id,split\na,tain\n", "holds 'tain', which names no split. Values there: tain"),
        ("id,split\na,train\na.png,test\n", "'a.png' stands twice in t.csv, with different values"),
        (
            "id,split\nx,train\n",
            "t.csv fits no sample: none of its names is there. It names x. The ids of the samples: a",
        ),
        ("id,split\n", "it names nothing"),
        ('id,split\n"a' + "x" * 200_000 + '",train\n', "t.csv is no table: field larger than field limit"),
    ],
)
def test_tables_that_do_not_fit_are_refused(text: str, words: str) -> None:
    with pytest.raises(DataError) as refusal:
        table(text, flat("a"), split="split")
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("file", "text"),
    [("t.tsv", "id\tg\na\tx, y\n"), ("t.csv", 'id;g\na;"x, y"\n'), ("t.csv", 'id,g\r\na,"x, y"\r\n\r\n')],
)
def test_separators(file: str, text: str) -> None:
    assert table(text, flat("a"), file=file, group="g") == {"a": (None, "x, y")}


def test_the_same_row_twice_is_harmless() -> None:
    assert table("id,split\na,train\na,train\n", flat("a"), split="split") == {"a": ("train", None)}


@given(st.dictionaries(WORD, st.text("ab ,;\"'\n#", min_size=1).map(str.strip).filter(bool), min_size=1))
def test_whatever_csv_writes_is_read(groups: dict[str, str]) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([("id", "g"), *groups.items()])
    found = table(stream.getvalue(), flat(*groups), group="g")
    assert {name: group for name, (_, group) in found.items()} == groups


@pytest.mark.slow
def test_a_hundred_thousand_lines_are_found_quickly() -> None:
    names = [f"p{number // 10:05}/{number % 10}" for number in range(100_000)]
    samples = nested(*names)
    lines = [f"/a/b/{name.replace('/', '/images_png/')}.png 1" for name in names]
    start = time.process_time()
    done = split_by_lists(samples, {"train": lines[::2], "test": lines[1::2]}, "exclude", {"train": "x", "test": "y"})
    assert [sample.split for sample in done] == ["train", "test"] * 50_000
    text = "id,g\n" + "".join(f"{name},{name[:6]}\n" for name in names)
    assert len(apply_table(samples, text, TableParameters(file="t.csv", group="g"), "exclude")) == 100_000
    assert time.process_time() - start < 15
