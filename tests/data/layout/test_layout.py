from __future__ import annotations

import os
import re
import string
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_segmentation.data.io.filesystem import FileStore, count_files_and_bytes, is_data, split_page
from unet_segmentation.data.layout.layout import Layout, Match, find_samples, samples_table
from unet_segmentation.errors import DataError
from unet_segmentation.parameters import SourceParameters

NAME = st.text(string.ascii_letters + string.digits + "_-. ()[]+äß", min_size=1, max_size=8).filter(is_data)


def index_samples(paths: Iterable[str], layout: Layout, where: str, pages: object = None) -> pd.DataFrame:
    return samples_table(find_samples(paths, layout, where, pages), layout.group, where)


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
        name: (path(globs[0], name, split), [path(globs[1], name, split)] * labeled, split)
        for name, (split, labeled) in samples.items()
    }
    if not any(masks for _, masks, _ in expected.values()):
        return
    files = [image for image, _, _ in expected.values()] + [mask for _, masks, _ in expected.values() for mask in masks]
    files += ["top/README.md", "other/train/x.txt"]
    used = {split: split for _, _, split in expected.values()}
    names = {"val": "validation"}
    splits = {names.get(split, split): split for split in used}
    result = rows(files, *globs, splits)
    assert {row[0]: (row[1], row[2], row[5]) for row in result} == {
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
    result = simple(
        ["images/p1/001.png", "images/p2/001.png", "images/3.png", "masks/p1/001.png"],
        "images/**/{id}.png",
        "masks/**/{id}.png",
    )
    assert result == {
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
    result = rows(files, "{split}/{id}.png", "{split}/m/{id}.png", splits)
    assert result == [
        ("test-1", "te/1.png", ["te/m/1.png"], "", "test-1", "test"),
        ("train-1", "tr/1.png", ["tr/m/1.png"], "", "train-1", "train"),
    ]
    with pytest.raises(DataError, match=r"'1' stands in several splits.*Put \{split\} into source.masks"):
        rows(["tr/1.png", "te/1.png", "m/1.png"], "{split}/{id}.png", "m/{id}.png", splits)


def test_masks_may_lie_together_while_the_images_are_split() -> None:
    splits = {"train": "tr", "test": "te"}
    result = rows(["tr/1.png", "te/2.png", "m/1.png", "m/2.png"], "{split}/{id}.png", "m/{id}.png", splits)
    assert [(row[0], row[2], row[5]) for row in result] == [("2", ["m/2.png"], "test"), ("1", ["m/1.png"], "train")]


def test_missing_pairs_are_rows_and_no_errors() -> None:
    result = simple(["i/1.png", "i/2.png", "m/2.png", "m/3.png"], "i/{id}.png", "m/{id}.png")
    assert result == {"1": ("i/1.png", []), "2": ("i/2.png", ["m/2.png"]), "3": ("", ["m/3.png"])}


def test_unlabeled_images_need_no_masks() -> None:
    assert rows(["a.png"], "{id}.png") == [("a", "a.png", [], "", "a", None)]


def test_groups_come_from_the_id() -> None:
    result = rows(["i/p1_1.png", "i/p1_2.png", "i/p2_1.png"], "i/{id}.png", group="^(p[0-9]+)_")
    assert [row[4] for row in result] == ["p1", "p1", "p2"]
    result = rows(["i/p1/1.png", "i/p2/1.png"], "i/**/{id}.png", group="^([^/]+)/")
    assert [row[4] for row in result] == ["p1", "p2"]
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


PET = {"images": "images/{id}.jpg", "masks": "annotations/trimaps/{id}.png"}
OUTSIDE = {"train": "training", "test": "test"}

# What a layout makes of the files of a public data set: id to image, masks, region of interest and split.
PUBLIC: dict[str, tuple[dict[str, Any], list[str], dict[str, tuple]]] = {
    "oxford pet": (
        PET,
        [
            "images/Abyssinian_1.jpg",
            "images/Abyssinian_1.mat",
            "annotations/trimaps/Abyssinian_1.png",
            "annotations/trimaps/._Abyssinian_1.png",
            "annotations/xmls/Abyssinian_1.xml",
            "annotations/test.txt",
        ],
        {"Abyssinian_1": ("images/Abyssinian_1.jpg", ["annotations/trimaps/Abyssinian_1.png"], "", None)},
    ),
    "dsb2018": (
        {"images": "{id}/images/*.png", "masks": "{id}/masks/*.png"},
        ["f1/images/f1.png", "f1/masks/b.png", "f1/masks/a.png", "stage1_solution.csv"],
        {"f1": ("f1/images/f1.png", ["f1/masks/a.png", "f1/masks/b.png"], "", None)},
    ),
    "chase_db1": (
        {"images": "{id}.jpg", "masks": "{id}_1stHO.png"},
        ["Image_01L.jpg", "Image_01L_1stHO.png", "Image_01L_2ndHO.png"],
        {"Image_01L": ("Image_01L.jpg", ["Image_01L_1stHO.png"], "", None)},
    ),
    "drive": (
        {
            "images": "{split}/images/{id}_*.tif",
            "masks": "{split}/1st_manual/{id}_manual1.gif",
            "roi": "{split}/mask/{id}_*_mask.gif",
            "splits": OUTSIDE,
        },
        [
            "training/images/21_training.tif",
            "training/1st_manual/21_manual1.gif",
            "training/mask/21_training_mask.gif",
            "test/images/01_test.tif",
            "test/1st_manual/01_manual1.gif",
            "test/2nd_manual/01_manual2.gif",
            "test/mask/01_test_mask.gif",
        ],
        {
            "01": (
                "test/images/01_test.tif",
                ["test/1st_manual/01_manual1.gif"],
                "test/mask/01_test_mask.gif",
                "test",
            ),
            "21": (
                "training/images/21_training.tif",
                ["training/1st_manual/21_manual1.gif"],
                "training/mask/21_training_mask.gif",
                "train",
            ),
        },
    ),
    "loveda": (
        {
            "images": "{split}/{folder}/images_png/{id}.png",
            "masks": "{split}/{folder}/masks_png/{id}.png",
            "splits": {"train": "Train", "test": "Val"},
        },
        [
            "Train/Urban/images_png/1.png",
            "Train/Urban/masks_png/1.png",
            "Train/Rural/images_png/1.png",
            "Train/Rural/masks_png/1.png",
            "Val/Rural/images_png/9.png",
            "Val/Rural/masks_png/9.png",
        ],
        {
            "Rural__1": ("Train/Rural/images_png/1.png", ["Train/Rural/masks_png/1.png"], "", "train"),
            "Urban__1": ("Train/Urban/images_png/1.png", ["Train/Urban/masks_png/1.png"], "", "train"),
            "Rural__9": ("Val/Rural/images_png/9.png", ["Val/Rural/masks_png/9.png"], "", "test"),
        },
    ),
    "isic 2018": (
        {
            "images": "ISIC2018_Task1-2_{split}_Input/{id}.jpg",
            "masks": "ISIC2018_Task1_{split}_GroundTruth/{id}_segmentation.png",
            "splits": {"train": "Training"},
        },
        [
            "ISIC2018_Task1-2_Training_Input/ISIC_0.jpg",
            "ISIC2018_Task1-2_Training_Input/ATTRIBUTION.txt",
            "ISIC2018_Task1_Training_GroundTruth/ISIC_0_segmentation.png",
        ],
        {
            "ISIC_0": (
                "ISIC2018_Task1-2_Training_Input/ISIC_0.jpg",
                ["ISIC2018_Task1_Training_GroundTruth/ISIC_0_segmentation.png"],
                "",
                "train",
            )
        },
    ),
    "ade20k": (
        {
            "images": "A/images/{split}/{id}.jpg",
            "masks": "A/annotations/{split}/{id}.png",
            "splits": {"train": "training", "validation": "validation"},
        },
        [f"A/{kind}" for kind in ("images/training/ADE_train_1.jpg", "annotations/training/ADE_train_1.png")]
        + ["A/images/validation/ADE_val_1.jpg", "A/annotations/validation/ADE_val_1.png", "A/objectInfo150.txt"],
        {
            "ADE_train_1": (
                "A/images/training/ADE_train_1.jpg",
                ["A/annotations/training/ADE_train_1.png"],
                "",
                "train",
            ),
            "ADE_val_1": (
                "A/images/validation/ADE_val_1.jpg",
                ["A/annotations/validation/ADE_val_1.png"],
                "",
                "validation",
            ),
        },
    ),
    "cityscapes": (
        {
            "images": "leftImg8bit/{split}/*/{id}_leftImg8bit.png",
            "masks": "gtFine/{split}/*/{id}_gtFine_labelTrainIds.png",
            "splits": {"train": "train"},
        },
        [
            "leftImg8bit/train/aachen/aachen_0_1_leftImg8bit.png",
            "gtFine/train/aachen/aachen_0_1_gtFine_color.png",
            "gtFine/train/aachen/aachen_0_1_gtFine_labelTrainIds.png",
        ],
        {
            "aachen_0_1": (
                "leftImg8bit/train/aachen/aachen_0_1_leftImg8bit.png",
                ["gtFine/train/aachen/aachen_0_1_gtFine_labelTrainIds.png"],
                "",
                "train",
            )
        },
    ),
    "carvana": (
        {"images": "train/{id}.jpg", "masks": "train_masks/{id}_mask.gif", "group": "^([^_]+)_"},
        ["train/0cdf_01.jpg", "train_masks/0cdf_01_mask.gif"],
        {"0cdf_01": ("train/0cdf_01.jpg", ["train_masks/0cdf_01_mask.gif"], "", None)},
    ),
    "coco": (
        {
            "images": "{split}2017/{id}.jpg",
            "masks": "annotations/instances_{split}2017.json",
            "splits": {"train": "train", "validation": "val"},
        },
        [
            "train2017/1.jpg",
            "train2017/2.jpg",
            "val2017/3.jpg",
            "annotations/captions_train2017.json",
            "annotations/instances_train2017.json",
            "annotations/instances_val2017.json",
        ],
        {
            "1": ("train2017/1.jpg", ["annotations/instances_train2017.json"], "", "train"),
            "2": ("train2017/2.jpg", ["annotations/instances_train2017.json"], "", "train"),
            "3": ("val2017/3.jpg", ["annotations/instances_val2017.json"], "", "validation"),
        },
    ),
    "montgomery": (
        {"images": "M/CXR_png/{id}.png", "masks": "M/ManualMask/*/{id}.png"},
        ["M/CXR_png/x_0.png", "M/ManualMask/rightMask/x_0.png", "M/ManualMask/leftMask/x_0.png"],
        {
            "x_0": (
                "M/CXR_png/x_0.png",
                ["M/ManualMask/leftMask/x_0.png", "M/ManualMask/rightMask/x_0.png"],
                "",
                None,
            )
        },
    ),
    "glas": (
        {"images": "{split}_{id}.bmp", "masks": "{split}_{id}_anno.bmp", "splits": {"train": "train", "test": "testA"}},
        ["train_1.bmp", "train_1_anno.bmp", "testA_1.bmp", "testA_1_anno.bmp", "testB_1.bmp", "Grade.csv"],
        {
            "test-1": ("testA_1.bmp", ["testA_1_anno.bmp"], "", "test"),
            "train-1": ("train_1.bmp", ["train_1_anno.bmp"], "", "train"),
        },
    ),
    "idrid": (
        {"images": "images/{id}.jpg", "masks": "masks/{class}/{id}_*.tif"},
        [
            "images/I_1.jpg",
            "images/I_2.jpg",
            "masks/3. Hard Exudates/I_1_EX.tif",
            "masks/5. Optic Disc/I_1_OD.tif",
            "masks/5. Optic Disc/I_2_OD.tif",
        ],
        {
            "I_1": (
                "images/I_1.jpg",
                ["masks/3. Hard Exudates/I_1_EX.tif", "masks/5. Optic Disc/I_1_OD.tif"],
                "",
                None,
            ),
            "I_2": ("images/I_2.jpg", ["masks/5. Optic Disc/I_2_OD.tif"], "", None),
        },
    ),
    "isbi 2012, complete": (
        {
            "images": "**/{split}-volume.tif#{page}",
            "masks": "**/{split}-labels.tif#{page}",
            "splits": {"train": "train", "test": "test"},
        },
        ["x/train-volume.tif", "x/train-labels.tif", "x/test-volume.tif", "x/test-labels.tif"],
        {
            f"{split}-{page:03d}": (f"x/{split}-volume.tif#{page}", [f"x/{split}-labels.tif#{page}"], "", split)
            for split in ("train", "test")
            for page in range(3)
        },
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_layouts_of_public_data_sets(name: str) -> None:
    parameters, files, expected = PUBLIC[name]
    table = index_samples(files, Layout(**parameters), "the folder", pages=lambda _: 3)
    assert {row.sample_id: (row.image, row.masks, row.roi, row.split) for row in table.itertuples()} == expected
    # The same by way of the parameters, which must let every one of them pass.
    source = SourceParameters.model_validate({"folder": "x", **parameters})
    pd.testing.assert_frame_equal(index_samples(files, Layout.of(source), "x", pages=lambda _: 3), table)


def test_a_folder_belongs_to_the_id() -> None:
    images, masks = "{folder}/images/{id}.png", "labels/{folder}_{id}.png"
    result = rows(["p1/images/1.png", "p2/images/1.png", "labels/p2_1.png"], images, masks, group="^([^/]+)/")
    assert [(row[0], row[2], row[4]) for row in result] == [("p1__1", [], "p1"), ("p2__1", ["labels/p2_1.png"], "p2")]
    twice = Layout("{folder}/{folder}_{id}.png")
    assert twice.match("a/a_1.png") == Match("image", "a/1")
    assert twice.match("a/b_1.png") is None
    with pytest.raises(DataError, match=r"'1': p1/i/1.png and p2/i/1.png .*\{folder\}"):
        rows(["p1/i/1.png", "p2/i/1.png"], "*/i/{id}.png")


def test_a_mask_says_its_class() -> None:
    layout = Layout("{id}.png", "{class}/{id}.png")
    assert layout.label("hard exudates/1.png") == "hard exudates"
    assert layout.label("1.png") is None
    assert Layout("{id}.png", "{id}_{class}.png").label("a_b_c.png") == "c"
    assert Layout("v.tif#{page}", "{class}.tif#{page}").label("cell#2.tif#3") == "cell#2"
    assert Layout("{id}.png", "{class}/{id}.png").label("cell#2/x#3.png") == "cell#2"
    assert Layout("{id}.png", "m/{id}.png").label("m/1.png") is None
    assert Layout("{id}.png").label("1.png") is None


@pytest.mark.parametrize("name", ["a", "a#3.png", "b#2/a", "it's", 'a "b"', "ä", "a\nb", "[a]", "a#", "%20", "-a"])
def test_names_may_hold_anything(name: str) -> None:
    result = rows([f"i/{name}.png", f"m/{name}.png"], "i/**/{id}.png", "m/**/{id}.png")
    assert [(row[1], row[2]) for row in result] == [(f"i/{name}.png", [f"m/{name}.png"])]
    assert split_page(result[0][1]) == (f"i/{name}.png", None)
    pages = index_samples([f"i/{name}.tif"], Layout("i/**/{id}.tif#{page}"), "x", pages=lambda _: 1)
    assert split_page(pages["image"][0]) == (f"i/{name}.tif", 0)


def test_names_that_cannot_be_told_from_pages_are_refused() -> None:
    with pytest.raises(DataError, match=r"i/a#3 .* ends like the number of a page. Rename it"):
        rows(["i/a#3"], "i/{id}")
    assert rows(["i/a#3", "i/b.png"], "i/{id}.png")[0][0] == "b"


def test_names_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(DataError, match=r"i/\\udcff.png .* is not UTF-8: rename it"):
        rows([os.fsdecode(b"i/\xff.png")], "i/{id}.png")


def test_two_ways_to_write_an_accent_are_one_name() -> None:
    image, mask = unicodedata.normalize("NFC", "i/é.png"), unicodedata.normalize("NFD", "m/é.png")
    assert image[2:] != mask[2:]
    assert [row[1:3] for row in rows([image, mask], "i/{id}.png", "m/{id}.png")] == [(image, [mask])]


def test_pages_are_samples() -> None:
    pages = {"a.tif": 11, "a_m.tif": 10, "b.tif": 1, "b_m.tif": 2}
    result = index_samples(pages, Layout("{id}.tif#{page}", "{id}_m.tif#{page}"), "x", pages.__getitem__)
    paired = [(f"a-{page:03d}", f"a.tif#{page}", [f"a_m.tif#{page}"]) for page in range(10)]
    expected = [*paired, ("a-010", "a.tif#10", []), ("b-000", "b.tif#0", ["b_m.tif#0"]), ("b-001", "", ["b_m.tif#1"])]
    assert list(result[["sample_id", "image", "masks"]].itertuples(index=False, name=None)) == expected
    alone = index_samples(["v.tif"], Layout("v.tif#{page}"), "x", lambda _: 1001)
    assert [alone["sample_id"][number] for number in (0, 7, 999, 1000)] == ["000", "007", "999", "1000"]
    with pytest.raises(DataError, match=r"same id '000': a/v.tif#0 and b/v.tif#0"):
        index_samples(["a/v.tif", "b/v.tif"], Layout("*/v.tif#{page}"), "x", lambda _: 2)


def test_pages_pair_with_files_of_their_number() -> None:
    result = index_samples(["v.tif", "m/001.png"], Layout("v.tif#{page}", "m/{id}.png"), "x", lambda _: 2)
    assert list(result["masks"]) == [[], ["m/001.png"]]


def test_regions_of_interest_are_paired() -> None:
    files = ["i/1.png", "i/2.png", "i/3.png", "fov/1.png", "fov/2.png"]
    assert [row[3] for row in rows(files, "i/{id}.png", roi="fov/{id}.png")] == ["fov/1.png", "fov/2.png", ""]
    with pytest.raises(DataError, match=r"No region of interest in the folder matches source.roi 'fov/{id}.gif'"):
        rows(files, "i/{id}.png", roi="fov/{id}.gif")
    with pytest.raises(DataError, match=r"No image in the folder has a region of interest: .*fov_1"):
        rows(["i/1.png", "fov_1.png"], "i/{id}.png", roi="{id}.png")
    with pytest.raises(DataError, match=r"Two regions of interest have the same id '1': a/1.png and b/1.png"):
        rows(["i/1.png", "a/1.png", "b/1.png"], "i/{id}.png", roi="?/{id}.png")


def test_an_annotation_file_belongs_to_every_image() -> None:
    result = rows(["1.jpg", "2.jpg", "b.json", "a.json"], "{id}.jpg", "*.json")
    assert [row[2] for row in result] == [["a.json", "b.json"]] * 2
    with pytest.raises(DataError, match=r"No mask in the folder matches source.masks 'x.json'"):
        rows(["1.jpg", "a.json"], "{id}.jpg", "x.json")


def test_what_is_used_counts_for_the_hash_of_the_content() -> None:
    source = SourceParameters.model_validate(
        {
            "folder": "x",
            **PET,
            "roi": "fov/{id}.png",
            "split_lists": {"train": "annotations/trainval.txt", "test": ["a"]},
            "split_table": {"file": "*/groups.csv", "group": "who"},
        }
    )
    used = ["images/a.jpg", "annotations/trimaps/a.png", "fov/a.png", "annotations/trainval.txt", "x/groups.csv"]
    others = ["images/a.mat", "annotations/test.txt", "a", "x/y/groups.csv", "annotations/._trainval.txt"]
    layout = Layout.of(source)
    assert [path for path in used + others if layout.uses(path)] == used
    assert Layout("{id}.jpg", "a/*.json").uses("a/b.json")


@given(st.permutations(["x/a.png", "x/a_m.png", "x/a_r.png", "x/b.png", "x/b_m.png", "x/b_r.png"]))
def test_the_order_of_the_files_changes_nothing(files: list[str]) -> None:
    result = rows(files, "x/{id}.png", "x/{id}_m.png", roi="x/{id}_r.png")
    assert result == [(n, f"x/{n}.png", [f"x/{n}_m.png"], f"x/{n}_r.png", n, None) for n in "ab"]


def test_the_walk_leaves_out_what_is_no_data(tmp_path: Path) -> None:
    for name in ("a/b.png", "a/._b.png", "__MACOSX/a/b.png", ".hidden/c.png", "a/.DS_Store", "a/Thumbs.db", "z.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"12")
    assert list(FileStore(tmp_path).walk()) == ["a/b.png", "z.png"]
    assert count_files_and_bytes(FileStore(tmp_path)) == {"files": 2, "bytes": 4}


def test_the_walk_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    os.symlink(tmp_path / "real", tmp_path / "link")
    os.symlink(tmp_path, tmp_path / "real" / "up")
    assert list(FileStore(tmp_path).walk()) == ["link/a.png", "real/a.png"]


def test_a_hundred_thousand_files_are_matched_quickly() -> None:
    layout = Layout("*/images/{split}/{id}.png", "*/masks/{split}/{id}.png", {"train": "tr", "test": "te"})
    files = [f"x/{kind}/{'tr' if n % 5 else 'te'}/{n:06}.png" for kind in ("images", "masks") for n in range(50_000)]
    start = time.process_time()
    table = index_samples(files, layout, where="x")
    assert len(table) == 50_000
    assert time.process_time() - start < 5
