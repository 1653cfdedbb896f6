"""A tiny prepared problem that sweeps train on."""

import numpy as np
import pytest

from tests.pipelines.test_cross_validation import measured
from unet_segmentation.learning.planning import propose_plan
from unet_segmentation.parameters import ImageParameters, NetworkParameters, TrainingParameters, validate_parameters
from unet_segmentation.pipelines.preparation.nodes import profile
from unet_segmentation.samples.packing import pack
from unet_segmentation.samples.splitting import COLUMNS
from unet_segmentation.sweeping.running import Prepared

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
    found = profile(samples, inspected, CLASSES, ImageParameters())
    network = NetworkParameters(architecture="paper_unet", width=2, encoder_depth=2)
    training = TrainingParameters(
        epochs=2, minimum_steps=2, batch_size=2, threads=1, accelerator="cpu", precision="32", patch_size=32
    )
    parameters = validate_parameters(
        {
            "problem": "toy",
            "source": {"generator": {"name": "cells"}, "images": "i/{id}.png", "masks": "m/{id}.png", "licence": "MIT"},
            "classes": CLASSES,
            "masks": {"encoding": "index"},
            "network": network.model_dump(),
            "training": training.model_dump(),
        }
    ).model_dump(mode="json")
    packed = pack(tmp_path_factory.mktemp("packed") / "arrays", data)
    return Prepared(parameters, samples, packed, found, propose_plan(found, network, training, CLASSES))
