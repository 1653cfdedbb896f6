"""The pass over a folder, with a backend whose answers are known."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.specs import make_spec
from unet_segmentation.errors import ProjectError
from unet_segmentation.inference import predict_folder as module
from unet_segmentation.inference.backends.base import Backend
from unet_segmentation.inference.input_discovery import list_inputs
from unet_segmentation.inference.predict_folder import PROGRESS, FolderJob, locked_folder, plan_folder, predict_folder
from unet_segmentation.parameters import InferenceParameters, PredictorParameters

CLASSES = ["background", "a/b", "nucleus"]
SPEC = make_spec(classes=CLASSES, multiple=8)


class Levels(Backend):
    """The class is the red value over 85: 0, 1 or 2, with a probability of 0.8; counts its images."""

    name = "levels"

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, images):
        self.count += len(images)
        classes = np.minimum(images[..., 0] // 86, 2)
        return np.where(classes[:, None] == np.arange(3)[None, :, None, None], 0.8, 0.1).astype(np.float32)


@pytest.fixture
def source(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    for number, size in enumerate([(30, 40), (30, 40), (17, 23), (30, 40), (64, 64)]):
        pixels = np.kron(generator.integers(0, 3, (size[0] // 4 + 1, size[1] // 4 + 1)), np.ones((4, 4)))
        red = (pixels[: size[0], : size[1]] * 100).astype(np.uint8)
        name = f"sub/{number}.png" if number == 2 else f"{number}.png"
        Image.fromarray(np.repeat(red[..., None], 3, axis=2)).save(folder / name)
    return folder


def predict(source, output, backend=None, key="key", inference=None, **target):
    backend = backend or Levels()
    storage, inputs = list_inputs(str(source))
    parameters = InferenceParameters(**{"overlay": True, "polygons": True, **target})
    job = FolderJob(SPEC, inference or PredictorParameters(), storage, output, parameters, key)
    with locked_folder(output):
        return predict_folder(job, plan_folder(job, inputs), backend), backend


def truth(file) -> np.ndarray:
    return np.minimum(np.array(Image.open(file))[..., 0] // 86, 2)


def test_masks_table_and_polygons_say_what_the_backend_said(source, tmp_path):
    rows, _ = predict(source, tmp_path / "out", probabilities=True)
    table = pd.DataFrame(rows).set_index("image")
    assert list(table.index) == ["0.png", "1.png", "3.png", "4.png", "sub/2.png"]
    assert set(table["status"]) == {"ok"}
    np.testing.assert_allclose(table["confidence"], 0.8, atol=1e-6)
    for image, row in table.iterrows():
        mask = np.array(Image.open(tmp_path / "out" / row["mask"]))
        expected = truth(source / image)
        np.testing.assert_array_equal(mask, expected)
        assert (row["height"], row["width"]) == expected.shape
        for number, name in enumerate(CLASSES):
            assert row[f"share/{name}"] == pytest.approx((expected == number).mean())
        stem = str(tmp_path / "out" / image.removesuffix(".png"))
        with np.load(f"{stem}_probabilities.npz") as kept:
            np.testing.assert_array_equal(kept["probabilities"].argmax(axis=0), expected)
        change = np.abs(np.array(Image.open(f"{stem}_overlay.jpg"), int) - np.array(Image.open(source / image), int))
        assert change[expected == 0].mean() < change[expected > 0].mean() / 3  # a JPEG: not to the last digit


def test_the_coco_file_loads_and_gives_the_masks_back(source, tmp_path, capsys):
    predict(source, tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "coco.json"))
    capsys.readouterr()
    assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == CLASSES[1:]
    for image in coco.loadImgs(coco.getImgIds()):
        drawn = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            drawn[coco.annToMask(annotation).astype(bool)] = annotation["category_id"]
        np.testing.assert_array_equal(drawn, truth(source / image["file_name"]))


def test_large_images_go_in_tiles_and_give_the_same(source, tmp_path):
    rows, _ = predict(source, tmp_path / "whole")
    tiled, _ = predict(source, tmp_path / "tiles", inference=PredictorParameters(max_pixels=1024, tile_size=32))
    for whole, tiles in zip(rows, tiled, strict=True):
        assert tiles.pop("confidence") == pytest.approx(whole.pop("confidence"), abs=1e-6)
        assert tiles == whole
        images = [np.array(Image.open(tmp_path / folder / whole["mask"])) for folder in ("whole", "tiles")]
        np.testing.assert_array_equal(*images)


def test_finished_images_are_not_predicted_again(source, tmp_path):
    first, backend = predict(source, tmp_path / "out")
    assert backend.count == 5
    again, backend = predict(source, tmp_path / "out")
    assert backend.count == 0
    assert again == first
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(source / "1.png")
    (tmp_path / "out" / "3.png").unlink()
    changed, backend = predict(source, tmp_path / "out")
    assert backend.count == 2
    assert [row for row in changed if row["image"] != "1.png"] == [row for row in first if row["image"] != "1.png"]
    assert predict(source, tmp_path / "out", key="another model")[1].count == 5
    assert predict(source, tmp_path / "out", key="another model", overwrite=True)[1].count == 5


def test_it_goes_on_after_a_line_that_was_cut_off(source, tmp_path):
    predict(source, tmp_path / "out")
    ledger = tmp_path / "out" / PROGRESS
    lines = [line for line in ledger.read_text().splitlines() if line]
    ledger.write_text("\n" + "\n".join(lines[:3]) + "\n" + lines[3][:20])
    assert predict(source, tmp_path / "out")[1].count == 2
    assert predict(source, tmp_path / "out")[1].count == 0
    entries = [line for line in ledger.read_text().splitlines() if line]
    assert sum(line.startswith('{"key"') and line.endswith("}") for line in entries) == 5
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == 5


def test_broken_images_are_named_and_the_others_done(source, tmp_path, caplog):
    whole = (source / "1.png").read_bytes()
    (source / "1.png").write_bytes(whole[: len(whole) // 2])
    (source / "3.png").write_bytes(b"")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(source / "five.png")  # transparency is dropped
    np.save(source / "six.npy", np.zeros((8, 8, 5), np.uint8))
    rows, _ = predict(source, tmp_path / "out")
    broken = {row["image"]: row["message"] for row in rows if row["status"] == "failed"}
    assert set(broken) == {"1.png", "3.png", "six.npy"}
    assert "0 bytes" in broken["3.png"]
    assert "5 channels" in broken["six.npy"]
    assert all(name in caplog.text for name in broken)
    assert len([row for row in rows if row["status"] == "ok"]) == 4
    (source / "1.png").write_bytes(whole)
    rows, backend = predict(source, tmp_path / "out")
    assert backend.count == 1  # what was broken is tried again
    assert {row["image"] for row in rows if row["status"] == "failed"} == {"3.png", "six.npy"}


def test_gray_pictures_stand_for_colored_ones(source, tmp_path):
    gray = source / "gray.png"
    Image.open(source / "0.png").convert("L").save(gray)
    rows, _ = predict(gray, tmp_path / "out")
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / rows[0]["mask"])), truth(source / "0.png"))


def test_no_image_is_decoded_twice(source, tmp_path, monkeypatch):
    read, seen = module.read_image, []
    monkeypatch.setattr(
        module, "read_image", lambda storage, path, images: seen.append(path) or read(storage, path, images)
    )
    predict(source, tmp_path / "out")
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == 5


def test_two_processes_do_not_write_into_one_folder(source, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ProjectError, match="Another process"):
        predict(source, tmp_path / "out")


def test_nothing_half_written_stays_when_writing_fails(source, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(ProjectError, match="disk is full"):
        predict(source, tmp_path / "out")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file() and not file.name.startswith(".")]
