"""`kedro export` on the real command line."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.end_to_end.conftest import succeeded

pytestmark = pytest.mark.slow


def test_a_trained_network_is_exported_or_refused(finished, tmp_path):
    project = finished.project
    output = succeeded(project.kedro("export", "--env", "test", "--output", str(tmp_path / "out")))
    folder = finished.data("06_models/export")
    assert f"Exported   {folder} and {tmp_path / 'out'}" in output
    assert "Warning" not in output
    assert "Traceback" not in output
    described = json.loads((folder / "model.json").read_text())
    assert described["problem"] == "test"
    assert described["parity"]["model.onnx/agreement"] > 0.999
    scores = json.loads(finished.data("08_reporting/metrics.json").read_text())
    assert described["parity"]["model.onnx/dice/mean"] == pytest.approx(scores["dice/mean"], abs=1e-4)
    assert described["run_id"] == json.loads(finished.data("08_reporting/logged_model.json").read_text())["run_id"]

    before = (folder / "model.json").read_bytes()
    refused = project.kedro("export", "--env", "test", "--params", "export.max_probability_difference=1e-12")
    assert refused.returncode == 1
    assert "Nothing was exported" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert (folder / "model.json").read_bytes() == before

    wrong = project.kedro("export", "--env", "test", "--model", str(tmp_path / "none.safetensors"))
    assert wrong.returncode == 1
    assert "is not a model of this project" in wrong.stdout
    shutil.rmtree(folder)
