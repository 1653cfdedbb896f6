"""What cannot become a problem: one message each, and nothing is written."""

import os

import pytest

from tests.data.onboarding.fabrication import DataSet
from unet_segmentation.errors import ConfigurationError, DataError


@pytest.fixture
def pairs(data: DataSet) -> DataSet:
    for number in range(5):
        data.pair(f"images/{number}.png", f"masks/{number}.png")
    return data


def refused(create, tmp_path, error, words, *arguments, **more):
    with pytest.raises(error, match=words):
        create(*arguments, **more)
    left = [path for path in (tmp_path / "project").rglob("*") if "base" not in path.parts]
    assert [path.name for path in left if path.is_file()] == []


@pytest.mark.parametrize("name", ["", "a b", "../x", ".hidden", "ä", "a/b", "-x", "base", "local", "template", "test"])
def test_names(name, pairs, create, tmp_path):
    refused(create, tmp_path, ConfigurationError, "name", pairs.root, name=name)


def test_an_empty_folder(data, create, tmp_path):
    refused(create, tmp_path, DataError, "There is no file in", data.root)


def test_a_folder_that_is_not_there(data, create, tmp_path):
    refused(create, tmp_path, DataError, "There is no folder .*nowhere", data.root / "nowhere")


def test_an_archive_instead_of_a_folder(data, create, tmp_path):
    data.text("all.zip", "PK")
    refused(create, tmp_path, DataError, "unpacked first", data.root / "all.zip")


def test_no_images(data, create, tmp_path):
    data.text("notes.md", "x")
    data.text("all.zip", "PK")
    refused(create, tmp_path, DataError, r"no image in .*\.md, \.zip.*Unpack all\.zip first", data.root)


def test_images_alone(data, create, tmp_path):
    for number in range(5):
        data.image(f"{number}.jpg")
    refused(create, tmp_path, DataError, "no masks.*every image needs a mask of the same name", data.root)


def test_masks_in_the_folder_beside(pairs, create, tmp_path):
    refused(create, tmp_path, DataError, "add: --masks '.*/data set/masks'", pairs.root / "images")


def test_masks_alone(data, create, tmp_path):
    for number in range(5):
        data.mask(f"{number}.png")
    refused(create, tmp_path, DataError, "look like masks", data.root)


def test_names_that_do_not_pair(data, create, tmp_path):
    for number, name in enumerate("abcde"):
        data.image(f"images/{name}.png")
        data.mask(f"masks/{number}.png")
    refused(create, tmp_path, DataError, r"(?s)Images: images/a\.png.*Masks:  masks/0\.png", data.root)
    refused(
        create,
        tmp_path,
        DataError,
        r"(?s)Images: images/a\.png.*Masks:  masks/0\.png",
        data.root / "images",
        data.root / "masks",
    )


def test_one_folder_for_both(pairs, create, tmp_path):
    refused(create, tmp_path, DataError, "the same folder", pairs.root, pairs.root)
    (tmp_path / "link").symlink_to(pairs.root)
    refused(create, tmp_path, DataError, "the same folder", pairs.root, tmp_path / "link")


def test_folders_that_have_only_the_whole_disk_in_common(pairs, create, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(pairs.root))
    refused(create, tmp_path, DataError, "too much to search", pairs.root / "images", pairs.root / "masks")


def test_what_is_there_is_never_overwritten(pairs, create, tmp_path):
    created = create(pairs.root)
    file = created.project / "conf/mine/parameters.yml"
    file.write_text(created.text + "# my own words\n")
    with pytest.raises(ConfigurationError, match="--overwrite"):
        create(pairs.root)
    assert "my own words" in file.read_text()
    assert "my own words" not in create(pairs.root, force=True).text


def test_photographs_instead_of_masks(data, create, tmp_path):
    for number in range(5):
        data.image(f"images/{number}.png")
        data.image(f"masks/{number}.png")
    refused(create, tmp_path, DataError, "look like photographs", data.root)


def test_names_that_are_not_utf8(pairs, create, tmp_path):
    os.rename(bytes(pairs.root / "images/0.png"), bytes(pairs.root / "images") + b"/\xff.png")
    refused(create, tmp_path, DataError, r"images/\\udcff\.png .* is not UTF-8", pairs.root)


def test_unreadable_masks(data, create, tmp_path):
    for number in range(5):
        data.image(f"images/{number}.png")
        data.text(f"masks/{number}.png", "nothing")
    refused(create, tmp_path, DataError, r"No mask can be read:\s+masks/0\.png", data.root)
