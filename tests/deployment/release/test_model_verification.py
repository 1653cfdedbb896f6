from __future__ import annotations

import numpy as np
import pytest

from unet_segmentation.deployment.release.model_verification import verify_counts
from unet_segmentation.metrics.confusion_matrix import confusion_table

HERE = {"device": "cpu AVX512", "precision": "float32", "torch": "2.15.0"}
THERE = HERE | {"device": "cuda NVIDIA H100", "precision": "tf32"}
CLASSES = ["background", "cell"]


def compared(again, *, before=HERE, tolerance=0.001):
    stored = {"a": np.array([[900, 10], [20, 70]]), "b": np.array([[500, 0], [0, 500]])}
    tables = [confusion_table((name, matrix.astype(np.int64)) for name, matrix in each.items())
              for each in (stored, stored | again)]  # fmt: skip
    return verify_counts(*tables, ["a", "b"], CLASSES, arithmetic=(before, HERE), tolerance=tolerance)


@pytest.mark.parametrize("before", [HERE, THERE, {}])
def test_the_same_counts_pass_everywhere(before):
    result = compared({}, before=before)
    assert result.passed
    assert result.same_arithmetic is (before == HERE)
    assert result.sentence == "The logged model, in a clean process, gives the counts of all 2 images exactly."


def test_on_the_same_device_not_one_pixel_may_differ():
    result = compared({"a": np.array([[901, 9], [20, 70]])}, tolerance=0.5)
    assert not result.passed
    assert result.images_different == 1
    assert "1 of 2 images differently" in result.sentence
    assert "on the same device (cpu AVX512, float32, torch 2.15.0), where nothing may" in result.sentence


def test_on_another_device_no_score_may_differ_by_more_than_the_tolerance():
    one = {"a": np.array([[901, 9], [20, 70]])}
    # by hand: hits 570, predicted 580 -> 579, so the precision of the class changes most
    expected = 570 / 579 - 570 / 580
    result = compared(one, before=THERE, tolerance=expected * 1.01)
    assert result.passed
    # of a problem with one class beside the background, the means without it are that class's
    assert result.score in ("precision/class/cell", "precision/foreground_mean", "precision/foreground_micro")
    assert result.difference == pytest.approx(expected)
    assert "within the tolerance" in result.sentence
    result = compared(one, before=THERE, tolerance=expected * 0.99)
    assert not result.passed
    assert "more than the tolerance" in result.sentence
    assert "evaluated on cuda NVIDIA H100, tf32" in result.sentence


def test_a_score_that_is_no_longer_defined_passes_nowhere():
    gone = {"a": np.array([[1000, 0], [0, 0]]), "b": np.array([[1000, 0], [0, 0]])}
    result = compared(gone, before=THERE, tolerance=0.99)
    assert not result.passed
    assert result.difference is None
