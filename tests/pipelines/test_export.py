"""Nodes of the export over a small problem: what passes is published, what does not leaves the old folder."""

from __future__ import annotations

import json

import pytest
import torch

from tests.data.fabricated_statistics import statistics_of
from tests.inference.test_backends import lively
from tests.pipelines.evaluated import CLASSES, problem
from unet_segmentation.datasets import FolderDataset
from unet_segmentation.deployment.export.source import Quantization
from unet_segmentation.errors import ConfigurationError, DataError, ReleaseError
from unet_segmentation.metrics.definitions import global_scores
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import ExportParameters, ModelParameters
from unet_segmentation.pipelines.export import nodes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small problem, and what every node but the last gave."""
    folder = tmp_path_factory.mktemp("export")
    result = problem(folder)
    network = ModelParameters(architecture="unet_original", encoder_depth=2, base_channels=4)
    torch.manual_seed(0)
    specification = resolve_model_spec(network, CLASSES, statistics_of({"mean": [120.0] * 3, "std": [50.0] * 3}))
    save_model(folder / "best.safetensors", lively(build_model(specification)), ModelInfo(specification, epoch=3))
    result.folder = folder
    result.export = ExportParameters(int8=True, calibration_images=1, max_int8_score_drop=0.5)
    logged = {"run_id": "abc"}
    result.source = nodes.choose_model("toy", folder / "best.safetensors", logged, result.packed, result.export, folder)
    work = folder / "work"
    work.mkdir()
    result.program = nodes.export_program(result.source, work)
    result.onnx = nodes.export_onnx(result.source, work)
    result.quantization = nodes.quantize(result.onnx, result.source, result.samples, result.packed, result.export, work)
    result.parity = check(result)
    return result


def check(result, export=None):
    return nodes.check_parity(
        result.source, result.program, result.onnx, result.quantization, result.samples, result.packed,
        result.inference, export or result.export,
    )  # fmt: skip


def publish(result, figures, failures, export=None):
    return nodes.publish(
        result.source, result.program, result.onnx, result.quantization, figures, failures, result.inference,
        export or result.export,
    )  # fmt: skip


def test_every_file_is_held_against_the_network_over_the_split_and_odd_sizes(exported):
    table, figures, failures = exported.parity
    assert failures == []
    assert set(table["file"]) == {"model.pt2", "model.onnx", "model.int8.onnx"}
    test = set(exported.samples.loc[exported.samples["split"] == "test", "sample_id"])
    for _, rows in table.groupby("file"):
        assert set(rows.loc[rows["kind"] == "split", "image"]) == test
        assert (rows["kind"] == "size").sum() == 7
    assert figures["model.onnx/agreement"] > 0.999
    assert figures["model.onnx/probability"] < 1e-4
    assert 0 < figures["model.int8.onnx/probability"] <= 1


def test_the_networks_scores_are_those_of_evaluation(exported, tmp_path):
    from unet_segmentation.metrics.confusion_matrix import total_matrix
    from unet_segmentation.pipelines.evaluation import nodes as evaluation

    working, predictions = tmp_path / "working", tmp_path / "predictions"
    working.mkdir()
    predictions.mkdir()
    model = exported.folder / "best.safetensors"
    arguments = (exported.samples, exported.packed)
    write, probability_tables = evaluation.predict(model, *arguments, exported.inference, exported.evaluation, working)
    write(predictions)
    tables = evaluation.count(predictions, *arguments, CLASSES, exported.evaluation, probability_tables)
    expected = global_scores(total_matrix(tables.confusion, len(CLASSES)), CLASSES)
    assert exported.parity[1]["network/dice/mean"] == expected["dice/mean"]
    assert exported.parity[1]["model.onnx/dice/mean"] == pytest.approx(expected["dice/mean"], abs=1e-4)


def test_what_passed_is_published(exported, tmp_path):
    _, figures, failures = exported.parity
    export = exported.export.model_copy(update={"output": str(tmp_path / "copy")})
    FolderDataset(path=str(tmp_path / "export")).save(publish(exported, figures, failures, export))
    for folder in (tmp_path / "export", tmp_path / "copy"):
        described = json.loads((folder / "model.json").read_text())
        assert described["problem"] == "toy"
        assert described["run_id"] == "abc"
        assert described["classes"] == CLASSES
        assert described["parity"] == figures
        assert described["predictor"] == exported.inference.model_dump()
        assert {file.name for file in folder.iterdir()} >= {*described["files"], "predict.py", "requirements.txt"}


def test_what_does_not_pass_is_refused_with_the_figures_and_the_place(exported):
    strict = exported.export.model_copy(update={"max_probability_difference": 1e-12})
    _, figures, failures = check(exported, strict)
    assert len(failures) == 2
    with pytest.raises(ReleaseError, match=r"Nothing was exported\. model\.\w+: a probability differs by .* most in"):
        publish(exported, figures, failures, strict)


def test_another_file_is_another_network(exported):
    other = exported.export.model_copy(update={"model": str(exported.folder / "best.safetensors")})
    source = nodes.choose_model(
        "toy", exported.folder / "no such file", {"run_id": "abc"}, exported.packed, other, exported.folder
    )
    assert source.run_id is None
    assert source.weights_sha256 == exported.source.weights_sha256


def test_a_run_without_a_store_is_told(exported):
    other = exported.export.model_copy(update={"model": "champion"})
    with pytest.raises(
        ConfigurationError, match=r"export\.model: champion would be looked for in MLflow, and tracking"
    ):
        nodes.choose_model("toy", exported.folder, {}, exported.packed, other, exported.folder)


def test_8_bits_are_made_only_when_asked_for(exported, tmp_path):
    result = nodes.quantize(
        exported.onnx, exported.source, exported.samples, exported.packed, ExportParameters(), tmp_path
    )
    assert result == Quantization()
    assert not list(tmp_path.iterdir())


def test_a_split_without_samples_is_told(exported):
    none = exported.samples.assign(split="train")
    exported_none = type(exported)(**{**vars(exported), "samples": none})
    with pytest.raises(DataError, match=r"export\.split: the test split has no labeled sample"):
        check(exported_none)
