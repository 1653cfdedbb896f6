"""Backends compute what the network computes: folded, in fewer bits, as a program, in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.errors import DataError, ProjectError
from unet_segmentation.inference.backends.onnx_export import save_onnx
from unet_segmentation.inference.backends.onnxruntime import OnnxRuntimeBackend
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.backends.torch_export import ExportedBackend, export_program
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.fuse_batchnorm import fuse_conv_bn
from unet_segmentation.parameters import ModelParameters

CLASSES = ["background", "cytoplasm", "nucleus"]
PROFILE = statistics_of({"mean": [120.0, 110.0, 130.0], "std": [40.0, 50.0, 45.0]})
SIZES = [(1, 1, 1), (2, 3, 7), (1, 9, 1), (3, 4, 4)]  # batch, height and width in multiples


def lively(network: nn.Module) -> nn.Module:
    """Return batch normalization statistics as training leaves them; fresh ones do nothing."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=random)
                module.running_var.uniform_(0.5, 1.5, generator=random)
                module.weight.uniform_(0.5, 1.5, generator=random)
                module.bias.normal_(0, 0.2, generator=random)
    return network.eval()


def make(**network) -> tuple[nn.Module, dict]:
    torch.manual_seed(0)
    target = {"architecture": "unet_original", "encoder_depth": 3, "base_channels": 4, **network}
    specification = resolve_model_spec(ModelParameters(**target), CLASSES, PROFILE)
    return lively(build_model(specification)), specification


def pixels(specification: dict, size: tuple[int, int, int], dtype: str = "uint8") -> np.ndarray:
    batch, rows, columns = size
    shape = (batch, rows * specification.multiple, columns * specification.multiple, 3)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def truth(network: nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and logits by torch alone, with the softmax written out."""
    with torch.no_grad():
        logits = network(torch.from_numpy(images.astype(np.int32)).permute(0, 3, 1, 2)).double().numpy()
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True), logits


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, dict]:
    return make()


@pytest.fixture(scope="module")
def files(small, tmp_path_factory) -> dict[str, OnnxRuntimeBackend]:
    """The small network in ONNX, for each depth."""
    folder = tmp_path_factory.mktemp("onnx")
    network, specification = small
    for dtype in ("uint8", "uint16"):
        save_onnx(export_program(network, specification, dtype), specification, folder / f"{dtype}.onnx")
    return {dtype: OnnxRuntimeBackend(folder / f"{dtype}.onnx", threads=1) for dtype in ("uint8", "uint16")}


# -- folding


def normalizations(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "idle"), [("resnet18", 0), ("efficientnet-b0", 1)])  # one is for classifying only
def test_every_normalization_is_folded_and_the_function_is_the_same(encoder, idle):
    network, specification = make(architecture="unet", encoder=encoder, encoder_depth=5)
    images = torch.from_numpy(pixels(specification, (1, 2, 3))).permute(0, 3, 1, 2)
    before = normalizations(network)
    actual = fuse_conv_bn(network, images)
    assert normalizations(actual) == idle
    assert normalizations(network) == before
    with torch.no_grad():
        torch.testing.assert_close(actual(images), network(images), rtol=1e-3, atol=1e-4)


class Pair(nn.Module):
    """A convolution before a normalization, in ways that cannot be folded."""

    def __init__(self, convolution: nn.Module, normalization: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.convolution, self.normalization, self.times = convolution, normalization, times

    def forward(self, images):
        for _ in range(self.times):
            images = self.normalization(self.convolution(images))
        return images


class Standardized(nn.Conv2d):
    """Weight standardization, as in big transfer: the weights that are used are not those that are stored."""

    def forward(self, images):
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return nn.functional.conv2d(images, weight, self.bias)


class Active(nn.BatchNorm2d):
    """Normalization and activation in one, as in timm."""

    def forward(self, images):
        return super().forward(images).relu()


@pytest.mark.parametrize(
    "network",
    [
        Pair(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), times=2),
        Pair(Standardized(3, 3, 1), nn.BatchNorm2d(3)),
        Pair(nn.Conv2d(3, 3, 1), Active(3)),
        Pair(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
    ],
    ids=["used twice", "standardized", "activation inside", "statistics of the batch"],
)
def test_what_cannot_be_folded_stays_as_it_is(network):
    network = lively(network) if network.normalization.running_mean is not None else network.eval()
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(fuse_conv_bn(network, images)(images), network(images))
    assert normalizations(fuse_conv_bn(network, images)) == 1


# -- what computes


@pytest.mark.parametrize("size", SIZES)
def test_the_program_gives_what_the_network_gives(small, size):
    network, specification = small
    images = pixels(specification, size)
    result = ExportedBackend(export_program(network, specification)).both(images)
    for actual, expected in zip(result, truth(network, images), strict=True):
        np.testing.assert_allclose(actual, expected, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("size", SIZES)
def test_onnx_gives_what_the_network_gives(small, files, size, dtype):
    network, specification = small
    images = pixels(specification, size, dtype)
    probabilities, logits = files[dtype].both(images)
    target = truth(network, images)
    largest = np.abs(target[1]).max()  # of 16 bits, far beyond what the network was made for
    np.testing.assert_allclose(logits, target[1], rtol=0, atol=1e-5 * largest)
    np.testing.assert_allclose(probabilities, target[0], rtol=0, atol=1e-5 * largest)
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(files[dtype](images), probabilities)


def test_an_image_of_more_bits_than_the_file_takes_is_refused(small, files):
    with pytest.raises(DataError, match="made for uint8 pixels, and an image holds uint16"):
        files["uint8"](pixels(small[1], (1, 1, 1), "uint16"))


def test_fewer_bits_in_the_image_are_no_other_values(small, files):
    images = pixels(small[1], (1, 2, 2))
    np.testing.assert_array_equal(files["uint16"](images), files["uint16"](images.astype(np.uint16)))


def test_the_file_says_what_it_is(small, files):
    assert files["uint8"].spec == small[1]
    assert files["uint8"].name == "ONNX Runtime, float32, on cpu"


def test_what_is_no_onnx_file_is_told(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(ProjectError, match=r"model\.onnx is no ONNX file that ONNX Runtime can read"):
        OnnxRuntimeBackend(tmp_path / "model.onnx")
    with pytest.raises(ProjectError, match="missing"):
        OnnxRuntimeBackend(tmp_path / "missing.onnx")


def test_a_batch_that_cannot_be_computed_is_told(files):
    with pytest.raises(ProjectError, match="cannot compute a batch of"):
        files["uint8"](np.zeros((1, 8, 8, 5), np.uint8))


def test_bfloat16_is_near_and_not_the_same(small):
    network, specification = small
    images = pixels(specification, (2, 4, 4))
    few = EagerBackend(network, "cpu", "bfloat16")
    result, target = few(images), EagerBackend(network, "cpu")(images)
    assert result.dtype == np.float32
    assert few.name == "torch, bfloat16, on cpu"
    assert 1e-5 < np.abs(result - target).max() < 0.1
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(target, truth(network, images)[0], atol=1e-4)
