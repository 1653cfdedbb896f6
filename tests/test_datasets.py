import base64
import io
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import DatasetError
from PIL import Image

from unet_segmentation import datasets
from unet_segmentation.parameters import OptimizerParameters


def picture_of(preview: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(preview)))


def test_json_is_readable_and_refuses_what_is_not_json(tmp_path):
    dataset = datasets.JSONDataset(filepath=str(tmp_path / "x.json"))
    dataset.save({"a": 1, "b": None})
    assert dataset.load() == {"a": 1, "b": None}
    with pytest.raises(DatasetError):
        dataset.save({"a": float("nan")})
    assert dataset.load() == {"a": 1, "b": None}  # the failed save changed nothing
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_an_optional_file_that_is_not_there_loads_as_none(tmp_path):
    dataset = datasets.OptionalJSONDataset(filepath=str(tmp_path / "x.json"))
    assert not dataset.exists()
    assert dataset.load() is None
    assert dataset.preview() == "null"
    dataset.save({"a": 1})
    assert dataset.exists()
    assert dataset.load() == {"a": 1}
    assert json.loads(dataset.preview()) == {"a": 1}


def test_a_typed_object_comes_back_as_what_it_was(tmp_path):
    dataset = datasets.ModelDataset(
        filepath=str(tmp_path / "x.json"), model="unet_segmentation.parameters.OptimizerParameters", optional=True
    )
    assert dataset.load() is None
    assert dataset.preview() == "null"
    optimizer = OptimizerParameters(learning_rate=0.1, betas=(0.8, 0.9))
    dataset.save(optimizer)
    assert dataset.load() == optimizer
    assert json.loads(dataset.preview())["betas"] == [0.8, 0.9]
    (tmp_path / "x.json").write_text('{"learning_rate": -1}')
    with pytest.raises(DatasetError, match="learning_rate"):
        dataset.load()


@pytest.mark.parametrize(("kind", "suffix"), [("ParquetDataset", "parquet"), ("CSVDataset", "csv")])
def test_tables_come_back_and_preview_as_plain_values(tmp_path, kind, suffix):
    dataset = getattr(datasets, kind)(filepath=str(tmp_path / f"t.{suffix}"))
    table = pd.DataFrame({"id": ["a", "b"], "n": [1, 2], "x": [0.5, float("nan")]})
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table, check_dtype=False)
    preview = dataset.preview(nrows=1)
    assert preview["columns"] == ["id", "n", "x"]
    assert preview["data"] == [["a", 1, 0.5]]
    json.dumps(dataset.preview(nrows=2), allow_nan=False)


def test_a_list_in_a_table_previews_as_text(tmp_path):
    dataset = datasets.ParquetDataset(filepath=str(tmp_path / "t.parquet"))
    dataset.save(pd.DataFrame({"masks": [["a.png", "b.png"]]}))
    assert dataset.preview()["data"] == [["a.png, b.png"]]


def test_a_figure_comes_back(tmp_path):
    dataset = datasets.PlotlyDataset(filepath=str(tmp_path / "f.json"))
    dataset.save(go.Figure(go.Scatter(y=[1, 2])))
    assert list(dataset.load().data[0].y) == [1, 2]
    assert dataset.preview()["data"][0]["type"] == "scatter"


def test_a_file_is_published_and_found_by_its_path(tmp_path):
    made = tmp_path / "work" / "best.bin"
    made.parent.mkdir()
    made.write_bytes(b"weights")
    dataset = datasets.FileDataset(filepath=str(tmp_path / "best.bin"))
    assert not dataset.exists()
    dataset.save(made)
    assert dataset.load().read_bytes() == b"weights"
    made.unlink()
    assert dataset.load().read_bytes() == b"weights"


def test_a_large_picture_is_previewed_small(tmp_path):
    dataset = datasets.ImageDataset(filepath=str(tmp_path / "p.png"))
    dataset.save(Image.new("RGB", (4000, 1000), "red"))
    assert Image.open(dataset.load()).size == (4000, 1000)
    assert picture_of(dataset.preview()).size == (1600, 400)


def test_weights_come_back_without_running_code(tmp_path):
    import torch
    from safetensors.torch import load_file

    dataset = datasets.WeightsDataset(filepath=str(tmp_path / "w.safetensors"))
    dataset.save({"a": torch.arange(6).reshape(2, 3).T})
    assert torch.equal(load_file(dataset.load())["a"], torch.arange(6).reshape(2, 3).T)


def test_a_folder_of_masks_is_replaced_as_a_whole(tmp_path):
    dataset = datasets.MaskFolderDataset(path=str(tmp_path / "masks"))

    def writer_of(name: str):
        return lambda folder: Image.fromarray(np.eye(8, dtype=np.uint8)).save(folder / name)

    dataset.save(writer_of("old.png"))
    dataset.save(writer_of("new.png"))
    assert [path.name for path in dataset.load().iterdir()] == ["new.png"]

    def broken(folder):
        (folder / "half.png").touch()
        raise RuntimeError("stopped")

    with pytest.raises(DatasetError, match="stopped"):
        dataset.save(broken)
    assert [path.name for path in dataset.load().iterdir()] == ["new.png"]
    assert picture_of(dataset.preview()).size[0] > 0


def test_packed_samples_are_found_after_the_project_has_moved(tmp_path):
    from unet_segmentation.data.store.packed_arrays import pack

    here, there = tmp_path / "here", tmp_path / "there"
    image, mask = np.full((4, 6, 3), 7, np.uint8), np.ones((4, 6), np.uint8)
    packed = pack(here / "packed" / "key", {"a": (image, mask)})
    datasets.PackedSamplesDataset(filepath=str(here / "packed.json")).save(packed)
    here.rename(there)
    moved = datasets.PackedSamplesDataset(filepath=str(there / "packed.json"))
    assert np.array_equal(moved.load().image("a"), image)
    assert np.array_equal(moved.load().mask("a"), mask)
    assert picture_of(moved.preview()).size[0] > 0


def test_the_same_file_published_twice_leaves_nothing_beside_it(tmp_path):
    made = tmp_path / "work" / "best.bin"
    made.parent.mkdir()
    made.write_bytes(b"weights")
    dataset = datasets.FileDataset(filepath=str(tmp_path / "best.bin"))
    for _ in range(2):
        dataset.save(made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.bin", "work"]
    assert dataset.load().read_bytes() == b"weights"
