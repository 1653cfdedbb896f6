"""Which backend predicts: that of the rule, if it gives the network's masks; checked once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.inference.test_backends import make, pixels
from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.inference import backend_selection
from unet_segmentation.inference.backend_selection import BackendCheck, choose_backend, default_backend
from unet_segmentation.inference.backends.base import BACKENDS
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.models.model_file import save_model
from unet_segmentation.models.spec import ModelInfo


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file, and batches for it."""
    network, spec = make()
    file = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_model(file, network, ModelInfo(spec, epoch=1))
    return file, [pixels(spec, size) for size in ((2, 2, 3), (1, 4, 2))], network


class Pretended:
    """A backend that may be wrong in some pixels, and counts how often it is asked."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.name, self.wrong, self.count = "pretended", wrong, 0

    def __call__(self, images):
        self.count += 1
        result = np.zeros((len(images), 3, *images.shape[1:3]), np.float32)
        result[:, 0] = 1
        columns = round(self.wrong * images.shape[2])
        result[:, :, :, :columns] = np.array([0, 1, 0], np.float32)[None, :, None, None]
        return result


class Broken(Pretended):
    """A form of the network that can be made and does not run."""

    def __call__(self, images):
        raise RuntimeError("the size of this tensor must match\nmore of it")


@pytest.fixture
def pretended(monkeypatch):
    """Backends by name, in place of the real ones; the rule takes bfloat16."""
    backends = {"pytorch": Pretended()}
    monkeypatch.setattr(
        backend_selection, "BACKENDS", {name: lambda _, name=name: backends[name] for name in BACKENDS.names()}
    )
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    return backends


@pytest.mark.parametrize(
    ("device", "capability", "bfloat16", "images", "expected"),
    [
        ("cpu", None, True, 1, "bfloat16"),
        ("cpu", None, False, 1, "pytorch"),
        ("cpu", None, False, 1000, "onnx"),
        ("cuda", (9, 0), False, 1, "bfloat16"),
        ("cuda", (7, 5), False, 1000, "float16"),
        ("mps", None, False, 1000, "pytorch"),
    ],
)
def test_the_rule(monkeypatch, device, capability, bfloat16, images, expected):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert default_backend(torch.device(device), images) == expected
    assert expected in BACKENDS


def test_the_rules_backend_predicts_where_it_agrees(model, pretended, tmp_path):
    file, examples, _ = model
    pretended["bfloat16"] = Pretended()
    backend, check = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["bfloat16"]
    assert check == BackendCheck("bfloat16", 1.0, 0.0)


def test_float32_predicts_where_the_rules_backend_differs(model, pretended, tmp_path, caplog):
    file, examples, _ = model
    pretended["bfloat16"] = Pretended(wrong=0.5)
    backend, check = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["pytorch"]
    assert check == BackendCheck("pytorch")
    assert "bfloat16 gives 50.00 % of the pixels another class" in caplog.text
    (record,) = tmp_path.glob("*.json")
    assert json.loads(record.read_text()) == {"backend": "bfloat16", "agreement": 0.5, "largest_difference": 1.0}


def test_what_was_checked_is_not_checked_again(model, pretended, tmp_path):
    file, examples, _ = model
    pretended["bfloat16"] = Pretended()
    choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    calls = pretended["bfloat16"].count
    backend, check = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["bfloat16"]
    assert check.passed
    assert pretended["bfloat16"].count == calls == len(examples)
    other = file.with_name("other.safetensors")
    network, spec = make(base_channels=6)
    save_model(other, network, ModelInfo(spec))
    choose_backend([other], examples, folder=tmp_path, accelerator="cpu")
    assert pretended["bfloat16"].count == 2 * calls


def test_what_does_not_run_is_told_and_float32_predicts(model, pretended, tmp_path, caplog):
    file, examples, _ = model
    pretended["bfloat16"] = Broken()
    caplog.set_level("INFO")
    backend, _ = choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    assert backend is pretended["pytorch"]
    assert "the size of this tensor must match" in caplog.text
    assert "more of it" not in caplog.text


def test_a_record_of_another_version_is_made_again(model, pretended, tmp_path):
    file, examples, _ = model
    pretended["bfloat16"] = Pretended()
    choose_backend([file], examples, folder=tmp_path, accelerator="cpu")
    (record,) = tmp_path.glob("*.json")
    record.write_text(json.dumps([{"unknown": 1}]))
    assert choose_backend([file], examples, folder=tmp_path, accelerator="cpu")[0] is pretended["bfloat16"]
    assert json.loads(record.read_text())["agreement"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pytorch", "bfloat16", "torch-export", "onnx"])
def test_real_backends_agree(model, tmp_path, name):
    file, examples, network = model
    backend, check = choose_backend([file], examples, name=name, folder=tmp_path, accelerator="cpu")
    assert check.backend == name
    assert check.passed or name == "bfloat16"
    assert check.largest_difference < (0.1 if name == "bfloat16" else 1e-4)
    result, target = backend(examples[0]), EagerBackend(network, "cpu")(examples[0])
    assert (result.argmax(1) == target.argmax(1)).mean() >= (0.99 if name == "bfloat16" else 0.999)


@pytest.mark.slow
def test_what_is_asked_for_is_made_and_its_loss_is_told(model, tmp_path, caplog):
    file, examples, _ = model
    backend, check = choose_backend([file], examples, name="int8", folder=tmp_path, accelerator="cpu")
    assert backend.name == "ONNX Runtime, int8, on cpu"
    assert check.backend == "int8"
    assert 0.5 < check.agreement < 1
    assert ("another class than float32" in caplog.text) == (check.agreement < 0.999)


def test_eager_is_the_network_itself(model, tmp_path):
    file, examples, network = model
    backend, check = choose_backend([file], examples, name="pytorch", folder=tmp_path, accelerator="cpu")
    np.testing.assert_array_equal(backend(examples[0]), EagerBackend(network, "cpu")(examples[0]))
    assert check == BackendCheck("pytorch", 1.0, 0.0)


@pytest.mark.slow
def test_several_models_are_averaged(model, tmp_path):
    file, examples, network = model
    other, spec = make(base_channels=6)
    save_model(tmp_path / "other.safetensors", other, ModelInfo(spec, epoch=1))
    files = [file, tmp_path / "other.safetensors"]
    backend, _ = choose_backend(files, examples, name="onnx", folder=tmp_path / "cache", accelerator="cpu")
    target = (EagerBackend(network, "cpu")(examples[0]) + EagerBackend(other, "cpu")(examples[0])) / 2
    np.testing.assert_allclose(backend(examples[0]), target, atol=1e-4)
    assert len(list((tmp_path / "cache").glob("*.onnx"))) == 2


def test_unknown_names_are_refused(model, tmp_path):
    with pytest.raises(ConfigurationError, match=r"inference\.backend: there is no 'onxx'; did you mean 'onnx'"):
        choose_backend([model[0]], model[1], name="onxx", folder=tmp_path)


@pytest.mark.parametrize("name", ["onnx", "int8", "torch-export"])
def test_what_computes_on_cpus_only_says_so(model, tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ResourceError, match=f"backend: {name} computes on the CPU only"):
        choose_backend([model[0]], model[1], name=name, folder=tmp_path, accelerator="cuda")
