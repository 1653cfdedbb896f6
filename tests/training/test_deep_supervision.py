import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.data.fabricated_statistics import statistics_of
from tests.training.conftest import CLASSES
from tests.training.test_trainer import digest
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models import factory as networks
from unet_segmentation.models.architectures.unet_original import UNet
from unet_segmentation.models.deep_supervision import DeepSupervision, resized
from unet_segmentation.models.factory import build_model, init_bias_from_class_priors, resolve_model_spec
from unet_segmentation.models.model_file import load_model
from unet_segmentation.parameters import ModelParameters
from unet_segmentation.training.composite_loss import CompositeLoss

PROFILE = statistics_of({"mean": [100.0, 110.0, 120.0], "std": [30.0, 31.0, 32.0]})


def built(**parameters):
    torch.manual_seed(0)
    return build_model(resolve_model_spec(ModelParameters(**parameters), CLASSES, PROFILE))


@pytest.fixture
def paper(monkeypatch, training):
    """The training of the fixture, of a small U-Net with three stages."""
    monkeypatch.setattr(networks, "_build", lambda *_: UNet(3, len(CLASSES), base_channels=2, depth=3))
    return training


@pytest.mark.parametrize("architecture", ["unet", "manet", "unetplusplus", "unet_original"])
def test_each_head_is_half_as_fine_and_the_coarsest_stage_has_none(architecture):
    network = built(architecture=architecture, base_channels=4)
    supervision = DeepSupervision(network, len(CLASSES), seed=0)
    network(torch.zeros(2, 3, 64, 96))
    sizes = [tuple(supervision.features[number].shape[-2:]) for number in range(len(supervision.heads))]
    assert sizes == [(32, 48), (16, 24), (8, 12)][: len(sizes)]
    assert len(sizes) == (2 if architecture == "unet_original" else 3)  # of 4 and 5 stages


def test_the_loss_by_hand():
    """Without hooks: the decoder's blocks applied one after another."""
    network = built(encoder_depth=4, decoder_channels=[16, 12, 8, 4]).train()
    supervision = DeepSupervision(network, len(CLASSES), seed=0)
    images = torch.rand(2, 3, 64, 64) * 255
    masks = torch.randint(0, 2, (2, 64, 64), dtype=torch.uint8)
    masks[:, :20] = 255
    loss = CompositeLoss()
    value = supervision(network(images), masks, loss)

    features = network.network.encoder((images - network.mean) * network.scale)[::-1]
    stage, outputs = features[0], []
    for block, size in zip(network.network.decoder.blocks, (8, 16, 32, 64), strict=True):
        skip = next((skip for skip in features[1:-1] if skip.shape[-1] == size), None)
        stage = block(stage, size, size, skip_connection=skip)
        outputs.append(stage)
    fine = loss(network.network.segmentation_head(outputs[3]), masks)
    middle = loss(supervision.heads[0](outputs[2]), masks[:, 1::2, 1::2])
    coarse = loss(supervision.heads[1](outputs[1]), masks[:, 2::4, 2::4])
    torch.testing.assert_close(value, (fine + middle / 2 + coarse / 4) / 1.75)


def test_masks_keep_their_ids_and_what_is_ignored():
    mask = torch.from_numpy(np.random.default_rng(0).choice([0, 7, 255], (2, 9, 14)).astype(np.uint8))
    small = resized(mask, torch.zeros(2, 3, 5, 7))
    assert small.dtype == torch.uint8
    rows, columns = (np.arange(5) + 0.5) * 9 / 5, (np.arange(7) + 0.5) * 14 / 7
    assert torch.equal(small, mask[:, rows.astype(int)][:, :, columns.astype(int)])
    assert resized(mask, torch.zeros(2, 3, 9, 14)) is mask


def test_the_heads_are_a_function_of_the_seed_and_leave_the_randomness_alone():
    network = built(architecture="unet_original", base_channels=2)
    init_bias_from_class_priors(network, [0.9, 0.1])
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (DeepSupervision(network, len(CLASSES), seed) for seed in (1, 1, 2))
    assert digest(first) == digest(again) != digest(other)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(first.heads[0].bias, torch.tensor([0.9, 0.1]).log())


def test_it_listens_in_training_only():
    network = built(architecture="unet_original", base_channels=2)
    supervision = DeepSupervision(network, len(CLASSES), seed=0)
    network.eval()(torch.zeros(1, 3, 32, 32))
    assert not supervision.features


def test_the_kept_model_is_the_plain_network(paper):
    run = paper(deep_supervision=True, ema_decay=0.9)
    kept, _ = load_model(run.result.best)
    assert kept.state_dict().keys() == run.network.state_dict().keys()
    state = torch.load(run.result.last, weights_only=True)["state_dict"]
    assert {"supervision.heads.0.weight", "supervision.heads.0.bias"} <= state.keys()
    assert digest(run.network) != digest(paper(ema_decay=0.9).network)


def test_the_heads_learn(paper):
    run = paper(deep_supervision=True)
    trained = torch.load(run.result.last, weights_only=True)["state_dict"]["supervision.heads.0.weight"]
    initial = DeepSupervision(UNet(3, 2, base_channels=2, depth=3), 2, run.plan.parameters.seed).heads[0].weight
    assert not torch.equal(trained, initial)


@pytest.mark.parametrize("architecture", ["fpn", "deeplabv3plus", "linknet"])
def test_an_architecture_without_such_stages_is_refused(architecture):
    with pytest.raises(ConfigurationError, match=r"training\.deep_supervision: not for .*unetplusplus"):
        DeepSupervision(built(architecture=architecture), len(CLASSES), seed=0)


def test_too_few_stages_are_refused():
    network = built(architecture="unet_original", encoder_depth=2, base_channels=2)
    with pytest.raises(ConfigurationError, match=r"training\.deep_supervision: .* model\.encoder_depth"):
        DeepSupervision(network, len(CLASSES), seed=0)


def test_masks_of_every_size_fit_their_outputs_in_the_papers_unet():
    network = built(architecture="unet_original", base_channels=2)
    supervision = DeepSupervision(network, len(CLASSES), seed=0)
    value = supervision(network(torch.zeros(2, 3, 50, 37)), torch.zeros(2, 50, 37, dtype=torch.uint8), _shape_checked)
    assert value.item() == pytest.approx(1.0)


def _shape_checked(logits, target):
    return functional.cross_entropy(logits, target.long()) * 0 + 1.0
