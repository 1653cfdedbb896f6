"""Which backend is chosen: the fastest of those that agree; a choice is kept."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from tests.inference.test_backends import make, pixels
from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.inference import backend_selection
from unet_segmentation.inference.backend_selection import choose_backend
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.models.factory import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file, and batches for it."""
    network, specification = make()
    file = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_model(file, network, specification, epoch=1)
    return file, [pixels(specification, size) for size in ((2, 2, 3), (1, 4, 2))], network


class Pretended:
    """A backend that takes some time, and may be wrong in some pixels."""

    def __init__(self, seconds: float, wrong: float = 0.0) -> None:
        self.name, self.seconds, self.wrong = "pretended", seconds, wrong

    def __call__(self, images):
        time.sleep(self.seconds)
        found = np.zeros((len(images), 3, *images.shape[1:3]), np.float32)
        found[:, 0] = 1
        columns = round(self.wrong * images.shape[2])
        found[:, :, :, :columns] = np.array([0, 1, 0], np.float32)[None, :, None, None]
        return found


@pytest.fixture
def pretended(monkeypatch):
    """Backends by name, in place of the real ones."""
    known = {}
    monkeypatch.setattr(backend_selection, "_make", lambda name, ours: known[name])
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    return known


def test_the_fastest_that_agrees_is_chosen(model, pretended, tmp_path):
    file, examples, _ = model
    pretended |= {
        "pytorch": Pretended(0.03), "bfloat16": Pretended(0.0, wrong=0.5), "torch-export": Pretended(0.02),
        "onnx": Pretended(0.005),
    }  # fmt: skip
    backend, table = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["onnx"]
    table = table.set_index("backend")
    assert table["chosen"].to_dict() == {"pytorch": False, "bfloat16": False, "torch-export": False, "onnx": True}
    assert not table.loc["bfloat16", "verified"]
    assert table.loc["onnx", "verified"]
    assert table.loc["bfloat16", "agreement"] == pytest.approx(0.5)
    assert table.loc["bfloat16", "largest_difference"] == 1
    assert table["images_per_second"].idxmax() == "bfloat16"
    assert table.loc["pytorch", "images_per_second"] == pytest.approx(2 / 0.03, rel=0.3)


def test_a_choice_is_kept_and_verified_anew(model, pretended, tmp_path):
    file, examples, _ = model
    pretended |= {name: Pretended(0.01) for name in ("pytorch", "bfloat16", "torch-export")} | {"onnx": Pretended(0.0)}
    choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    pretended["bfloat16"] = Pretended(-1)  # would fail, were it tried
    backend, table = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["onnx"]
    assert len(table) == 4
    pretended |= {"onnx": Pretended(0.0, wrong=0.5), "bfloat16": Pretended(0.0)}
    backend, _ = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["bfloat16"]


class Broken(Pretended):
    """A form of the network that can be made and does not run."""

    def __call__(self, images):
        raise RuntimeError("the size of this tensor must match\nmore of it")


def test_what_does_not_run_is_told_and_not_chosen(model, pretended, tmp_path):
    file, examples, _ = model
    pretended |= {
        "pytorch": Pretended(0.01),
        "bfloat16": Pretended(0.0),
        "torch-export": Broken(0.0),
        "onnx": Broken(0.0),
    }
    backend, table = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["bfloat16"]
    table = table.set_index("backend")
    assert table.loc["onnx", "remark"] == "the size of this tensor must match"
    assert not table.loc["onnx", "verified"]


def test_a_choice_of_another_version_is_made_again(model, pretended, tmp_path):
    file, examples, _ = model
    pretended |= {name: Pretended(0.01) for name in ("pytorch", "bfloat16", "torch-export")} | {"onnx": Pretended(0.0)}
    choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    (kept,) = tmp_path.glob("*.json")
    kept.write_text(json.dumps([{"unknown": 1}]))
    assert choose_backend([file], examples, folder=tmp_path, accelerator="cpu")[0] is pretended["onnx"]


def test_little_work_tries_only_what_is_made_at_once(model, tmp_path):
    file, examples, _ = model
    _, table = choose_backend([file], examples, folder=tmp_path, accelerator="cpu", expected_images=3)
    assert not {"torch-export", "onnx"} & set(table["backend"])
    assert not list(tmp_path.iterdir())


def test_real_backends_agree(model, tmp_path):
    file, examples, network = model
    backend, table = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    table = table.set_index("backend")
    assert {"pytorch", "torch-export", "onnx"} <= set(table.index)
    assert table.loc[["torch-export", "onnx"], "verified"].all()
    assert table["chosen"].sum() == 1
    assert table.loc[["torch-export", "onnx"], "largest_difference"].max() < 1e-4
    found, wanted = backend(examples[0]), EagerBackend(network, "cpu")(examples[0])
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.999


def test_what_is_wanted_is_made_and_its_loss_is_told(model, tmp_path, caplog):
    file, examples, _ = model
    backend, table = choose_backend([file], examples, wanted="int8", folder=tmp_path, accelerator="cpu")
    assert backend.name == "ONNX Runtime, int8, on cpu"
    assert table["backend"].tolist() == ["pytorch", "int8"]
    assert table["chosen"].tolist() == [False, True]
    agreement = table["agreement"].iloc[1]
    assert 0.5 < agreement < 1
    assert ("another class than float32" in caplog.text) == (agreement < 0.999)


def test_eager_is_the_network_itself(model, tmp_path):
    file, examples, network = model
    backend, table = choose_backend([file], examples, wanted="pytorch", folder=tmp_path, accelerator="cpu")
    np.testing.assert_array_equal(backend(examples[0]), EagerBackend(network, "cpu")(examples[0]))
    assert table["chosen"].tolist() == [True]


@pytest.mark.slow
def test_several_models_are_averaged(model, tmp_path):
    file, examples, network = model
    other, specification = make(base_channels=6)
    save_model(tmp_path / "other.safetensors", other, specification, epoch=1)
    files = [file, tmp_path / "other.safetensors"]
    backend, _ = choose_backend(files, examples, wanted="onnx", folder=tmp_path / "cache", accelerator="cpu")
    wanted = (EagerBackend(network, "cpu")(examples[0]) + EagerBackend(other, "cpu")(examples[0])) / 2
    np.testing.assert_allclose(backend(examples[0]), wanted, atol=1e-4)
    assert len(list((tmp_path / "cache").glob("*.onnx"))) == 2


def test_unknown_names_are_refused(model, tmp_path):
    with pytest.raises(ConfigurationError, match=r"backend: tensorrt is not known\. Take one of auto, pytorch"):
        choose_backend([model[0]], model[1], wanted="tensorrt", folder=tmp_path)  # type: ignore[arg-type]


def test_what_computes_on_cpus_only_says_so(model, tmp_path, monkeypatch):
    monkeypatch.setattr(backend_selection, "_device", lambda ours: "cuda")
    with pytest.raises(ResourceError, match="backend: onnx computes on the CPU only"):
        choose_backend([model[0]], model[1], wanted="onnx", folder=tmp_path, accelerator="cpu")
