"""The preparation pipeline as Kedro runs it, in memory."""

import logging
import re

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from unet_segmentation.data.ingestion.records import ExtractedFiles
from unet_segmentation.errors import DataError
from unet_segmentation.parameters import (
    ImageParameters,
    InspectionParameters,
    MaskParameters,
    SourceParameters,
    SplitParameters,
)
from unet_segmentation.pipelines.data_preparation import create_pipeline


def _catalog(tmp_path, count=12, values=(0, 1), inspection=None):
    random = np.random.default_rng(0)
    root = tmp_path / "raw"
    root.mkdir()
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / f"{number}.png")
        Image.fromarray(random.choice(np.array(values, np.uint8), (16, 16))).save(root / f"{number}_mask.png")
    rows = [(f"{n}", f"{n}.png", [f"{n}_mask.png"], "", f"patient {n // 2}", None) for n in range(count)]
    for name in ("packed", "splits"):
        (tmp_path / name).mkdir()
    inputs = {
        "sample_index": pd.DataFrame(rows, columns=["sample_id", "image", "masks", "roi", "group", "split"]),
        "extracted_files": ExtractedFiles(root=str(root), files=2 * count),
        "params:problem": "fabricated",
        "params:source": SourceParameters(folder=str(root), images="{id}.png", masks="{id}_mask.png"),
        "params:classes": ["a", "b"],
        "params:images": ImageParameters(),
        "params:masks": MaskParameters(),
        "params:inspection": inspection or InspectionParameters(),
        "params:split": SplitParameters(),
        "packing_dir": tmp_path / "packed",
        "splitting_dir": tmp_path / "splits",
    }
    return DataCatalog({name: MemoryDataset(value) for name, value in inputs.items()})


class _Kept(MemoryDataset):
    def _release(self):
        """Stay: the test looks at what passes between the nodes."""


def _run(catalog):
    logging.getLogger("kedro").setLevel(logging.WARNING)
    pipeline = create_pipeline()
    for name in pipeline.all_outputs():
        catalog[name] = _Kept()
    SequentialRunner().run(pipeline, catalog)
    return {name: catalog[name].load() for name in pipeline.all_outputs()}


def test_from_index_to_profile(tmp_path):
    outputs = _run(_catalog(tmp_path))
    assert outputs["audit_result"].status != "failed"
    assert "<html" in outputs["audit"]
    samples = outputs["samples"]
    assert set(samples["sample_id"]) == set(outputs["packed_dataset"].sample_ids)
    assert (samples.groupby("group")["split"].nunique() == 1).all()
    assert sum(outputs["dataset_statistics"].samples.values()) == 12
    assert len(outputs["dataset_statistics"].mean) == 3


def test_bad_masks_stop_the_run_but_not_the_audit(tmp_path):
    catalog = _catalog(tmp_path, values=(0, 255))
    with pytest.raises(DataError, match=re.escape("masks: {encoding: index, values: {0: a, 255: b}}")):
        _run(catalog)
    assert catalog["audit_result"].load().status == "failed"
    assert "values: {0: a, 255: b}" in catalog["audit"].load()
    assert "samples" in catalog
    assert not catalog.exists("samples")


def test_a_damaged_sample_stops_the_run_or_is_set_aside(tmp_path):
    catalog = _catalog(tmp_path)
    (tmp_path / "raw/3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"images that cannot be read: 1\n  3.png"):
        _run(catalog)
    catalog["params:inspection"] = MemoryDataset(InspectionParameters(on_error="quarantine"))
    outputs = _run(catalog)
    assert outputs["audit_result"].set_aside == ("3",)
    assert set(outputs["samples"]["sample_id"]) == {str(n) for n in range(12)} - {"3"}
    assert sum(outputs["dataset_statistics"].samples.values()) == 11


def test_running_again_gives_the_same(tmp_path):
    catalog = _catalog(tmp_path)
    first, second = _run(catalog), _run(catalog)
    assert first["dataset_statistics"] == second["dataset_statistics"]
    pd.testing.assert_frame_equal(first["samples"], second["samples"])
