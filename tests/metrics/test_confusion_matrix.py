"""Counts beside a loop over pixels and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import confusion_matrix as sklearn_matrix

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.confusion_matrix import (
    ClassCounts,
    class_counts,
    confusion_matrices,
    confusion_matrix,
    confusion_table,
    total_matrix,
)
from unet_segmentation.metrics.soft_overlap import soft_overlap_sums
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

CLASSES = 4


def masks(seed: int = 0, shape: tuple[int, int] = (19, 23)) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.choice([0, 1, 2, 3, 255], shape).astype(np.uint8)
    return truth, random.integers(0, CLASSES, shape, dtype=np.uint8)


def test_matrix_equals_a_loop_over_pixels_and_scikit_learn():
    truth, prediction = masks()
    expected = np.zeros((CLASSES, CLASSES), np.int64)
    for true, predicted in zip(truth.ravel(), prediction.ravel(), strict=True):
        if true != 255:
            expected[true, predicted] += 1
    result = confusion_matrix(truth, prediction, CLASSES)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)
    counted = truth != 255
    np.testing.assert_array_equal(result, sklearn_matrix(truth[counted], prediction[counted], labels=range(CLASSES)))


@given(arrays.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 255])), st.integers(0, 2))
def test_every_counted_pixel_is_counted_once(truth, constant):
    result = confusion_matrix(truth, np.full_like(truth, constant), 3)
    assert result.sum() == (truth != 255).sum()
    assert result[:, constant].sum() == result.sum()


def test_all_255_classes_fit():
    truth = np.arange(255, dtype=np.uint8)[None]
    np.testing.assert_array_equal(confusion_matrix(truth, truth, 255), np.eye(255, dtype=np.int64))


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[0, 1]], [[0, 3]], "prediction holds the values 3"),
        ([[255, 1]], [[255, 1]], "prediction holds the values 255"),
        ([[0, 7]], [[0, 1]], "mask holds the values 7"),
        ([[0, 1, 1]], [[0, 1]], "cannot be compared"),
    ],
)
def test_values_that_are_no_classes_are_refused(truth, prediction, message):
    with pytest.raises(DataError, match=message):
        confusion_matrix(np.array(truth, np.uint8), np.array(prediction, np.uint8), 3)


def test_negative_and_fractional_values_are_refused():
    good = np.zeros((2, 2), np.uint8)
    with pytest.raises(DataError, match="-1"):
        confusion_matrix(good, np.full((2, 2), -1), 3)
    with pytest.raises(DataError, match="float64"):
        confusion_matrix(good, np.full((2, 2), 0.5), 3)


def test_table_and_back():
    images = {f"image {seed}": masks(seed) for seed in range(5)}
    images["ignored"] = (np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8))
    matrices = {name: confusion_matrix(*pair, CLASSES) for name, pair in images.items()}
    table = confusion_table(matrices.items())
    assert list(table.columns) == ["sample_id", "truth", "prediction", "count"]
    assert (table["count"] > 0).all()
    assert (table.dtypes[["truth", "prediction", "count"]] == np.int64).all()
    expected = np.stack(list(matrices.values()))
    np.testing.assert_array_equal(confusion_matrices(table, CLASSES, list(images)), expected)
    np.testing.assert_array_equal(confusion_matrices(table, CLASSES), expected[:-1])  # the ignored one has no row
    np.testing.assert_array_equal(total_matrix(table, CLASSES), expected.sum(axis=0))
    from_table, from_matrices = class_counts(table, CLASSES, list(images)), ClassCounts.of(expected)
    for name in ("tp", "support", "predicted", "union"):
        np.testing.assert_array_equal(getattr(from_table, name), getattr(from_matrices, name))


def test_table_with_another_image_is_refused():
    table = confusion_table([("a", np.eye(2, dtype=np.int64)), ("b", np.eye(2, dtype=np.int64))])
    with pytest.raises(DataError, match="b"):
        class_counts(table, 2, ["a"])


def test_empty_table():
    table = confusion_table([])
    assert confusion_matrices(table, 3, ["a"]).tolist() == np.zeros((1, 3, 3)).tolist()


def test_counts_beyond_float_precision_stay_exact():
    big = 2**60 + 1
    table = confusion_table([("a", np.array([[big, 0], [0, 1]]))])
    assert total_matrix(table, 2)[0, 0] == big


def test_soft_counts_equal_sums_over_one_hot():
    truth, _ = masks(1)
    random = np.random.default_rng(2)
    probabilities = random.dirichlet(np.ones(CLASSES), truth.shape).transpose(2, 0, 1).astype(np.float32)
    counted = truth != 255
    one_hot = np.stack([truth == number for number in range(CLASSES)]) & counted
    result = soft_overlap_sums(truth, probabilities)
    exact = probabilities.astype(np.float64)
    np.testing.assert_allclose(result.intersection, (exact * one_hot).sum(), rtol=1e-12)
    assert result.truth == one_hot.sum() == counted.sum()
    np.testing.assert_allclose(result.prediction, (exact * counted).sum(), rtol=1e-12)


def test_soft_counts_without_ignored_pixels_and_without_counted_ones():
    probabilities = np.full((2, 3, 3), 0.5, np.float32)
    assert soft_overlap_sums(np.ones((3, 3), np.uint8), probabilities) == (4.5, 9.0, 9.0)
    assert soft_overlap_sums(np.full((3, 3), IGNORE_INDEX, np.uint8), probabilities) == (0.0, 0.0, 0.0)
    with pytest.raises(DataError, match="does not go with"):
        soft_overlap_sums(np.ones((2, 3), np.uint8), probabilities)
