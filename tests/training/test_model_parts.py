"""The encoder apart: its learning rate, and its freezing; and what accumulating gradients does to steps."""

import pytest
import torch

from tests.training.conftest import CLASSES, PROFILE, Tiny
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models import factory as networks
from unet_segmentation.models.components import check_model_supports
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import load_model
from unet_segmentation.parameters import ModelParameters, OptimizerParameters, ScheduleParameters, TrainingParameters
from unet_segmentation.training import trainer
from unet_segmentation.training.composite_loss import CompositeLoss
from unet_segmentation.training.lightning_module import SegmentationTask, make_optimizer
from unet_segmentation.training.lr_schedule import lr_lambda
from unet_segmentation.training.training_inputs import TrainingSetup


class Encoded(Tiny):
    """The tiny network, its first convolution and normalization as an encoder."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.encoder = torch.nn.Sequential(self.around, self.norm)
        del self.around, self.norm
        self.dropout = torch.nn.Dropout2d(0.2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(torch.relu(self.encoder(images))))


class Still(Tiny):
    """Without anything random."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.dropout = torch.nn.Identity()


@pytest.fixture
def encoded(monkeypatch, training):
    monkeypatch.setattr(networks, "_build", lambda spec, _: Encoded(len(spec.classes)))
    return training


def described(**parameters):
    return resolve_model_spec(ModelParameters(**parameters), CLASSES, PROFILE)


def test_the_encoder_has_its_own_learning_rate():
    network = build_model(described())
    encoder = network.network.encoder
    optimizer = make_optimizer(
        network, OptimizerParameters(learning_rate=0.1, encoder_lr_multiplier=0.5), encoder=encoder
    )
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        expected = 0.05 if name.startswith("network.encoder.") else 0.1, 0.01 if parameter.ndim > 1 else 0.0
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_without_a_factor_there_are_the_two_groups_in_the_networks_order():
    network = build_model(described())
    decayed, spared = make_optimizer(network, OptimizerParameters()).param_groups
    everything = list(network.parameters())
    assert [id(p) for p in decayed["params"]] == [id(p) for p in everything if p.ndim > 1]
    assert [id(p) for p in spared["params"]] == [id(p) for p in everything if p.ndim <= 1]


def test_both_rates_follow_the_schedule_and_history_tells_the_decoders(encoded):
    run = encoded(epochs=3, optimizer={"learning_rate": 0.02, "encoder_lr_multiplier": 0.1})
    schedule = ScheduleParameters()
    expected = [0.02 * lr_lambda(3 * epoch, [9], schedule) for epoch in (1, 2, 3)]
    assert run.result.history["train/learning_rate"].tolist() == pytest.approx(expected)
    groups = torch.load(run.result.last, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([expected[-1]] * 2 + [0.1 * expected[-1]] * 2)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_frozen_encoder_stays_to_the_bit_and_then_trains(encoded, tmp_path, ema_decay):
    def encoder_after(epochs, freeze):
        run = encoded(tmp_path / f"{epochs}-{freeze}", epochs=epochs, freeze_encoder_epochs=freeze, ema_decay=ema_decay)
        kept, _ = load_model(run.result.best)
        return run.network.network, kept.network

    torch.manual_seed(0)
    initial = Encoded(len(CLASSES))
    for network in encoder_after(2, freeze=2):
        assert_same(network.encoder.state_dict(), initial.encoder.state_dict())
        assert not torch.equal(network.head.weight, initial.head.weight)
    network, _ = encoder_after(3, freeze=2)
    assert network.encoder[1].num_batches_tracked == 3  # of the third epoch
    trained = network.encoder.state_dict()
    assert not any(torch.equal(value, trained[name]) for name, value in initial.encoder.state_dict().items())


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_never_learned_does_not_learn_after_the_thaw(encoded):
    run = encoded()
    network = networks.build_model(described(architecture="unet_original"))
    network.network.encoder[0].weight.requires_grad_(False)
    plan = run.plan.model_copy(update={"parameters": TrainingParameters(freeze_encoder_epochs=1)})
    task = SegmentationTask(network, plan, CLASSES)
    task.on_train_epoch_start()
    assert not any(parameter.requires_grad for parameter in network.network.encoder.parameters())
    task._fabric = task._trainer = type("Trainer", (), {"current_epoch": 1})()
    task.on_train_epoch_start()
    learns = {name for name, parameter in network.network.encoder.named_parameters() if parameter.requires_grad}
    assert learns == {"0.bias", "1.weight", "1.bias"}


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"freeze_encoder_epochs": 1}, r"training\.freeze_encoder_epochs"),
        ({"optimizer": {"encoder_lr_multiplier": 0.1}}, r"training\.optimizer\.encoder_lr_multiplier"),
    ],
)
def test_a_network_without_an_encoder_is_refused(parameters, key):
    network = build_model(described(architecture="unet_original", base_channels=2))
    training = TrainingParameters.model_validate(parameters)
    with pytest.raises(ConfigurationError, match=rf"{key}: UNet has no encoder of its own"):
        check_model_supports(network, training)
    check_model_supports(build_model(described()), training)
    check_model_supports(network, TrainingParameters())


def test_two_batches_accumulated_are_one_step_of_their_mean_gradient(monkeypatch, training, packed, recipe, tmp_path):
    monkeypatch.setattr(networks, "_build", lambda spec, _: Still(len(spec.classes)))
    run = training(
        tmp_path / "accumulated",
        epochs=1,
        min_steps_per_epoch=2,
        accumulate_grad_batches=2,
        schedule={"name": "constant"},
    )
    specification = described(architecture="unet_original").with_multiple(16)
    torch.manual_seed(run.plan.parameters.seed)
    network = networks.build_model(specification)
    setup = TrainingSetup(specification, network.state_dict(), packed, recipe)
    loader, _ = trainer.make_loaders(run.plan, setup)
    gradients = []
    for images, masks in loader:
        assert len(images) == 4
        loss = CompositeLoss()(network(images), masks)
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    assert len(gradients) == 2
    for parameter, *both in zip(network.parameters(), *gradients, strict=True):
        parameter.grad = sum(both) / 2
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    state = torch.load(run.result.last, weights_only=True)
    assert state["global_step"] == 1
    averages = state["optimizer_states"][0]["state"]  # Adam's, after one step: a tenth of the gradient
    groups = make_optimizer(network, OptimizerParameters()).param_groups
    for number, parameter in enumerate(parameter for group in groups for parameter in group["params"]):
        torch.testing.assert_close(10 * averages[number]["exp_avg"], parameter.grad, rtol=1e-3, atol=1e-6)


def test_the_schedule_counts_steps_of_the_optimizer(training):
    run = training(epochs=3, min_steps_per_epoch=6, accumulate_grad_batches=2, optimizer={"learning_rate": 0.02})
    assert run.plan.steps_per_epoch == 6
    assert torch.load(run.result.last, weights_only=True)["global_step"] == 9
    expected = [0.02 * lr_lambda(3 * epoch, [9], ScheduleParameters()) for epoch in (1, 2, 3)]
    assert run.result.history["train/learning_rate"].tolist() == pytest.approx(expected)
