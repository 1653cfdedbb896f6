"""Data in an S3-compatible store is indexed, inspected and packed as data on the disk is."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import S3_ENVIRONMENT, put_into_bucket
from unet_segmentation.data.label_map import LabelMap
from unet_segmentation.parameters import ImageParameters, InspectionParameters, MaskParameters, SourceParameters
from unet_segmentation.pipelines.data_ingestion import nodes as acquisition
from unet_segmentation.pipelines.data_preparation import nodes as preparation

LAYOUT = {"images": "{split}/images/{id}.png", "masks": "{split}/masks/{id}.png", "splits": {"train": "a", "test": "b"}}


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for number in range(20):
        for name, options in (("images", 256), ("masks", 2)):
            path = tmp_path / "files" / "ab"[number % 2] / name / f"s {number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (24, 32, 3) if name == "images" else (24, 32)
            Image.fromarray(random.integers(0, options, shape, dtype=np.uint8)).save(path)
    return tmp_path / "files"


def _prepared(source, work):
    for name in ("archives", "raw", "packed"):
        (work / name).mkdir(parents=True, exist_ok=True)
    downloads = acquisition.download(source, work / "archives")
    verified = acquisition.verify(downloads, source, work / "archives")
    extracted = acquisition.extract(verified, source, work / "archives", work / "raw")
    indexed = acquisition.index(extracted, source)
    label_map = LabelMap.from_names("ab")
    parameters = ImageParameters(), MaskParameters(), InspectionParameters()
    return preparation.inspect(indexed, extracted, source, label_map, *parameters, work / "packed")


def test_a_store_gives_what_a_folder_gives(folder, s3_endpoint, tmp_path, monkeypatch, caplog):
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = {"endpoint_url": s3_endpoint}
    put_into_bucket(options, folder, "problems/mine")
    remote = SourceParameters(folder="s3://problems/mine", storage_options=options, **LAYOUT)
    inspected, findings, packed = _prepared(remote, tmp_path / "remote")
    truth, true_findings, true_packed = _prepared(SourceParameters(folder=str(folder), **LAYOUT), tmp_path / "local")
    pd.testing.assert_frame_equal(inspected, truth)
    pd.testing.assert_frame_equal(findings, true_findings)
    assert packed.sample_ids == true_packed.sample_ids
    for sample_id in packed.sample_ids:
        np.testing.assert_array_equal(packed.image(sample_id), true_packed.image(sample_id))
        np.testing.assert_array_equal(packed.mask(sample_id), true_packed.mask(sample_id))
    caplog.set_level("INFO")
    again = _prepared(remote, tmp_path / "remote")[2]
    assert again.folder == packed.folder
    assert "nothing is decoded again" in caplog.text
