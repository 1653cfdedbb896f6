from __future__ import annotations

import os
import re
import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_segmentation.errors import DataError
from unet_segmentation.sources.layout import Layout, index_samples
from unet_segmentation.storage import Storage, census, is_data

NAME = st.text(string.ascii_letters + string.digits + "_-. ()[]+äß", min_size=1, max_size=8).filter(is_data)


def rows(paths: list[str], *layout: object, **more: object) -> list[tuple]:
    table = index_samples(paths, Layout(*layout, **more), where="the folder")
    return list(table.itertuples(index=False, name=None))


def simple(paths: list[str], *layout: object, **more: object) -> dict[str, tuple[str, list[str]]]:
    return {name: (image, masks) for name, image, masks, *_ in rows(paths, *layout, **more)}


def brute_force(glob: str, path: str) -> bool:
    """The meaning of *, ** and ?, said by recursion over single characters and components."""

    def component(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return component(pattern[1:], text) or (bool(text) and component(pattern, text[1:]))
        return bool(text) and pattern[0] in {"?", text[0]} and component(pattern[1:], text[1:])

    def whole(patterns: list[str], parts: list[str]) -> bool:
        if not patterns:
            return not parts
        if patterns[0] == "**":
            if len(patterns) == 1:
                return bool(parts)
            return whole(patterns[1:], parts) or (bool(parts) and whole(patterns, parts[1:]))
        return bool(parts) and component(patterns[0], parts[0]) and whole(patterns[1:], parts[1:])

    return whole(glob.split("/"), path.split("/"))


small = st.text("ab.", min_size=1, max_size=3).filter(lambda part: not part.startswith("."))
pieces = st.text("ab?*", min_size=1, max_size=3).filter(lambda part: "**" not in part)


@given(st.lists(st.one_of(pieces, st.just("**")), min_size=1, max_size=4), st.lists(small, min_size=1, max_size=4))
def test_wildcards_mean_what_they_say(glob: list[str], path: list[str]) -> None:
    pattern, text = "/".join([*glob, "end"]), "/".join([*path, "end"])
    # An id that can be one fixed text only turns a glob into a layout without changing what it matches.
    layout = Layout(f"{pattern}/{{id}}.png")
    assert layout.uses(f"{text}/x.png") == brute_force(f"{pattern}/*.png", f"{text}/x.png")


@given(
    st.dictionaries(NAME, st.tuples(st.sampled_from(["train", "val", "test"]), st.booleans()), min_size=1),
    st.sampled_from(
        [
            ("{split}/images/{id}.png", "{split}/masks/{id}.png"),
            ("*/CamVid/{split}/{id}.png", "*/CamVid/{split}annot/{id}.png"),
            ("{split}/{id}/image.png", "{split}/{id}/mask.png"),
            ("data/**/{split}/x/{id}.jpg", "data/**/{split}/y/{id}.png"),
            ("{split}_{id}/{id}.png", "{split}_{id}/{id}_mask.png"),
        ]
    ),
)
def test_what_was_laid_out_is_found_again(samples: dict[str, tuple[str, bool]], globs: tuple[str, str]) -> None:
    def path(glob: str, name: str, split: str) -> str:
        filled = glob.replace("**", "deep/down").replace("*", "top")
        return filled.replace("{id}", name).replace("{split}", split)

    expected = {
        name: (path(globs[0], name, split), [path(globs[1], name, split)] * labelled, split)
        for name, (split, labelled) in samples.items()
    }
    if not any(masks for _, masks, _ in expected.values()):
        return
    files = [image for image, _, _ in expected.values()] + [mask for _, masks, _ in expected.values() for mask in masks]
    files += ["top/README.md", "other/train/x.txt"]
    used = {split: split for _, _, split in expected.values()}
    names = {"val": "validation"}
    splits = {names.get(split, split): split for split in used}
    found = rows(files, *globs, splits)
    assert {row[0]: (row[1], row[2], row[5]) for row in found} == {
        name: (image, masks, names.get(split, split)) for name, (image, masks, split) in expected.items()
    }


def test_split_takes_the_declared_values_only() -> None:
    layout = Layout("{split}/{id}.png", splits={"train": "train", "test": "test"})
    assert layout.match("train/a.png").split == "train"  # type: ignore[union-attr]
    assert layout.match("trainannot/a.png") is None
    assert layout.match("val/a.png") is None


def test_all_else_in_a_glob_is_literal() -> None:
    layout = Layout("a+b (1)/[x]/{id}.png")
    assert layout.uses("a+b (1)/[x]/1.png")
    assert not layout.uses("aab (1)/x/1.png")
    assert not layout.uses("a+b (1)/[x]/1xpng")


def test_id_stays_within_a_component_unless_it_follows_two_stars() -> None:
    assert Layout("images/{id}.png").match("images/p1/001.png") is None
    found = simple(
        ["images/p1/001.png", "images/p2/001.png", "images/3.png", "masks/p1/001.png"],
        "images/**/{id}.png",
        "masks/**/{id}.png",
    )
    assert found == {
        "3": ("images/3.png", []),
        "p1__001": ("images/p1/001.png", ["masks/p1/001.png"]),
        "p2__001": ("images/p2/001.png", []),
    }


def test_an_id_that_stands_twice_is_the_same_twice() -> None:
    layout = Layout("{id}/images/{id}.png", "{id}/masks/*.png")
    files = ["x/images/x.png", "x/images/y.png", "x/masks/2.png", "x/masks/1.png"]
    assert {path for path in files if layout.uses(path)} == {"x/images/x.png", "x/masks/1.png", "x/masks/2.png"}
    assert simple(files, layout.images, layout.masks) == {"x": ("x/images/x.png", ["x/masks/1.png", "x/masks/2.png"])}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{id}.png", "{id}_mask.png"),
        ("{id}_image.png", "{id}.png"),
        ("{id}.*", "{id}_mask.png"),
        ("{id}.jpg", "{id}.*"),
    ],
)
def test_a_file_that_both_globs_match_belongs_to_the_more_definite(images: str, masks: str) -> None:
    image, mask = images.replace("{id}", "a").replace("*", "bmp"), masks.replace("{id}", "a").replace("*", "gif")
    assert simple([image, mask], images, masks) == {"a": (image, [mask])}


def test_ids_that_meet_across_splits_take_the_splits_name() -> None:
    files = ["tr/1.png", "te/1.png", "tr/m/1.png", "te/m/1.png"]
    splits = {"train": "tr", "test": "te"}
    found = rows(files, "{split}/{id}.png", "{split}/m/{id}.png", splits)
    assert found == [
        ("test-1", "te/1.png", ["te/m/1.png"], "", "test-1", "test"),
        ("train-1", "tr/1.png", ["tr/m/1.png"], "", "train-1", "train"),
    ]
    with pytest.raises(DataError, match=r"'1' stands in several splits.*Put \{split\} into source.masks"):
        rows(["tr/1.png", "te/1.png", "m/1.png"], "{split}/{id}.png", "m/{id}.png", splits)


def test_masks_may_lie_together_while_the_images_are_split() -> None:
    splits = {"train": "tr", "test": "te"}
    found = rows(["tr/1.png", "te/2.png", "m/1.png", "m/2.png"], "{split}/{id}.png", "m/{id}.png", splits)
    assert [(row[0], row[2], row[5]) for row in found] == [("2", ["m/2.png"], "test"), ("1", ["m/1.png"], "train")]


def test_missing_pairs_are_rows_and_no_errors() -> None:
    found = simple(["i/1.png", "i/2.png", "m/2.png", "m/3.png"], "i/{id}.png", "m/{id}.png")
    assert found == {"1": ("i/1.png", []), "2": ("i/2.png", ["m/2.png"]), "3": ("", ["m/3.png"])}


def test_unlabelled_images_need_no_masks() -> None:
    assert rows(["a.png"], "{id}.png") == [("a", "a.png", [], "", "a", None)]


def test_groups_come_from_the_id() -> None:
    found = rows(["i/p1_1.png", "i/p1_2.png", "i/p2_1.png"], "i/{id}.png", group="^(p[0-9]+)_")
    assert [row[4] for row in found] == ["p1", "p1", "p2"]
    found = rows(["i/p1/1.png", "i/p2/1.png"], "i/**/{id}.png", group="^([^/]+)/")
    assert [row[4] for row in found] == ["p1", "p2"]
    with pytest.raises(DataError, match=r"source.group .* finds nothing in the id 'x'"):
        rows(["i/p1_1.png", "i/x.png"], "i/{id}.png", group="^(p[0-9]+)_")


@pytest.mark.parametrize(
    ("files", "layout", "words"),
    [
        ([], ("i/{id}.png",), ["No image in the folder", "no file at all"]),
        (["Images/1.PNG"], ("images/{id}.png",), ["'images/{id}.png'", "Images/1.PNG"]),
        (["i/1.png", "x/1.png"], ("i/{id}.png", "m/{id}.png"), ["No mask", "'m/{id}.png'", "x/1.png"]),
        (["i/1_i.png", "m/1_m.png"], ("i/{id}.png", "m/{id}.png"), ["No image in the folder has a mask", "1_i", "1_m"]),
        (["a/1.png", "b/1.png"], ("*/{id}.png",), ["same id '1'", "a/1.png and b/1.png", "**/{id}"]),
        (["a/b.png", "a__b.png"], ("**/{id}.png",), ["share the name 'a__b'"]),
        (
            ["train/1.png"],
            ("{split}/{id}.png", None, {"train": "train", "test": "tset"}),
            ["'tset'", "source.splits.test", "train/1.png"],
        ),
    ],
)
def test_mismatches_are_explained(files: list[str], layout: tuple, words: list[str]) -> None:
    with pytest.raises(DataError) as refusal:
        rows(files, *layout)
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_an_empty_match_names_a_few_of_what_is_there() -> None:
    files = [f"pictures/{number}.png" for number in range(1000)]
    with pytest.raises(DataError) as refusal:
        rows(files, "images/{id}.png")
    assert len(re.findall(r"pictures/\d+", str(refusal.value))) == 5


def test_the_walk_leaves_out_what_is_no_data(tmp_path: Path) -> None:
    for name in ("a/b.png", "a/._b.png", "__MACOSX/a/b.png", ".hidden/c.png", "a/.DS_Store", "a/Thumbs.db", "z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"12")
    assert list(Storage(tmp_path).walk()) == ["a/b.png", "z.png"]
    assert census(Storage(tmp_path)) == {"files": 2, "bytes": 4}


def test_the_walk_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    os.symlink(tmp_path / "real", tmp_path / "link")
    os.symlink(tmp_path, tmp_path / "real" / "up")
    assert list(Storage(tmp_path).walk()) == ["link/a.png", "real/a.png"]


def test_a_hundred_thousand_files_are_matched_quickly() -> None:
    layout = Layout("*/images/{split}/{id}.png", "*/masks/{split}/{id}.png", {"train": "tr", "test": "te"})
    files = [f"x/{kind}/{'tr' if n % 5 else 'te'}/{n:06}.png" for kind in ("images", "masks") for n in range(50_000)]
    start = time.perf_counter()
    table = index_samples(files, layout, where="x")
    assert len(table) == 50_000
    assert time.perf_counter() - start < 5
