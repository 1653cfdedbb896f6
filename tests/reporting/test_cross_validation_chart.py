"""The chart of a cross-validation: the numbers in it."""

import json

from unet_segmentation.reporting.score_charts import folds_chart

METRICS = {
    "dice/mean": 0.8,
    "iou/mean": None,
    **{f"cv/fold_{fold}/dice/mean": fold / 20 for fold in range(1, 12)},
    **{f"cv/fold_{fold}/iou/mean": None for fold in range(1, 12)},
    "cv/dice/mean/mean": 0.7,
}


def test_every_fold_is_a_point_and_all_samples_a_line():
    figure = folds_chart(METRICS)
    dice, iou = figure.data
    assert list(dice.x) == [str(fold) for fold in range(1, 12)]  # in the order of numbers, not of text
    assert list(dice.y) == [fold / 20 for fold in range(1, 12)]
    assert list(iou.y) == [None] * 11
    assert [shape.y0 for shape in figure.layout.shapes] == [0.8]
    json.loads(figure.to_json())
