"""Calibration beside a loop over pixels, torchmetrics and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.classification import MulticlassCalibrationError

from unet_segmentation.metrics.basis import EvaluationSettings, sparse_table
from unet_segmentation.metrics.calibration import (
    BINS,
    Calibration,
    calibration_sums,
    expected_calibration_error,
    maximum_calibration_error,
    reliability,
)

CLASSES = 4


def predicted(seed: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask with ignored pixels, and probabilities that are right more often than not."""
    random = np.random.default_rng(seed)
    truth = random.choice([0, 1, 2, 3, 255], (23, 31), p=[0.3, 0.2, 0.2, 0.2, 0.1]).astype(np.uint8)
    logits = random.normal(0, sharpness, (CLASSES, *truth.shape))
    for number in range(CLASSES):
        logits[number][truth == number] += sharpness
    exponents = np.exp(logits)
    return truth, (exponents / exponents.sum(axis=0)).astype(np.float32)


def sums_of(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return calibration_sums(truth, probabilities.argmax(axis=0).astype(np.uint8), probabilities.max(axis=0))


@pytest.mark.parametrize("seed", range(5))
def test_errors_equal_torchmetrics(seed):
    truth, probabilities = predicted(seed, sharpness=1 + seed)
    sums = sums_of(truth, probabilities)
    tensors = torch.from_numpy(probabilities)[None], torch.from_numpy(truth.astype(np.int64))[None]
    for norm, function in (("l1", expected_calibration_error), ("max", maximum_calibration_error)):
        expected = MulticlassCalibrationError(CLASSES, n_bins=BINS, norm=norm, ignore_index=255)(*tensors).item()
        assert function(sums) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_sums_equal_a_loop_over_pixels(seed):
    truth, probabilities = predicted(seed)
    expected = np.zeros((BINS, 3))
    for row, column in np.argwhere(truth != 255):
        values = probabilities[:, row, column]
        place = min(int(np.float32(values.max()) * np.float32(BINS)), BINS - 1)
        expected[place] += 1, float(values.max()), values.argmax() == truth[row, column]
    np.testing.assert_allclose(sums_of(truth, probabilities), expected, rtol=1e-12)


def test_curve_equals_scikit_learn():
    truth, probabilities = predicted(7)
    counted = truth != 255
    confidence = probabilities.max(axis=0)[counted].astype(np.float64)
    right = probabilities.argmax(axis=0)[counted] == truth[counted]
    accuracy, mean = calibration_curve(right, confidence, n_bins=BINS)
    curve = reliability(sums_of(truth, probabilities)).query("pixels > 0")
    np.testing.assert_allclose(curve["accuracy"], accuracy, atol=1e-12)
    np.testing.assert_allclose(curve["confidence"], mean, atol=1e-12)


def test_degenerate_predictions():
    truth = np.array([[0, 1, 1, 255]], np.uint8)
    sure = calibration_sums(truth, np.array([[0, 1, 0, 0]], np.uint8), np.ones((1, 4), np.float32))
    assert sure[-1].tolist() == [3, 3, 2]  # a probability of 1 is in the last bin
    assert expected_calibration_error(sure) == maximum_calibration_error(sure) == pytest.approx(1 / 3)
    nothing = calibration_sums(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), np.ones((2, 2), np.float32))
    assert np.isnan(expected_calibration_error(nothing))
    assert np.isnan(maximum_calibration_error(nothing))
    assert reliability(nothing)["accuracy"].isna().all()


def test_a_perfectly_calibrated_coin():
    """Half of the pixels with a confidence of one half are right."""
    truth = np.tile(np.array([[0, 1]], np.uint8), (4, 4))
    sums = calibration_sums(truth, np.zeros_like(truth), np.full(truth.shape, 0.5, np.float32))
    assert expected_calibration_error(sums) == 0


def test_table_adds_up_to_all_images():
    images = {f"image {seed}": sums_of(*predicted(seed)) for seed in range(3)}
    images["ignored"] = np.zeros((BINS, 3))
    table = sparse_table(images.items(), Calibration)
    assert list(table) == ["sample_id", "bin", "pixels", "confidence", "correct"]
    assert [str(kind) for kind in table.dtypes[1:]] == ["int64", "int64", "float64", "int64"]
    np.testing.assert_allclose(Calibration(EvaluationSettings(2)).total(table), sum(images.values()), rtol=1e-12)
    assert Calibration(EvaluationSettings(2)).total(sparse_table([], Calibration)).shape == (BINS, 3)
