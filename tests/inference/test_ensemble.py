"""Several networks as one."""

import numpy as np
import pytest

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.inference.backend_selection import choose_backend
from unet_segmentation.inference.ensemble import common_spec
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import read_header, save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import ModelParameters, PredictorParameters


def saved(folder, name: str, depth: int = 2, classes: tuple[str, ...] = ("a", "b", "c")):
    network = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=depth)
    specification = resolve_model_spec(network, list(classes), statistics_of({"mean": [127.0] * 3, "std": [50.0] * 3}))
    save_model(folder / name, build_model(specification), ModelInfo(specification))
    return folder / name


def test_probabilities_are_the_mean_of_the_members(tmp_path):
    files = [saved(tmp_path, f"{number}.safetensors", depth) for number, depth in enumerate((2, 3, 2))]
    image = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    inference = PredictorParameters()
    backend, _ = choose_backend(files, [], accelerator="cpu", folder=tmp_path)
    ensemble = Predictor(common_spec([read_header(file).spec for file in files]), backend, inference)
    assert ensemble.spec.multiple == 8
    padded = np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="reflect")  # to what the deepest takes
    alone = [Predictor.from_file(file, inference, "cpu").probabilities(padded) for file in files]
    np.testing.assert_allclose(ensemble.probabilities(image), np.mean(alone, axis=0)[:, :45, :70], atol=1e-6)


def test_networks_of_different_problems_are_not_averaged(tmp_path):
    files = [saved(tmp_path, "one.safetensors"), saved(tmp_path, "other.safetensors", classes=("a", "b"))]
    with pytest.raises(ConfigurationError, match="classes is"):
        choose_backend(files, [], accelerator="cpu", folder=tmp_path)
