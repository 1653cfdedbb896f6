"""Charts: the numbers in them."""

import json

import numpy as np
import pandas as pd
import pytest

from unet_segmentation.metrics.calibration import BINS, reliability
from unet_segmentation.metrics.thresholds import precision_recall_curve
from unet_segmentation.reporting.score_charts import (
    class_chart,
    confusion_chart,
    objects_chart,
    precision_recall_chart,
    reliability_chart,
)
from unet_segmentation.reporting.training_curves import training_curves


def test_confusion_rows_are_shares_and_counts_are_on_hover():
    matrix = np.array([[6, 2, 0], [0, 0, 0], [1, 0, 3]])
    figure = confusion_chart(matrix, ["a", "b", "c"])
    heatmap = figure.data[0]
    assert heatmap.z[0] == (0.75, 0.25, 0.0) or list(heatmap.z[0]) == [0.75, 0.25, 0.0]
    assert list(heatmap.z[1]) == [None, None, None]  # the class does not occur
    assert np.asarray(heatmap.customdata).tolist() == matrix.tolist()
    json.loads(figure.to_json())


def test_many_classes_leave_the_numbers_out():
    figure = confusion_chart(np.eye(40, dtype=np.int64), [f"class {number}" for number in range(40)])
    assert figure.data[0].texttemplate is None


def test_class_chart_shows_undefined_scores_as_gaps():
    metrics = {"iou/class/a": 0.5, "iou/class/b_b": None, "dice/class/a": 0.6}
    figure = class_chart(metrics, ["a", "b b"])
    bars = {trace.name: list(trace.x) for trace in figure.data}
    assert bars["IoU"] == [0.5, None]
    assert set(bars) == {"Dice", "IoU", "precision", "recall"}


def test_reliability_shows_the_bins_that_have_pixels():
    sums = np.zeros((BINS, 3))
    sums[7], sums[14] = (10, 5, 4), (30, 29, 30)
    share, line = reliability_chart(reliability(sums)).data
    assert list(share.y) == [0.25, 0.75]
    assert list(line.x) == pytest.approx([0.5, 29 / 30])
    assert list(line.y) == [0.4, 1.0]
    assert len(reliability_chart(reliability(np.zeros((BINS, 3)))).data[1].x) == 0


def test_objects_by_size_of_all_classes_and_of_each():
    counts = np.zeros((3, 6, 2), np.int64)
    counts[1, 0], counts[2, 0], counts[2, 5] = (4, 1), (4, 3), (2, 2)
    figure = objects_chart(counts, ["background", "a", "b"])
    bars = {trace.name: list(trace.y) for trace in figure.data}
    assert bars == {
        "all classes": [0.5, None, None, None, None, 1.0], "a": [0.25] + [None] * 5,
        "b": [0.75, None, None, None, None, 1.0],
    }  # fmt: skip
    assert (figure.data[0].x[0], figure.data[0].x[5]) == ("below 8", "128 and more")
    words = [words.split("<br>") for words in figure.layout.xaxis.ticktext]
    assert [size for size, _ in words] == list(figure.data[0].x)
    assert [result for _, result in words] == ["4 of 8", "none", "none", "none", "none", "2 of 2"]
    assert len(objects_chart(counts[:2], ["background", "a"]).data) == 1


def test_precision_and_recall_with_the_thresholds_marked():
    histogram = np.zeros((256, 2), np.int64)
    histogram[60], histogram[200] = (8, 2), (1, 9)
    figure = precision_recall_chart(precision_recall_curve(histogram), 0.25)
    lines = {trace.name: trace for trace in figure.data}
    chosen = lines["chosen on validation: 0.250"]
    assert (chosen.x[0], chosen.y[0]) == pytest.approx((9 / 11, 0.9))
    assert (lines["0.5"].x[0], lines["0.5"].y[0]) == pytest.approx((9 / 11, 0.9))
    assert not precision_recall_chart(None, None).data


def history(epochs: int) -> pd.DataFrame:
    epoch = np.arange(epochs)
    return pd.DataFrame({
        "epoch": epoch,
        "train/loss": 1 / (1 + epoch),
        "validation/loss": 1.1 / (1 + epoch),
        "validation/dice/mean": np.sin(epoch / 3),
        "validation/iou/mean": np.sin(epoch / 3) / 2,
        "train/learning_rate": 1e-3,
        "train/throughput": 30.0,
    })  # fmt: skip


@pytest.mark.parametrize("epochs", [1, 10, 200])
def test_curves_mark_the_best_epoch(epochs):
    table = history(epochs)
    figure = training_curves(table)
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines["training loss"].y) == table["train/loss"].tolist()
    assert {"validation loss", "mean Dice", "mean IoU", "learning rate"} <= set(lines)
    best = int(table["validation/dice/mean"].argmax())
    assert {shape.x0 for shape in figure.layout.shapes} == {best}
    assert str(best) in figure.layout.annotations[0].text


def test_curves_without_validation_or_without_anything():
    figure = training_curves(history(3)[["epoch", "train/loss"]])
    assert [trace.name for trace in figure.data] == ["training loss"]
    assert not training_curves(pd.DataFrame({"epoch": []})).data
    broken = history(3).assign(**{"validation/dice/mean": np.nan})
    assert not training_curves(broken).layout.shapes
