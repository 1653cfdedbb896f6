"""Tiny packed samples, and a network that trains in no time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.models import factory as networks
from unet_segmentation.parameters import AugmentationParameters, ModelParameters, TrainingParameters
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.plan import resolve_plan
from unet_segmentation.training.plan_rules import default_plan_values
from unet_segmentation.training.train_model import train_model
from unet_segmentation.training.training_inputs import TrainingInputs

CLASSES = ["background", "disc"]
PROFILE = statistics_of(
    {
        "mean": [110.0, 110.0, 110.0],
        "std": [40.0, 40.0, 40.0],
        "channels": 3,
        "dtype": "uint8",
        "class_shares": {"background": 0.9, "disc": 0.1},
        "height": {"minimum": 20, "median": 33, "maximum": 48},
        "width": {"minimum": 32, "median": 52, "maximum": 70},
        "samples": {"train": 8, "validation": 4},
        "data_sha256": "0" * 64,
    }
)
TRANSFORMS = [
    {"name": "HorizontalFlip"},
    {"name": "Affine", "parameters": {"rotate": [-45, 45], "p": 1.0}},
    {"name": "RandomBrightnessContrast"},
]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def disc(generator: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on noise; a strip on the left is ignored."""
    y, x = generator.integers(8, height - 8), generator.integers(8, width - 8)
    rows, columns = np.ogrid[:height, :width]
    mask = ((rows - y) ** 2 + (columns - x) ** 2 < 100).astype(np.uint8)
    image = generator.normal(90, 15, (height, width, 3)) + 80 * mask[..., None]
    mask[:, :2] = 255
    return image.clip(0, 255).astype(np.uint8), mask


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    generator = np.random.default_rng(0)
    sizes = [(48, 40), (32, 32), (20, 70), (33, 65)]
    data = {f"s{number}": disc(generator, *sizes[number % 4]) for number in range(12)}
    return pack(tmp_path_factory.mktemp("packed") / "arrays", data)


@pytest.fixture(scope="session")
def recipe():
    return compose_recipe(AugmentationParameters.model_validate({"transforms": TRANSFORMS}), channels=3)


class Tiny(torch.nn.Module):
    """A 1x1 convolution with something that looks around and something random."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.around = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.dropout = torch.nn.Dropout2d(0.2)
        self.head = torch.nn.Conv2d(4, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(torch.relu(self.norm(self.around(images)))))


@pytest.fixture
def training(monkeypatch, packed, recipe, tmp_path):
    """Call it with training parameters: it trains the tiny network, and gives plan, result, network and reports."""
    monkeypatch.setattr(networks, "_build", lambda spec, _: Tiny(len(spec.classes)))
    specification = networks.resolve_model_spec(ModelParameters(architecture="unet_original"), CLASSES, PROFILE)
    specification = specification.with_multiple(16)

    def train(
        folder: Path = tmp_path / "models", report=None, resume=False, plan=None, **parameters
    ) -> SimpleNamespace:
        settings = {"epochs": 2, "min_steps_per_epoch": 3, "batch_size": 4, "num_threads": 1, "accelerator": "cpu"}
        settings |= {
            "precision": "32-true",
            "optimizer": {"learning_rate": 0.03},
            "checkpoint": {"max_time_fraction": 1},
        }
        chosen = TrainingParameters.model_validate(settings | parameters)
        inputs = make_inputs(packed, recipe, specification, chosen)
        plan = plan or resolve_plan(chosen, inputs)
        reports: list[tuple[int, dict[str, float]]] = []
        folder.mkdir(exist_ok=True)
        report = report or (lambda epoch, values, when: reports.append((epoch, values)))
        chosen = chosen.model_copy(update={"resume": resume})
        result = train_model(inputs, chosen, folder, plan=plan, on_epoch_saved=report)
        return SimpleNamespace(plan=plan, result=result, network=last_network(result, specification), reports=reports)

    return train


def make_inputs(packed, recipe, specification, parameters, seed=None) -> TrainingInputs:
    """What a training of eight samples starts from, validated on the others."""
    torch.manual_seed(parameters.seed if seed is None else seed)
    weights = networks.build_model(specification).state_dict()
    splits = ["train"] * 8 + ["validation"] * 4
    samples = pd.DataFrame({"sample_id": packed.sample_ids, "split": splits, "masks": [["m.png"]] * 12})
    return TrainingInputs(
        specification, weights, packed, recipe, samples, PROFILE, default_plan_values(parameters, PROFILE)
    )


def last_network(result, specification) -> torch.nn.Module:
    """The network as it was when the training ended."""
    state = torch.load(result.last, weights_only=True)["state_dict"]
    network = networks.build_model(specification)
    network.load_state_dict({name: state[f"network.{name}"] for name in network.state_dict()})
    return network


BASE = {
    "epochs": 2,
    "min_steps_per_epoch": 3,
    "batch_size": 4,
    "patch_size": 32,
    "num_threads": 1,
    "accelerator": "cpu",
    "precision": "32-true",
    "checkpoint": {"max_time_fraction": 1},
}


@pytest.fixture(scope="session")
def make_plan(packed, recipe):
    """Call it with training parameters; it gives plan and inputs of the training of a network without statistics."""

    def make_plan(**parameters):
        chosen = TrainingParameters.model_validate(BASE | parameters)
        small = ModelParameters(architecture="unet_original", base_channels=4, encoder_depth=2, norm_layer="none")
        specification = networks.resolve_model_spec(small, CLASSES, PROFILE)
        inputs = make_inputs(packed, recipe, specification, chosen, seed=0)
        return resolve_plan(chosen, inputs), inputs

    return make_plan
