import math

import pytest
import torch
from torch import nn

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.models import complexity, factory
from unet_segmentation.models.complexity import measure_speed, model_complexity
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.parameters import ModelParameters

PROFILE = statistics_of({"mean": [100.0, 110.0, 120.0], "std": [30.0, 31.0, 32.0], "maximum_value": 255})
PAPER = {"architecture": "unet_original", "base_channels": 4, "encoder_depth": 2, "norm_layer": "none"}


def described(channels=3, **parameters):
    profile = (
        PROFILE
        if channels == 3
        else statistics_of({"mean": [9.0] * channels, "std": [2.0] * channels, "maximum_value": 255})
    )
    return resolve_model_spec(ModelParameters(**parameters), ["a", "b"], profile)


def papers_multiply_adds(width, depth, classes, height, pixels_across):
    """Of the U-Net with transposed convolutions, layer by layer, from the paper's figure 1."""
    pixels, before, total = height * pixels_across, 3, 0
    widths = [width * 2**stage for stage in range(depth + 1)]
    for stage, after in enumerate(widths):  # down: two 3x3 convolutions
        total += pixels // 4**stage * 9 * (before * after + after * after)
        before = after
    for stage in reversed(range(depth)):  # up: every pixel of the finer stage sees one of the coarser, then two 3x3
        after = widths[stage]
        total += pixels // 4**stage * (2 * after * after + 9 * (2 * after * after + after * after))
    return total + pixels * width * classes


@pytest.mark.parametrize(("width", "depth", "size"), [(4, 2, (32, 32)), (3, 3, (16, 64))])
def test_multiply_adds_and_parameters_are_those_of_the_papers_figure(width, depth, size):
    specification = described(**PAPER | {"base_channels": width, "encoder_depth": depth})
    result = model_complexity(specification, *size)
    assert result["multiply_adds"] == papers_multiply_adds(width, depth, 2, *size)
    assert result["parameters"] == specification.parameters


def test_activations_are_those_that_a_convolution_and_a_relu_keep(monkeypatch):
    """A convolution keeps its input, a ReLU its output, which is the next one's input: no memory counts twice."""
    layers = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 2, 1))
    monkeypatch.setattr(factory, "_build", lambda *_: layers.to(torch.get_default_device()))
    specification = described(**PAPER)
    result = model_complexity(specification, 8, 16)
    pixels, values = 8 * 16, 3 + 5
    assert result["activation_bytes"] == 4 * pixels * values
    weights = 3 * 5 + 5 + 5 * 2 + 2
    assert result["training_bytes"] == result["activation_bytes"] + 4 * 4 * weights


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [PAPER, PAPER | {"upsampling": "bilinear"}, PAPER | {"upsampling": "subpixel"}, {"encoder_depth": 3}],
)
def test_nothing_needs_to_be_computed_for_the_counts(parameters, monkeypatch):
    """Without memory (torch's meta device) and with real numbers the counts are the same."""
    specification = described(**parameters)
    counted = model_complexity(specification, 32, 64)
    real = build_model(specification), torch.zeros(complexity.BATCH, 3, 32, 64)
    monkeypatch.setattr(complexity, "_skeleton", lambda *_: real)
    assert model_complexity(specification, 32, 64) == counted


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vgg16_bn", "resnet18", "efficientnet-b0", "tu-convnext_tiny"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_any_number_of_channels_are_counted(encoder, channels, monkeypatch):
    """smp makes the first layer anew, where it likes."""
    specification = described(channels, encoder=encoder, encoder_depth=3 if encoder != "tu-convnext_tiny" else 4)
    counted = model_complexity(specification, 32, 32)
    real = build_model(specification), torch.zeros(complexity.BATCH, channels, 32, 32)
    monkeypatch.setattr(complexity, "_skeleton", lambda *_: real)
    assert model_complexity(specification, 32, 32) == counted


def test_costs_grow_with_the_pixels_and_are_the_same_twice():
    specification = described(**PAPER)
    small, large = model_complexity(specification, 32, 32), model_complexity(specification, 64, 64)
    assert large["multiply_adds"] == 4 * small["multiply_adds"]
    assert large["activation_bytes"] == pytest.approx(4 * small["activation_bytes"], rel=1e-3)
    assert small == model_complexity(specification, 32, 32)


def test_stages_that_an_encoder_does_not_use_cost_nothing():
    """smp keeps the last stages of a ResNet-18 that is cut off early."""
    specification = described(encoder_depth=3)
    assert model_complexity(specification, 32, 32)["parameters"] < 0.2 * specification.parameters


@pytest.mark.slow
def test_speed_is_that_of_whole_steps():
    result = measure_speed(build_model(described(**PAPER)), 32, 32, batch_size=2, seconds=0.02)
    assert 0 < result["training_images_per_second"] < result["prediction_images_per_second"]
    assert math.isnan(result["peak_training_bytes"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_peak_is_about_the_counted_memory():
    specification = described(encoder_depth=3)
    result = measure_speed(build_model(specification), 256, 256, batch_size=8, accelerator="cuda")
    counted = model_complexity(specification, 256, 256)
    least = 8 * counted["activation_bytes"]
    assert 0.6 * least < result["peak_training_bytes"] < 3 * (least + counted["training_bytes"])
