"""Weights of an encoder from a file: each layout that people have, against the encoder that they were taken from."""

import os
import pickle

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders._utils import patch_first_conv

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models import pretrained
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import ModelParameters

CLASSES = ["a", "b"]


def described(channels=3, **parameters):
    profile = statistics_of({"mean": [100.0] * channels, "std": [30.0] * channels, "maximum_value": 255})
    return resolve_model_spec(ModelParameters(**parameters), CLASSES, profile)


def encoder_from(path, channels=3, **parameters):
    torch.manual_seed(1)
    return build_model(described(channels, **parameters), str(path)).network.encoder


def assert_same(encoder, expected):
    state = encoder.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


@pytest.fixture
def resnet():
    """torchvision's ResNet-18, with batch statistics that are not those of a new one."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    network.train()(torch.randn(4, 3, 32, 32))
    return network


@pytest.fixture
def of_encoder(resnet):
    return {name: tensor for name, tensor in resnet.state_dict().items() if not name.startswith("fc.")}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".safetensors"])
def test_torchvisions_file_without_its_classifier(resnet, of_encoder, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(resnet.state_dict(), path)
    encoder = encoder_from(path)
    assert_same(encoder, of_encoder)
    images = torch.rand(1, 3, 64, 64)
    features = torch.nn.Sequential(*list(resnet.eval().children())[:-2])(images)
    torch.testing.assert_close(encoder.eval()(images)[-1], features)


@pytest.mark.parametrize(
    ("prefix", "wrapper"),
    [
        ("", None),
        ("", "state_dict"),
        ("encoder.", None),
        ("network.encoder.", None),
        ("network.network.encoder.", "state_dict"),
        ("model.encoder.", "state_dict"),
        ("module.", "model"),
    ],
)
def test_every_usual_layout(of_encoder, tmp_path, prefix, wrapper):
    weights = {prefix + name: tensor for name, tensor in of_encoder.items()}
    weights[prefix.replace("encoder.", "") + "decoder.weight"] = torch.zeros(3)
    if prefix in {"", "module."}:
        weights = {name: tensor for name, tensor in weights.items() if "decoder" not in name}
    content = weights if wrapper is None else {wrapper: weights, "epoch": 3}
    torch.save(content, tmp_path / "weights.pth")
    assert_same(encoder_from(tmp_path / "weights.pth"), of_encoder)


def test_models_of_smp_and_of_this_project(tmp_path):
    torch.manual_seed(0)
    reference = smp.FPN("efficientnet-b0", encoder_weights=None)
    torch.save(reference.state_dict(), tmp_path / "smp.pt")
    assert_same(encoder_from(tmp_path / "smp.pt", encoder="efficientnet-b0"), reference.encoder.state_dict())
    specification = described(encoder="tu-convnext_atto")
    actual = build_model(specification)
    save_model(tmp_path / "best.safetensors", actual, ModelInfo(specification))
    encoder = encoder_from(tmp_path / "best.safetensors", encoder="tu-convnext_atto", architecture="fpn")
    assert_same(encoder, actual.network.encoder.state_dict())


def test_timms_own_file_fits_its_encoder(tmp_path):
    import timm

    torch.manual_seed(0)
    reference = timm.create_model("resnet10t")
    torch.save(reference.state_dict(), tmp_path / "timm.pth")
    state = encoder_from(tmp_path / "timm.pth", encoder="tu-resnet10t").state_dict()
    assert all(
        torch.equal(state[f"model.{n}"], t) for n, t in reference.state_dict().items() if not n.startswith("fc.")
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_convolution_is_adapted_as_smp_does(of_encoder, tmp_path, channels):
    torch.save(of_encoder, tmp_path / "weights.pth")
    expected = smp.encoders.get_encoder("resnet18", weights=None)
    expected.load_state_dict(dict(of_encoder))
    patch_first_conv(expected, channels)
    assert_same(encoder_from(tmp_path / "weights.pth", channels), expected.state_dict())


def test_an_old_file_without_counts_of_batches_and_in_half_precision(of_encoder, tmp_path):
    halves = {n: t.half() for n, t in of_encoder.items() if not n.endswith("num_batches_tracked")}
    torch.save(halves, tmp_path / "weights.pth")
    state = encoder_from(tmp_path / "weights.pth").state_dict()
    assert state["conv1.weight"].dtype == torch.float32
    assert torch.equal(state["conv1.weight"], halves["conv1.weight"].float())


def test_the_rest_of_the_network_is_drawn_as_without_a_file(of_encoder, tmp_path):
    torch.save(of_encoder, tmp_path / "weights.pth")
    torch.manual_seed(3)
    with_file = build_model(described(), str(tmp_path / "weights.pth")).network.decoder.state_dict()
    torch.manual_seed(3)
    without = build_model(described()).network.decoder.state_dict()
    assert all(torch.equal(with_file[name], without[name]) for name in without)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_file_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1), "x": Evil()}, "weights.pth")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("weights.pth", "plain.pt"):
        with pytest.raises(ConfigurationError, match=rf"model\.encoder_weights: {name} .*could execute code"):
            encoder_from(name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda state: {n: t for n, t in state.items() if "layer4" not in n}, r"25 missing \(layer4\.0\.conv1\.weight"),
        (lambda state: state | {"extra.weight": torch.zeros(1)}, r"1 not known to it \(extra\.weight\)"),
        (
            lambda state: state | {"conv1.weight": torch.zeros(64, 3, 3, 3)},
            r"1 of another shape \(conv1\.weight \(64, 3",
        ),
        (lambda _: {"epoch": 3}, r"holds no state dict"),
        (lambda _: [1, 2], r"holds no state dict"),
    ],
)
def test_weights_that_do_not_fit_are_named_with_their_file(of_encoder, tmp_path, content, message):
    torch.save(content(of_encoder), tmp_path / "weights.pth")
    with pytest.raises(ConfigurationError, match=rf"model\.encoder_weights: .*weights\.pth.*{message}"):
        encoder_from(tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_no_file_and_a_damaged_file(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(ConfigurationError, match=r"model\.encoder_weights: there is no file .*weights"):
        encoder_from(path)
    path.write_bytes(b"nothing at all")
    with pytest.raises(ConfigurationError, match=r"model\.encoder_weights: .*weights.* is damaged"):
        encoder_from(path)
    path.write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"model\.encoder_weights: .*weights.* is damaged"):
        encoder_from(path)


def test_an_unchanged_number_of_channels_changes_nothing():
    weight = torch.randn(4, 3, 3, 3)
    assert pretrained.adapt_input_channels(weight, 3) is weight
