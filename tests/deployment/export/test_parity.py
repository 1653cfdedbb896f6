"""The gate's figures against arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.specs import make_spec
from unet_segmentation.deployment.export.parity import Case, failures, hold_against, odd_cases, summarize
from unet_segmentation.parameters import ExportParameters, PredictorParameters

CLASSES = ["background", "cell"]
SPEC = make_spec(classes=CLASSES, in_channels=1, multiple=8)
INFERENCE = PredictorParameters()


class Pointwise:
    """A network for single pixels: the logit of the cell is (value - 100) / 50; one pixel may be computed otherwise."""

    name = "pointwise"

    def __init__(self, shift: float = 0.0, where: int | None = None) -> None:
        self.shift, self.where = shift, where

    def both(self, images):
        values = images[..., 0].astype(np.float32)
        logit = (values - 100) / 50
        logit = logit + (self.shift if self.where is None else self.shift * (values == self.where))
        logits = np.stack([np.zeros_like(logit), logit], axis=1)
        powers = np.exp(logits)
        return powers / powers.sum(axis=1, keepdims=True), logits


def cases():
    """A sample in which the value 90 occurs once, in row 3 and column 5, and one without it."""
    first = np.full((10, 12, 1), 200, np.uint8)
    first[:, :4] = 10
    first[3, 5] = 90
    truth = (first[..., 0] > 100).astype(np.uint8)
    truth[0, 0] = 255
    yield Case("split", "with it", first, truth)
    yield Case("split", "without", np.full((8, 8, 1), 10, np.uint8), np.zeros((8, 8), np.uint8))
    yield from odd_cases(first, 8, INFERENCE)


def check(*, name="model.onnx", shift=0.0, where=None, **parameters):
    parity = hold_against(Pointwise(), {name: Pointwise(shift, where)}, cases, SPEC, INFERENCE)
    figures = summarize(parity, CLASSES)
    return parity, figures, failures(parity, figures, ExportParameters(**parameters))


def test_the_same_passes():
    parity, figures, result = check()
    assert result == []
    assert figures["model.onnx/agreement"] == 1
    assert figures["model.onnx/probability"] == 0
    assert figures["model.onnx/score_difference"] == 0
    assert figures["model.onnx/images"] == 9
    assert len(parity.table) == 9


def test_one_wrong_pixel_is_found_and_measured():
    parity, figures, result = check(shift=3.0, where=90, min_agreement=1.0)
    row = parity.table.set_index("image").loc["with it"]
    sigmoid = lambda logit: 1 / (1 + math.exp(-logit))  # noqa: E731
    assert (row["row"], row["column"]) == (3, 5)
    assert row["probability"] == pytest.approx(sigmoid(-0.2 + 3) - sigmoid(-0.2), abs=1e-6)
    assert row["logit"] == pytest.approx(3, abs=1e-5)
    assert row["pixels"] - row["equal_pixels"] == 1
    # 120 pixels less one that is ignored: 79 of the cell, all found, and now one of the background beside them.
    dice = (2 * 79 / (2 * 79 + 1) + 2 * (40 - 1 + 64 - 1 + 1) / (2 * (40 - 1 + 64 - 1 + 1) + 1)) / 2
    assert figures["model.onnx/dice/mean"] == pytest.approx(dice)
    assert figures["network/dice/mean"] == 1
    assert figures["model.onnx/dice/mean_lost"] == pytest.approx(1 - dice)
    text = " ".join(result)
    assert "model.onnx: a probability differs by 0.49" in text
    assert "(10 x 12 pixels) at row 3, column 5" in text or "larger than max_pixels" in text
    assert "(export.min_agreement)" in text
    assert "(export.max_score_difference)" in text


@pytest.mark.parametrize(
    ("loosened", "left"),
    [
        ({"max_probability_difference": 0.6}, {"export.min_agreement", "export.max_score_difference"}),
        ({"max_probability_difference": 0.6, "min_agreement": 0.99}, {"export.max_score_difference"}),
        ({"max_probability_difference": 0.6, "min_agreement": 0.99, "max_score_difference": 0.1}, set()),
    ],
)
def test_each_tolerance_is_asked_for_itself(loosened, left):
    _, _, result = check(shift=3.0, where=90, **{"min_agreement": 1.0, **loosened})
    keys = {"export.max_probability_difference", "export.min_agreement", "export.max_score_difference"}
    assert {key for key in keys if any(key in sentence for sentence in result)} == left


def test_8_bits_are_judged_by_their_loss_in_score_alone():
    name = "model.int8.onnx"
    assert check(name=name, shift=3.0, where=90, max_int8_score_drop=0.05)[2] == []
    (sentence,) = check(name=name, shift=3.0, where=90, max_int8_score_drop=0.001)[2]
    assert "dice/mean falls by" in sentence or "iou/mean falls by" in sentence
    assert "export.max_int8_score_drop" in sentence


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_what_is_no_number_does_not_pass(name):
    _, figures, result = check(name=name, shift=float("nan"), where=90)
    assert figures[f"{name}/probability"] is None  # JSON has no infinity
    assert any("a probability is no number; most in" in sentence for sentence in result)


def test_odd_sizes_are_odd():
    image = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3)
    inference = PredictorParameters(max_pixels=5000, tile_size=64)
    sizes = [case.image.shape for case in odd_cases(image, 32, inference)]
    assert (1, 1, 3) in sizes
    assert all(shape[2] == 3 for shape in sizes)
    assert any(height % 32 and width % 32 for height, width, _ in sizes)
    assert any(height < 32 and width < 32 for height, width, _ in sizes)
    assert any(height * width > 5000 for height, width, _ in sizes)
    assert max(height * width for height, width, _ in sizes) < 2 * 5000 + 32 * 13 * 32
    assert all(case.image.dtype == np.uint16 and case.truth is None for case in odd_cases(image, 32, inference))
