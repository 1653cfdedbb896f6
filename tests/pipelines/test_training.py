import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from unet_segmentation import tracking
from unet_segmentation.errors import ConfigurationError, ProjectError
from unet_segmentation.learning.augmentation import compose_recipe
from unet_segmentation.learning.network import load_model
from unet_segmentation.parameters import AugmentationParameters, NetworkParameters, TrainingParameters
from unet_segmentation.pipelines.training import nodes
from unet_segmentation.samples.packing import pack

CLASSES = ["a", "b"]
PROFILE = {"mean": [90.0], "std": [30.0], "class_shares": {"a": 0.5, "b": 0.5}, "data_sha256": "x"}
NETWORK = NetworkParameters(architecture="paper_unet", width=2, encoder_depth=2)
TRAINING = TrainingParameters(epochs=2, minimum_steps=2, batch_size=2, threads=1, accelerator="cpu")


class Recorder:
    enabled = True

    def __init__(self):
        self.metrics = []

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, metrics))


@pytest.fixture
def problem(tmp_path):
    generator = np.random.default_rng(0)
    data = {}
    for number in range(5):
        mask = generator.integers(0, 2, (32, 32), dtype=np.uint8)
        data[f"s{number}"] = mask[..., None] * 100, mask
    splits = ["train"] * 3 + ["validation"] * 2
    samples = pd.DataFrame({"sample_id": list(data), "split": splits, "masks": [["m.png"]] * 5})
    return samples, pack(tmp_path / "packed", data), compose_recipe(AugmentationParameters(), channels=1)


def weights_digest(weights):
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


def test_initial_weights_follow_the_seed_alone():
    first = nodes.build_network(NETWORK, TRAINING, CLASSES, PROFILE)[1]
    torch.manual_seed(123)
    second = nodes.build_network(NETWORK, TRAINING, CLASSES, PROFILE)[1]
    other = nodes.build_network(NETWORK, TRAINING.model_copy(update={"seed": 1}), CLASSES, PROFILE)[1]
    assert weights_digest(first) == weights_digest(second) != weights_digest(other)


def test_from_parameters_to_a_model_with_every_epoch_reported(problem, tmp_path, monkeypatch):
    samples, packed, recipe = problem
    recorder = Recorder()
    monkeypatch.setattr(tracking, "current", lambda: recorder)
    specification, weights = nodes.build_network(NETWORK, TRAINING, CLASSES, PROFILE)
    save_file(weights, tmp_path / "initial.safetensors")
    plan, best, last, history = nodes.train(
        specification,
        tmp_path / "initial.safetensors",
        samples,
        packed,
        recipe,
        PROFILE,
        TRAINING,
        CLASSES,
        tmp_path,
    )
    assert plan["samples"] == {"train": ["s0", "s1", "s2"], "validation": ["s3", "s4"]}
    assert [step for step, _ in recorder.metrics] == [1, 2] == history["epoch"].tolist()
    assert last.is_file()
    assert load_model(best)[1]["specification"] == specification
    assert nodes.plot_training(history, TRAINING).data


def test_weights_of_another_network(problem, tmp_path):
    samples, packed, recipe = problem
    specification, weights = nodes.build_network(NETWORK, TRAINING, CLASSES, PROFILE)
    weights.pop(next(iter(weights)))
    save_file(weights, tmp_path / "initial.safetensors")
    with pytest.raises(ProjectError, match=r"run the node training\.build_network again"):
        nodes.train(
            specification,
            tmp_path / "initial.safetensors",
            samples,
            packed,
            recipe,
            PROFILE,
            TRAINING,
            CLASSES,
            tmp_path,
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_noticed_before_anything_is_built():
    with pytest.raises(ConfigurationError, match=r"training\.accelerator"):
        nodes.build_network(NETWORK, TRAINING.model_copy(update={"accelerator": "cuda"}), CLASSES, PROFILE)
