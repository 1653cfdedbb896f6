"""Layouts that people have: what is written finds the pairs and splits that were fabricated."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.data.onboarding.conftest import commented_readings
from tests.data.onboarding.fabrication import LAYOUTS, DataSet, blobs, picture, save, write
from unet_segmentation.data.ingestion.records import ExtractedFiles
from unet_segmentation.parameters import validate_parameters
from unet_segmentation.pipelines.data_ingestion.nodes import index

CLASSES = {
    "nuclei": ("instances", 2),
    "cell_tracking": ("instances", 2),
    "coco": ("coco", 2),
    "yolo": ("yolo", 3),
    "labelme": ("labelme", 3),
    "voc": ("palette", 3),
    "carvana": ("palette", 2),
    "drive": ("palette", 2),
    "stanford": ("index", 3),
    "lungs": ("index", 3),
    "eyes_by_class": ("index", 3),
    "cityscapes": ("index", 3),
    "split_outside": ("index", 8),
    "camvid_full": ("index", 4),
    "ultrasound": ("index", 2),
}


def indexed(created, root: Path):
    """Return masks, split and region of interest by labeled image, as a run finds them."""
    table = index(ExtractedFiles(root=str(root), files=0), created.parameters.source)
    labeled = [row for row in table.itertuples() if row.image and len(row.masks)]
    pairs = {row.image: (sorted(row.masks), row.split) for row in labeled}
    return pairs, {row.image: row.roi for row in labeled if row.roi}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name, tmp_path, create):
    root = tmp_path / "files"
    root.mkdir()
    data = write(name, root)
    created = create(root)
    pairs, roi = indexed(created, root)
    assert pairs == {image: (sorted(masks), split) for image, (masks, split) in data.truth.items()}
    assert roi == data.roi
    if name in CLASSES:
        assert (created.parameters.masks.encoding, len(created.parameters.classes)) == CLASSES[name]
    assert (created.project / "data/08_reporting/mine/onboarding.png").stat().st_size > 1000
    assert "Unreadable" not in created.said
    for reading in commented_readings(created.text):
        validate_parameters({**yaml.safe_load(created.text), "problem": name, **reading})


def test_two_folders_that_share_a_parent_with_others(data: DataSet, create):
    for number in range(6):
        data.pair(f"photos/{number}.jpg", f"gt/{number}.png")
        data.pair(f"old photos/{number}.jpg", f"old gt/{number}.png")
    created = create(data.root / "photos", data.root / "gt")
    source = created.parameters.source
    assert (source.folder, source.images, source.masks) == (str(data.root), "photos/{id}.jpg", "gt/{id}.png")


@pytest.mark.parametrize("inner", ["images", "masks"])
def test_one_folder_in_the_other(data: DataSet, create, inner):
    image, mask = ("", "masks/") if inner == "masks" else ("images/", "")
    for number in range(6):
        data.pair(f"{image}{number}.png", f"{mask}{number}.png")
    created = create(data.root / image, data.root / mask)
    pairs, _ = indexed(created, data.root)
    assert pairs == {image: (masks, None) for image, (masks, _) in data.truth.items()}


def test_files_without_partner_and_damaged_ones_are_said(data: DataSet, create):
    for number in range(8):
        data.pair(f"images/{number}.png", f"masks/{number}.png")
    data.image("images/alone.png")
    data.mask("masks/orphan.png")
    (data.root / "images/3.png").write_bytes(b"\x89PNG no more")
    (data.root / "masks/5.png").write_bytes(b"")
    created = create(data.root)
    output = created.said
    assert re.search(r"1 images have no mask: images/alone\.png", output)
    assert re.search(r"1 masks have no image: masks/orphan\.png", output)
    assert re.search(r"2 files cannot be read.*images/3\.png.*masks/5\.png", output)


def test_masks_of_another_size_are_said(data: DataSet, create):
    for number in range(6):
        data.pair(f"images/{number}.png", f"masks/{number}.png")
        data.mask(f"masks/{number}.png", size=(20, 24))
    assert "is 24 x 20 pixels, but images/0.png is 48 x 40" in create(data.root).said


def test_folders_of_patients_stay_together(data: DataSet, create):
    for patient in range(9):
        for number in range(3):
            data.pair(f"images/p{patient}/{number}.png", f"masks/p{patient}/{number}.png")
    created = create(data.root)
    assert created.parameters.source.group == "^(.+)/"
    groups = index(ExtractedFiles(root=str(data.root), files=0), created.parameters.source)["group"]
    assert groups.nunique() == 9
    assert "CHECK: remove it" in created.text


def test_a_table_says_the_split(data: DataSet, create):
    rows = ["image,label,split"]
    for number in range(10):
        split = ("train", "val", "test")[min(2, number // 4)]
        data.pair(f"images/{number}.png", f"masks/{number}.png")
        rows.append(f"{number}.png,x,{split}")
    data.text("meta.csv", "\n".join(rows))
    created = create(data.root)
    table = index(ExtractedFiles(root=str(data.root), files=0), created.parameters.source)
    assert table["split"].value_counts().to_dict() == {"train": 4, "validation": 4, "test": 2}


def test_names_that_yaml_and_globs_could_stumble_over(tmp_path, create):
    data = DataSet(tmp_path / 'it\'s [a] # "test": {x} ${y} é')
    for number in range(5):
        data.pair(f"my images/a * {number}?.png", f"my masks/a * {number}?.png")
    created = create(data.root)
    pairs, _ = indexed(created, data.root)
    assert set(pairs) == set(data.truth)


def test_a_folder_in_the_project_is_written_relative_to_it(tmp_path, create):
    data = DataSet(tmp_path / "project/data/01_raw/cells")
    (tmp_path / "project/conf").mkdir(parents=True)
    for number in range(5):
        data.pair(f"images/{number}.png", f"masks/{number}.png")
    assert create(data.root).parameters.source.folder == "data/01_raw/cells"


@pytest.mark.slow
def test_large_folders_take_seconds(tmp_path, create):
    """100 files are written, the rest are links: 10,000 pairs."""
    data = DataSet(tmp_path / "many")
    for number in range(20):
        data.pair(f"images/{number:05d}.png", f"masks/{number:05d}.png")
    for number in range(20, 10_000):
        for folder in ("images", "masks"):
            (data.root / folder / f"{number:05d}.png").symlink_to(data.root / folder / f"{number % 20:05d}.png")
    import time

    began = time.perf_counter()
    created = create(data.root)
    assert time.perf_counter() - began < 60
    assert "10000 images have one" in created.said


def test_content_decides_where_names_mislead(data: DataSet, create):
    """The folder named masks holds the photographs."""
    for number in range(8):
        save(data.root / f"masks/{number}.png", picture(number))
        save(data.root / f"images/{number}.png", blobs(number, (0, 1, 2)).astype(np.uint8))
    source = create(data.root).parameters.source
    assert (source.images, source.masks) == ("masks/{id}.png", "images/{id}.png")
