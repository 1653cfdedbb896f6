"""Curve, average precision and threshold beside scikit-learn and a search over all thresholds."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from unet_segmentation.metrics.basis import EvaluationSettings, sparse_table
from unet_segmentation.metrics.definitions import dice_per_class
from unet_segmentation.metrics.thresholds import (
    BINS,
    THRESHOLDS,
    Foreground,
    average_precision,
    best_threshold,
    counts_at,
    foreground_histogram,
    precision_recall_curve,
)


def predicted(seed: int, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.choice([0, 1, 255], (40, 50), p=[0.9 - share, share, 0.1]).astype(np.uint8)
    logits = random.normal(0, 1.5, truth.shape) + 2.0 * (truth == 1) - 1.0
    return truth, (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_curve_and_average_precision_equal_scikit_learn(seed):
    truth, probability = predicted(seed)
    histogram = foreground_histogram(truth, probability)
    counted = truth != 255
    true, rounded = truth[counted], np.floor(probability[counted] * BINS) / BINS
    assert average_precision(histogram) == pytest.approx(average_precision_score(true, rounded), abs=1e-12)
    curve = precision_recall_curve(histogram).set_index("threshold")
    for threshold in (0.0, 1 / 256, 0.25, 0.5, 0.75):
        chosen = probability[counted] >= threshold
        assert curve.loc[threshold, "precision"] == pytest.approx(precision_score(true, chosen), abs=1e-12)
        assert curve.loc[threshold, "recall"] == pytest.approx(recall_score(true, chosen), abs=1e-12)
        dice = dice_per_class(counts_at(histogram, threshold))[0]
        assert dice == pytest.approx(f1_score(true, chosen), abs=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_best_threshold_equals_a_search(share):
    truth, probability = predicted(9, share)
    counted = truth != 255
    dices = [f1_score(truth[counted], probability[counted] >= threshold) for threshold in THRESHOLDS[1:]]
    result = best_threshold(foreground_histogram(truth, probability))
    assert dices[round(result * BINS) - 1] == pytest.approx(max(dices), abs=1e-12)


def test_degenerate_masks():
    background, foreground = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)
    probability = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    nothing = foreground_histogram(background, probability)
    assert best_threshold(nothing) is None
    assert np.isnan(average_precision(nothing))
    everything = foreground_histogram(foreground, probability)
    assert average_precision(everything) == 1
    assert best_threshold(everything) == 23 / BINS  # 1 / 11 lies in that bin; only the pixel of probability 0 is missed
    assert not foreground_histogram(np.full((3, 4), 255, np.uint8), probability).any()
    assert everything[-1].tolist() == [0, 1]  # a probability of 1 is in the last bin


def test_of_equal_thresholds_the_nearest_to_one_half_is_chosen():
    truth = np.array([[0, 1]], np.uint8)
    assert best_threshold(foreground_histogram(truth, np.array([[0.1, 0.9]], np.float32))) == 0.5
    assert best_threshold(foreground_histogram(truth, np.array([[0.7, 0.9]], np.float32))) == 180 / 256
    assert best_threshold(foreground_histogram(truth, np.array([[0.1, 0.2]], np.float32))) == 51 / 256


def test_table_adds_up_to_all_images():
    images = {f"image {seed}": foreground_histogram(*predicted(seed)) for seed in range(3)}
    table = sparse_table(images.items(), Foreground)
    assert list(table) == ["sample_id", "bin", "background", "foreground"]
    np.testing.assert_array_equal(Foreground(EvaluationSettings(2)).total(table), sum(images.values()))
    assert not Foreground(EvaluationSettings(2)).total(sparse_table([], Foreground)).any()
