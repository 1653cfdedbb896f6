import re

import pytest
import torch

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.errors import ConfigurationError, ProjectError
from unet_segmentation.models.architectures.unet_original import UNet
from unet_segmentation.models.factory import build_model, init_bias_from_class_priors, resolve_model_spec
from unet_segmentation.models.model_file import load_model, read_header, save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import ModelParameters

CLASSES = ["a", "b", "c"]
PROFILE = statistics_of({"mean": [100.0, 110.0, 120.0], "std": [30.0, 31.0, 32.0], "maximum_value": 255})


def described(**parameters):
    return resolve_model_spec(ModelParameters(**parameters), CLASSES, PROFILE)


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear", "nearest"])
def test_the_papers_unet_has_the_papers_number_of_parameters(upsampling):
    with torch.device("meta"):
        network = UNet(1, 2, base_channels=64, upsampling=upsampling, batch_norm=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658


@pytest.mark.parametrize("upsampling", ["transposed", "transposed_k4", "subpixel", "bilinear", "nearest"])
@pytest.mark.parametrize("size", [(32, 48), (33, 50), (37, 61)])
def test_the_papers_unet_keeps_any_size(upsampling, size):
    network = UNet(3, 2, base_channels=2, depth=3, upsampling=upsampling)
    assert network(torch.zeros(2, 3, *size)).shape == (2, 2, *size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("unet", "resnet18"),
        ("unet", "efficientnet-b0"),
        ("unet", "mit_b0"),
        ("unet", "tu-convnext_atto"),
        ("unetplusplus", "resnet18"),
        ("manet", "resnet18"),
        ("linknet", "resnet18"),
        ("fpn", "resnet18"),
        ("pspnet", "resnet18"),
        ("deeplabv3", "resnet18"),
        ("deeplabv3plus", "resnet18"),
        ("pan", "resnet18"),
        ("upernet", "resnet18"),
        ("segformer", "mit_b0"),
        ("dpt", "tu-vit_tiny_patch16_224"),
    ],
)
@torch.no_grad()
def test_every_architecture_gives_logits_of_the_images_size(architecture, encoder):
    specification = described(architecture=architecture, encoder=encoder)
    size = 128 // specification.multiple * specification.multiple
    network = build_model(specification).eval()
    logits = network(torch.randint(0, 255, (1, 3, size, size), dtype=torch.uint8))
    assert logits.shape == (1, 3, size, size)
    assert logits.dtype == torch.float32
    assert specification.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vgg16_bn", "resnet34", "resnet50", "efficientnet-b4"])
@torch.no_grad()
def test_larger_encoders_run_too(encoder):
    assert build_model(described(encoder=encoder)).eval()(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64, 96)


@torch.no_grad()
def test_raw_pixels_of_any_dtype_are_normalized_with_the_profile():
    network = build_model(described(architecture="unet_original", base_channels=1, encoder_depth=2)).eval()
    inner, network.network = network.network, torch.nn.Identity()
    images = torch.randint(0, 255, (2, 3, 8, 8))
    mean, std = (torch.tensor(getattr(PROFILE, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
    for dtype in (torch.uint8, torch.int32, torch.float32):
        torch.testing.assert_close(network(images.to(dtype)), (images - mean) / std)
    assert inner is not None


def test_a_channel_that_never_varies_gives_no_infinity():
    specification = resolve_model_spec(
        ModelParameters(architecture="unet_original", base_channels=1),
        CLASSES,
        statistics_of({"mean": [7.0], "std": [0.0]}),
    )
    assert build_model(specification).eval()(torch.full((1, 1, 16, 16), 7)).isfinite().all()


@torch.no_grad()
def test_a_saved_model_comes_back_the_same(tmp_path):
    specification = described(architecture="unet_original", base_channels=2, encoder_depth=2)
    network = build_model(specification).eval().to(memory_format=torch.channels_last)
    images = torch.randint(0, 255, (1, 3, 16, 16), dtype=torch.uint8)
    saved = ModelInfo(specification, epoch=3, scores={"dice/mean": 0.5}, fingerprint="abc")
    save_model(tmp_path / "model.safetensors", network, saved)
    loaded, info = load_model(tmp_path / "model.safetensors")
    assert torch.equal(loaded.to(memory_format=torch.channels_last)(images), network(images))
    assert info == read_header(tmp_path / "model.safetensors") == saved
    assert not loaded.training


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no model at all")
    with pytest.raises(ProjectError, match=r"model\.safetensors is not a model of this project"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"architecture": "unett"}, r"model.architecture: there is no 'unett'; did you mean 'unet'"),
        ({"encoder": "resnet19"}, r"model.encoder: there is no 'resnet19'; did you mean 'resnet18'"),
        ({"encoder": "tu-convnext_ato"}, r"did you mean 'tu-convnext_atto'"),
        ({"architecture": "fpn", "upsampling": "transposed"}, r"model.upsampling: fpn .* unet and unet_original can"),
        ({"architecture": "linknet", "upsampling": "nearest"}, r"model.upsampling: linknet .* set it to auto"),
        ({"architecture": "fpn", "decoder_channels": [8, 8]}, r"model.decoder_channels: fpn"),
        ({"decoder_channels": [8, 8]}, r"unet cannot be built with encoder resnet18.*decoder_channels \[8, 8\]"),
        (
            {"architecture": "unet_original", "encoder_weights": "imagenet"},
            r"model.encoder_weights: unet_original has no",
        ),
        ({"architecture": "dpt"}, r"dpt cannot be built with encoder resnet18"),
    ],
)
def test_what_does_not_exist_is_refused_with_a_way_out(parameters, message):
    with pytest.raises(ConfigurationError, match=message):
        described(**parameters)


def test_pretrained_weights_without_a_network_say_what_to_do(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    specification = described(encoder_weights="imagenet")
    with pytest.raises(ConfigurationError, match=r"(?s)model.encoder_weights: .*HF_ENDPOINT.*HF_HOME.*null"):
        build_model(specification, "imagenet")


@pytest.mark.parametrize(
    ("parameters", "imagenet"),
    [
        ({}, False),
        ({"encoder_weights": "imagenet"}, True),
        ({"encoder_weights": "weights.pth"}, False),
        ({"encoder_weights": "imagenet", "input_normalization": "data"}, False),
        ({"input_normalization": "imagenet"}, True),
    ],
)
@pytest.mark.parametrize("largest", [255, 65535])
def test_pixels_are_normalized_as_the_encoders_weights_want_it(parameters, imagenet, largest):
    """torchvision's presets say what ImageNet's are."""
    from torchvision.transforms._presets import ImageClassification

    specification = resolve_model_spec(
        ModelParameters(**parameters), CLASSES, PROFILE.model_copy(update={"maximum_value": largest})
    )
    preset = ImageClassification(crop_size=224)
    scaled = {name: [value * largest for value in getattr(preset, name)] for name in ("mean", "std")}
    for name in ("mean", "std"):
        assert getattr(specification, name) == pytest.approx(scaled[name] if imagenet else getattr(PROFILE, name))


def test_imagenets_statistics_need_three_channels():
    profile = statistics_of({"mean": [1.0], "std": [1.0], "maximum_value": 255})
    with pytest.raises(ConfigurationError, match=r"model\.input_normalization: imagenet has 3 channels.* have 1"):
        resolve_model_spec(ModelParameters(input_normalization="imagenet"), CLASSES, profile)
    assert resolve_model_spec(ModelParameters(encoder_weights="imagenet"), CLASSES, profile).mean == (1.0,)


def test_unknown_pretrained_weights_are_refused():
    with pytest.raises(ConfigurationError, match=re.escape("did you mean 'imagenet'?")):
        build_model(described(), "imagenett")


@pytest.mark.parametrize("architecture", ["unet", "fpn", "unet_original"])
def test_a_network_starts_from_the_class_shares(architecture):
    """With weights of zero before the head, the softmax is exactly the shares."""
    shares = [0.7, 0.2, 0.1]
    network = build_model(described(architecture=architecture, base_channels=4)).eval()
    init_bias_from_class_priors(network, shares)
    head = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        head.weight.zero_()
        probabilities = network(torch.zeros(1, len(PROFILE.mean), 64, 64)).softmax(dim=1)
    assert torch.allclose(probabilities[0, :, 10, 10], torch.tensor(shares), atol=1e-6)


def test_a_class_that_training_lacks_gets_a_finite_bias():
    network = build_model(described(base_channels=4))
    init_bias_from_class_priors(network, [0.9, 0.1, 0.0])
    head = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    assert torch.isfinite(head.bias).all()
    assert head.bias[2] < head.bias[1] < head.bias[0]
