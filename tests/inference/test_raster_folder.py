"""Rasters among the images of a folder."""

import json

import numpy as np
import pytest
import rasterio
from PIL import Image

from tests.inference.test_predict_raster import pixels, write
from tests.inference.test_predictor import CLASSES, PixelNetwork
from tests.specs import make_spec
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.input_discovery import list_inputs
from unet_segmentation.inference.predict_folder import FolderJob, locked_folder, plan_folder, predict_folder
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.parameters import InferenceParameters, PredictorParameters

SPEC = make_spec(classes=CLASSES)


class Killed(BaseException):
    """Stands for a kill."""


class Counting(EagerBackend):
    """Counts its tiles; is killed at one."""

    def __init__(self, most: float = float("inf")) -> None:
        super().__init__(PixelNetwork(), "cpu")
        self.count, self.most = 0, most

    def __call__(self, images):
        self.count += len(images)
        if self.count > self.most:
            raise Killed
        return super().__call__(images)


def test_a_killed_run_goes_on_inside_a_raster_but_not_where_all_is_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr("unet_segmentation.inference.rasters.predict_raster.SECTION", 1)
    monkeypatch.setattr("unet_segmentation.inference.rasters.checkpoint.SHARE", float("inf"))
    (tmp_path / "source").mkdir()
    write(tmp_path / "source" / "field.tif", pixels(400, 100))
    storage, inputs = list_inputs(str(tmp_path / "source"))

    def tiles(key="key", most=float("inf"), **target) -> int:
        backend, parameters = Counting(most), InferenceParameters(**target)
        inference = PredictorParameters(tile_size=64, batch_size=1)
        job = FolderJob(SPEC, inference, storage, tmp_path / "results", parameters, key)
        with locked_folder(job.folder):
            predict_folder(job, plan_folder(job, inputs), backend)
        return backend.count

    def tiles_after_a_kill(**options) -> int:
        with pytest.raises(Killed):
            tiles(overwrite=True, most=12)
        assert not (tmp_path / "results" / "field.tif").exists()
        count = tiles(**options)
        names = {".finished.jsonl", ".lock", "coco.json", "field.geojson", "field.tif", "field_overlay.jpg"}
        assert {path.name for path in (tmp_path / "results").iterdir()} == names
        (tmp_path / "results" / "field.tif").unlink()
        return count

    everything = tiles_after_a_kill(overwrite=True)
    assert everything == 7 * 2
    assert tiles_after_a_kill() <= everything - 3 * 2  # what is read ahead or waits to be added is lost
    assert tiles_after_a_kill(key="other") == everything


def test_rasters_images_and_a_damaged_raster(tmp_path):
    image = pixels(150, 170)
    image[:100, :100] = 0
    source = tmp_path / "source"
    source.mkdir()
    write(source / "field.tif", image, nodata=0)
    Image.fromarray(pixels(40, 50)).save(source / "small.png")
    broken = write(source / "worn.tif", pixels(90, 90), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    data = bytearray(broken.read_bytes())
    data[-3000:] = b"\xff" * 3000
    broken.write_bytes(data)
    storage, inputs = list_inputs(str(source))
    inference, target = PredictorParameters(tile_size=64), InferenceParameters(probabilities=True)
    job = FolderJob(SPEC, inference, storage, tmp_path / "results", target, "key")
    plan = plan_folder(job, inputs)
    examples = list(plan.examples)
    rows = {row["image"]: row for row in predict_folder(job, plan, EagerBackend(PixelNetwork(), "cpu"))}
    assert {name: row["status"] for name, row in rows.items()} == {
        "worn.tif": "failed",
        "field.tif": "ok",
        "small.png": "ok",
    }
    assert "worn.tif, rows" in rows["worn.tif"]["message"]
    assert rows["field.tif"]["no_data"] == 100 * 100 / (150 * 170)
    assert len(examples) == 2
    assert examples[1].shape == (1, 64, 64, 3)
    assert plan.expected_images > 1
    with rasterio.open(tmp_path / "results" / rows["field.tif"]["mask"]) as file:
        mask = file.read(1)
    expected = Predictor(SPEC, EagerBackend(PixelNetwork(), "cpu"), PredictorParameters()).predict(image)
    np.testing.assert_array_equal(mask, np.where((image == 0).all(axis=2), 255, expected))
    assert (tmp_path / "results" / "field_probabilities.tif").is_file()
    assert Image.open(tmp_path / "results" / "field_overlay.jpg").size == (170, 150)
    assert not (tmp_path / "results" / "worn_overlay.jpg").exists()
    assert not (tmp_path / "results" / "worn.geojson").exists()
    shapes = json.loads((tmp_path / "results" / "field.geojson").read_text())
    assert shapes["crs"]["properties"]["name"].endswith("EPSG::32632")
    assert sum(each["properties"]["area"] for each in shapes["features"]) == ((mask > 0) & (mask < 255)).sum()
    assert rows["field.tif"]["message"] == "raster: not in coco.json"
    annotations = json.loads((tmp_path / "results" / "coco.json").read_text())
    assert [each["file_name"] for each in annotations["images"]] == ["small.png"]
    plan = plan_folder(job, inputs)
    again = {row["image"]: row for row in predict_folder(job, plan, EagerBackend(PixelNetwork(), "cpu"))}
    assert again["field.tif"]["mask"] == rows["field.tif"]["mask"]
