"""Charts: the numbers in them."""

import json

import numpy as np
import pandas as pd
import pytest

from unet_segmentation.figures.charts import class_chart, confusion_chart
from unet_segmentation.figures.curves import training_curves


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


def history(epochs: int) -> pd.DataFrame:
    epoch = np.arange(epochs)
    return pd.DataFrame({
        "epoch": epoch,
        "train/loss": 1 / (1 + epoch),
        "validation/loss": 1.1 / (1 + epoch),
        "validation/dice/mean": np.sin(epoch / 3),
        "validation/iou/mean": np.sin(epoch / 3) / 2,
        "train/learning_rate": 1e-3,
        "train/images_per_second": 30.0,
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
