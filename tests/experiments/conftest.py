"""A tiny prepared problem that sweeps train on."""

import numpy as np
import pytest

from tests.pipelines.test_cross_validation import measured
from unet_segmentation.data.split.split import COLUMNS
from unet_segmentation.data.statistics import compute_statistics
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.experiments.child_training import ExperimentData
from unet_segmentation.parameters import ModelParameters, TrainingParameters, validate_parameters
from unet_segmentation.training.plan_rules import propose_plan

CLASSES = ["a", "b"]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Twelve images of 32 x 32 pixels; brightness tells the class."""
    random = np.random.default_rng(0)
    data = {}
    for number in range(12):
        mask = np.kron(random.integers(0, 2, (4, 4), dtype=np.uint8), np.ones((8, 8), np.uint8))
        noise = random.integers(0, 40, (32, 32, 1))
        data[f"s{number:02d}"] = (mask[..., None] * 120 + noise).astype(np.uint8), mask
    inspected = measured(data, [f"g{number}" for number in range(12)])
    samples = inspected[COLUMNS].assign(split=["train", "validation", "test"] * 4)
    result = compute_statistics(samples, inspected, CLASSES)
    network = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2)
    training = TrainingParameters(
        epochs=2,
        min_steps_per_epoch=2,
        batch_size=2,
        num_threads=1,
        accelerator="cpu",
        precision="32-true",
        patch_size=32,
    )
    parameters = validate_parameters(
        {
            "problem": "toy",
            "source": {"generator": {"name": "cells"}, "images": "i/{id}.png", "masks": "m/{id}.png", "license": "MIT"},
            "classes": CLASSES,
            "masks": {"encoding": "index"},
            "model": network.model_dump(),
            "training": training.model_dump(),
        }
    )
    packed = pack(tmp_path_factory.mktemp("packed") / "arrays", data)
    return ExperimentData(parameters, samples, packed, result, propose_plan(result, network, training, CLASSES))
