"""The exported folder: it predicts what the network predicts, without torch; 8 bits; what cannot be exported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from tests.inference.test_backends import CLASSES, make, pixels
from tests.specs import make_spec
from unet_segmentation.deployment.export.bundle import MODULES, describe_input, fill_folder
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.inference.backends.onnx_export import quantize, save_onnx
from unet_segmentation.inference.backends.onnxruntime import OnnxRuntimeBackend
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.backends.torch_export import export_program, save_program
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import PredictorParameters
from unet_segmentation.visualization import class_colors

INFERENCE = PredictorParameters(max_pixels=2500, tile_size=32, test_time_augmentation="flip")

# A Python that has numpy, onnxruntime and pillow, as far as predict.py can tell.
ALONE = """
import sys
for name in ("torch", "pydantic", "onnx", "kedro", "mlflow", "pandas", "scipy", "cv2"):
    sys.modules[name] = None
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The small network in a folder, and the network."""
    folder = tmp_path_factory.mktemp("exported")
    network, specification = make()
    save_onnx(export_program(network, specification), specification, folder / "a.onnx")
    quantize(folder / "a.onnx", folder / "b.onnx", (pixels(specification, (1, 4, 4)) for _ in range(3)))
    information = {
        "classes": CLASSES,
        "colors": class_colors(len(CLASSES)).tolist(),
        "input": describe_input(specification, "uint8"),
        "specification": specification.to_json(),
        "predictor": INFERENCE.model_dump(),
    }
    target = folder / "export"
    target.mkdir()
    fill_folder(target, {"model.onnx": folder / "a.onnx", "model.int8.onnx": folder / "b.onnx"}, information)
    return target, network, specification


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", ALONE, str(folder / "predict.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


@pytest.mark.slow
def test_the_folder_predicts_alone_what_the_network_predicts(exported, tmp_path):
    folder, network, specification = exported
    random = np.random.default_rng(1)
    shapes = {"one": (1, 1), "small": (7, 11), "whole": (40, 48), "tiled": (90, 61)}
    (tmp_path / "images").mkdir()
    images = {}
    for name, shape in shapes.items():
        images[name] = random.integers(0, 256, (*shape, 3)).astype(np.uint8)
        Image.fromarray(images[name]).save(tmp_path / "images" / f"{name}.png")
    answer = run(folder, str(tmp_path / "images"), "--output", str(tmp_path / "masks"))
    assert answer.returncode == 0, answer.stderr
    predictor = Predictor(specification, EagerBackend(network, "cpu"), INFERENCE)
    for name, image in images.items():
        with Image.open(tmp_path / "masks" / f"{name}.png") as written:
            mask = np.array(written)
            assert written.getpalette()[:9] == [
                value for color in class_colors(len(CLASSES)).tolist() for value in color
            ]
        np.testing.assert_array_equal(mask, predictor.predict(image))


@pytest.mark.slow
def test_a_broken_image_is_told_and_left_out(exported, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    answer = run(exported[0], str(tmp_path), "--output", str(tmp_path / "masks"), "--int8")
    assert answer.returncode == 1
    assert "bad.png" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "1 of 2 images" in answer.stdout
    assert [file.name for file in (tmp_path / "masks").iterdir()] == ["good.png"]


@pytest.mark.slow
def test_two_images_of_one_stem_do_not_meet_in_one_file(exported, tmp_path):
    for ending in ("png", "bmp"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"a.{ending}")
    assert run(exported[0], str(tmp_path), "--output", str(tmp_path / "masks")).returncode == 0
    assert {file.name for file in (tmp_path / "masks").iterdir()} == {"a.png.png", "a.bmp.png"}


@pytest.mark.slow
def test_a_gray_image_is_read_as_it_was_packed_for_training(exported, tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "gray.png")
    assert run(exported[0], str(tmp_path), "--output", str(tmp_path / "masks")).returncode == 0


@pytest.mark.slow
def test_another_file_than_was_checked_is_refused(exported, tmp_path):
    import shutil

    folder = tmp_path / "export"
    shutil.copytree(exported[0], folder)
    shutil.copyfile(folder / "model.int8.onnx", folder / "model.onnx")
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    answer = run(folder, str(tmp_path / "good.png"))
    assert answer.returncode == 1
    assert "is not the file that model.json describes" in answer.stderr


@pytest.mark.slow
def test_model_json_says_what_is_needed(exported):
    folder, _, specification = exported
    described = json.loads((folder / "model.json").read_text())
    assert ModelSpec.from_json(described["specification"]) == specification
    assert set(described["files"]) == {"model.onnx", "model.int8.onnx"}
    assert described["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (folder / "requirements.txt").read_text().count("==") == 3
    shipped = {
        str(path.relative_to(folder / "unet_segmentation")) for path in folder.rglob("unet_segmentation/**/*.py")
    }
    assert shipped == {*MODULES, "__init__.py"}


@pytest.mark.slow
def test_sizes_have_names_and_are_free(exported):
    model = onnx.load(exported[0] / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (images,) = model.graph.input
    shape = [place.dim_param or place.dim_value for place in images.type.tensor_type.shape.dim]
    assert shape == ["batch", "height", "width", 3]
    assert not any(node.domain not in ("", "ai.onnx") for node in model.graph.node)  # nothing but ONNX's operators


@pytest.mark.slow
def test_8_bits_are_near(exported):
    folder, network, specification = exported
    images = pixels(specification, (2, 4, 4))
    result = OnnxRuntimeBackend(folder / "model.int8.onnx")
    assert result.spec == specification
    kinds = {node.op_type for node in onnx.load(folder / "model.int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert np.abs(result(images) - EagerBackend(network, "cpu")(images)).mean() < 0.05


@pytest.mark.slow
def test_8_bits_need_images(exported, tmp_path):
    with pytest.raises(DataError, match="images of the training split"):
        quantize(exported[0] / "model.onnx", tmp_path / "c.onnx", [])
    assert not list(tmp_path.iterdir())


class Stubborn(nn.Module):
    """A network for one size."""

    def forward(self, images):
        return images.float().reshape(-1, 3, 24, 40) if images.shape[-1] == 40 else images.float()


def test_what_cannot_be_exported_is_told():
    specification = make_spec(multiple=8, architecture="stubborn", encoder="none")
    with pytest.raises(ConfigurationError, match="stubborn with encoder none cannot be exported with a free size"):
        export_program(Stubborn(), specification)


@pytest.mark.slow
def test_the_program_comes_back(exported, tmp_path):
    _, network, specification = exported
    save_program(export_program(network, specification), tmp_path / "model.pt2")
    images = torch.from_numpy(pixels(specification, (3, 2, 5)))
    with torch.no_grad():
        probabilities, logits = torch.export.load(tmp_path / "model.pt2").module(check_guards=False)(images)
        torch.testing.assert_close(logits, network(images.permute(0, 3, 1, 2)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3, *images.shape[1:3]))
