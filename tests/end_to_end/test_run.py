"""`kedro run` from nothing to a tracked, evaluated model, through the real command line."""

import json
import re
import sqlite3

import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests.end_to_end.conftest import Finished, succeeded

pytestmark = pytest.mark.slow


def rows(finished: Finished, query: str) -> list[tuple]:
    with sqlite3.connect(f"file:{finished.path}/mlflow.db?mode=ro", uri=True) as database:
        return database.execute(query).fetchall()


def test_the_console_is_quiet_and_says_where_to_look(finished):
    for output in finished.outputs:
        assert not re.search(r"warning|deprecat|traceback", output, re.IGNORECASE), output
        assert "report.html" in output
        assert "kedro viz" in output
        assert re.search(r"#/experiments/\d+/runs/\w{32}\S*workflowType=machine_learning", output.replace("\n", ""))
        assert re.search(r"first training step", output)


def test_the_scores_are_flat_and_named_as_promised(finished):
    scores = json.loads(finished.data("08_reporting/metrics.json").read_text())
    assert all(value is None or isinstance(value, int | float) for value in scores.values())
    assert {"dice/mean", "iou/mean", "dice/foreground_mean", "iou/foreground_mean", "iou/class/nucleus"} <= set(scores)
    assert {"iou/per_image_mean", "accuracy/pixel", "accuracy/class_mean", "iou/frequency_weighted"} <= set(scores)
    assert {"soft_iou/smooth1", "soft_dice/smooth1"} <= set(scores)


def test_the_scores_follow_from_the_files(finished):
    """IoU computed anew from the predicted and the true masks, pixel by pixel, agrees with the report."""
    import numpy as np
    from PIL import Image

    from unet_segmentation.datasets import PackedSamplesDataset

    packed = PackedSamplesDataset(filepath=str(finished.data("03_primary/packed_dataset.json"))).load()
    samples = pd.read_parquet(finished.data("03_primary/samples.parquet"))
    both, either = np.zeros(3), np.zeros(3)
    for sample_id in samples.loc[samples["split"] == "test", "sample_id"]:
        prediction = np.array(Image.open(finished.data(f"07_model_output/predictions/{sample_id}.png")))
        truth = packed.mask(sample_id)
        for index in range(3):
            both[index] += ((truth == index) & (prediction == index)).sum()
            either[index] += ((truth == index) | (prediction == index)).sum()
    scores = json.loads(finished.data("08_reporting/metrics.json").read_text())
    assert scores["iou/mean"] == pytest.approx((both / either).mean(), abs=1e-12)


def test_two_runs_are_the_same_bit_for_bit(finished):
    first, second = finished.path / "first", finished.path / "data"
    for name in ("08_reporting/test/metrics.json", "07_model_output/test/tables/confusion.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    before, after = (load_file(folder / "06_models/test/best.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    timed = ["train/throughput", "train/epoch_seconds"]
    histories = [pd.read_csv(folder / "08_reporting/test/training_history.csv") for folder in (first, second)]
    left, right = (table.drop(columns=[name for name in timed if name in table]) for table in histories)
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def test_both_runs_are_finished_in_mlflow(finished):
    runs = rows(finished, "select status from runs where lifecycle_stage = 'active'")
    assert runs == [("FINISHED",), ("FINISHED",)]
    assert rows(finished, "select name from experiments where name = 'test'")


def test_mlflow_holds_curves_scores_parameters_data_and_model(finished):
    epochs = len(pd.read_csv(finished.data("08_reporting/training_history.csv")))
    counts = dict(rows(finished, "select key, count(*) / 2 from metrics group by key"))
    assert counts["train/loss"] == counts["validation/loss"] == counts["validation/dice/mean"] == epochs
    assert counts["test/dice/mean"] == 1
    assert any(name.startswith("system/") for name in counts)
    steps = rows(finished, "select distinct step from metrics where key = 'validation/loss' order by step")
    assert [step for (step,) in steps] == list(range(1, epochs + 1))
    parameters = dict(rows(finished, "select key, value from params"))
    assert parameters["training.batch_size"]
    assert parameters["model.encoder"]
    assert not [name for name, value in parameters.items() if value.startswith('{"')], "a parameter is not flat"
    assert rows(finished, "select count(*) from inputs")[0][0] >= 2
    assert rows(finished, "select count(*) from logged_models")[0][0] == 2


def test_mlflow_holds_the_figures_and_the_report(finished):
    [(uri,), _] = rows(finished, "select artifact_uri from runs")
    folder = finished.path / uri.removeprefix("file://").split(str(finished.path))[-1].lstrip("/")
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {
        "report.html",
        "gallery.png",
        "augmentation_preview.png",
        "metrics.json",
        "dataset_statistics.json",
    } <= names
    assert {"training_curves.html", "confusion_matrix.html", "class_scores.html"} <= names
    assert {"reliability.html", "object_recall.html", "precision_recall.html", "score_definitions.csv"} <= names
    assert {f"{name}.parquet" for name in ("confusion", "soft", "calibration", "objects")} <= names


def test_nothing_half_written_is_left(finished):
    assert not [path for path in finished.path.rglob("*") if ".partial" in path.name or path.name.endswith(".part")]


def test_a_pipeline_runs_alone_and_from_a_subfolder(finished):
    before = finished.data("08_reporting/metrics.json").read_bytes()
    output = succeeded(finished.project.kedro("run", "--env", "test", "--pipelines", "evaluation", cwd="src"))
    assert "inspect" not in output
    assert finished.data("08_reporting/metrics.json").read_bytes() == before
    assert [path.parent for path in finished.path.rglob("mlflow.db")] == [finished.path]


def test_slices_of_the_pipeline_run(finished):
    kedro = finished.project.kedro
    output = succeeded(kedro("run", "--env", "test", "--from-nodes", "evaluation.score", "--to-outputs", "metrics"))
    assert "evaluation.score" in output
    assert "evaluation.count" not in output
    finished.data("08_reporting/training_curves.json").unlink()
    output = succeeded(kedro("run", "--env", "test", "--only-missing-outputs"))
    assert "training.plot_training" in output
    assert not re.search(r"training\.train\b", output)


def test_the_catalog_is_described(finished):
    output = succeeded(finished.project.kedro("catalog", "describe-datasets", "--env", "test"))
    assert "packed_dataset" in output


def test_an_interactive_session_loads_the_catalog(finished):
    program = "print('rows', len(catalog.load('samples')), type(catalog.load('packed_dataset')).__name__)"
    output = succeeded(finished.project.kedro("ipython", "--env", "test", "-c", program))
    assert "rows 24 PackedSamples" in output
