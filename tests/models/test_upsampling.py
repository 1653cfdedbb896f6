import pytest
import torch
from torch.nn import functional

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models.components import deep_supervision_stages
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import load_model, save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.models.upsampling import LEARNABLE_MODES, LearnedUpBlock, SubpixelConvolution, learned_upsampling
from unet_segmentation.parameters import ModelParameters

CLASSES = ["a", "b", "c"]
PROFILE = statistics_of({"mean": [100.0, 110.0, 120.0], "std": [30.0, 31.0, 32.0], "maximum_value": 255})
UNET = {
    "architecture": "unet",
    "encoder": "resnet18",
    "encoder_depth": 3,
    "decoder_channels": [7, 5, 3],
}  # odd on purpose
PAPER = {"architecture": "unet_original", "base_channels": 3, "encoder_depth": 2}
NETWORKS = pytest.mark.parametrize("parameters", [UNET, PAPER], ids=["unet", "paper"])
WAYS = pytest.mark.parametrize("way", ["bilinear", "nearest", *LEARNABLE_MODES])


def described(parameters, way):
    return resolve_model_spec(ModelParameters(**parameters, upsampling=way), CLASSES, PROFILE)


def built(specification, seed=0):
    torch.manual_seed(seed)
    return build_model(specification)


@pytest.mark.parametrize("kind", LEARNABLE_MODES)
@pytest.mark.parametrize(("before", "after"), [(1, 1), (5, 3), (8, 8)])
def test_height_and_width_are_doubled(kind, before, after):
    assert learned_upsampling(kind, before, after)(torch.zeros(2, before, 3, 5)).shape == (2, after, 6, 10)


@pytest.mark.parametrize("after", [1, 3, 4])
@torch.no_grad()
def test_a_subpixel_layer_starts_as_nearest_neighbor_upsampling_of_a_convolution(after):
    torch.manual_seed(1)
    layer = SubpixelConvolution(5, after)
    features = torch.randn(2, 5, 4, 6)
    convolution = layer[0]
    first = functional.conv2d(features, convolution.weight[::4], convolution.bias[::4])
    torch.testing.assert_close(layer(features), functional.interpolate(first, scale_factor=2, mode="nearest"))


@torch.no_grad()
def test_a_subpixel_layer_can_do_exactly_what_a_transposed_convolution_can():
    """Shi et al. 2016: the same weights in another order."""
    torch.manual_seed(2)
    subpixel, transposed = SubpixelConvolution(5, 3), learned_upsampling("transposed", 5, 3)
    subpixel[0].weight.copy_(transposed.weight.permute(1, 2, 3, 0).reshape(12, 5, 1, 1))
    subpixel[0].bias.copy_(transposed.bias.repeat_interleave(4))
    features = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(subpixel(features), transposed(features))


@torch.no_grad()
def test_overlapping_kernels_meet_every_inner_pixel_equally_often():
    """Odena et al. 2016: a kernel size that the stride divides overlaps evenly."""
    layer = learned_upsampling("transposed_k4", 1, 1)
    layer.weight.fill_(1.0)
    layer.bias.zero_()
    assert torch.equal(layer(torch.ones(1, 1, 6, 6))[..., 1:-1, 1:-1], torch.full((1, 1, 10, 10), 4.0))


@torch.no_grad()
def test_the_papers_unet_keeps_the_subpixel_start():
    network = built(described(PAPER, "subpixel")).network
    for layer in network.up:
        assert isinstance(layer, SubpixelConvolution)
        kernels = layer[0].weight.unflatten(0, (-1, 4))
        assert torch.equal(kernels, kernels[:, :1].expand_as(kernels))
        assert kernels.std() > 0


@NETWORKS
@WAYS
def test_every_parameter_of_the_way_up_learns(parameters, way):
    network = built(described(parameters, way))
    logits = network(torch.randint(0, 255, (2, 3, 32, 48), dtype=torch.uint8))
    assert logits.shape == (2, 3, 32, 48)
    logits.square().mean().backward()
    inner = network.network
    decoder = inner.decoder if parameters is UNET else inner.up
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters() if parameter.ndim > 1)


@NETWORKS
@WAYS
def test_the_same_seed_gives_the_same_network(parameters, way):
    specification = described(parameters, way)
    first, second, other = (built(specification, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@NETWORKS
@WAYS
@torch.no_grad()
def test_a_saved_model_comes_back_with_its_way_up(parameters, way, tmp_path):
    specification = described(parameters, way)
    assert specification.upsampling == way
    network = built(specification).eval()
    images = torch.randint(0, 255, (1, 3, 16, 32), dtype=torch.uint8)
    save_model(tmp_path / "model.safetensors", network, ModelInfo(specification))
    assert torch.equal(load_model(tmp_path / "model.safetensors")[0](images), network(images))


def test_the_ways_up_of_unet_differ_in_nothing_else():
    """One seed: what is not the way up starts alike; and the parameters are those of the layers alone."""
    plain = built(described(UNET, "bilinear")).network
    channels = [128, 7, 5]  # of what each block of the decoder is given
    extra = {
        "transposed": sum(4 * n * n + n for n in channels),
        "transposed_k4": sum(16 * n * n + n for n in channels),
        "subpixel": sum(4 * n * n + 4 * n for n in channels),
    }
    for way, more in extra.items():
        network = built(described(UNET, way)).network
        sizes = [sum(parameter.numel() for parameter in each.parameters()) for each in (plain, network)]
        assert sizes[1] - sizes[0] == more
        assert described(UNET, way).parameters == sizes[1]
        shared = {name.replace(".block.", "."): value for name, value in network.state_dict().items()}
        assert all(torch.equal(value, shared[name]) for name, value in plain.state_dict().items())


@torch.no_grad()
def test_a_learned_block_is_smps_block_behind_another_way_up():
    network = built(described(UNET, "subpixel")).eval().network
    for block in network.decoder.blocks:
        assert isinstance(block, LearnedUpBlock)
    block = network.decoder.blocks[0]
    features, skip = torch.randn(1, 128, 4, 6), torch.randn(1, 64, 8, 12)
    raised = block.up(features)
    expected = block.block(raised, 8, 12, skip_connection=skip)  # smp's own, with nothing left to interpolate
    torch.testing.assert_close(block(features, 8, 12, skip_connection=skip), expected)


def test_a_specification_without_learned_upsampling_builds_smps_own_network():
    """Models of older versions load as before: their names of weights are smp's."""
    specification = described(UNET, "auto")
    assert specification.upsampling == "bilinear"
    names = built(specification).state_dict()
    assert "network.decoder.blocks.0.conv1.0.weight" in names
    assert not any(".up." in name for name in names)


@pytest.mark.parametrize("architecture", ["unetplusplus", "manet", "fpn", "linknet"])
@pytest.mark.parametrize("way", LEARNABLE_MODES)
def test_other_architectures_refuse_learned_upsampling(architecture, way):
    parameters = ModelParameters(architecture=architecture, upsampling=way)
    with pytest.raises(ConfigurationError, match=rf"model.upsampling: {architecture} cannot choose {way}; unet and"):
        resolve_model_spec(parameters, CLASSES, PROFILE)


def test_deep_supervision_finds_the_stages():
    network = built(described(UNET, "transposed"))
    assert deep_supervision_stages(network) == [network.network.decoder.blocks[1]]
