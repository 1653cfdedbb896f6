"""Objects beside a flood fill."""

import numpy as np
import pytest

from unet_segmentation.metrics.basis import EvaluationSettings, sparse_table
from unet_segmentation.metrics.object_recall import SIZES, Objects, count_objects, recall

CLASSES = 3


def flood_fill(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    counts = np.zeros((CLASSES, len(SIZES), 2), np.int64)
    seen = np.zeros(truth.shape, bool)
    for start in map(tuple, np.argwhere((truth > 0) & (truth != 255))):
        if seen[start]:
            continue
        number, stack, pixels = truth[start], [start], []
        seen[start] = True
        while stack:
            row, column = stack.pop()
            pixels.append((row, column))
            for r in range(max(row - 1, 0), min(row + 2, truth.shape[0])):
                for c in range(max(column - 1, 0), min(column + 2, truth.shape[1])):
                    if truth[r, c] == number and not seen[r, c]:
                        seen[r, c] = True
                        stack.append((r, c))
        diameter = 2 * np.sqrt(len(pixels) / np.pi)
        size = sum(diameter >= edge for edge in (8, 16, 32, 64, 128))
        counts[number, size, 0] += 1
        counts[number, size, 1] += 2 * sum(prediction[pixel] == number for pixel in pixels) > len(pixels)
    return counts


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
@pytest.mark.parametrize("block", [1, 5])
def test_counts_equal_a_flood_fill(share, block):
    random = np.random.default_rng(block)
    small = random.choice([0, 1, 2, 255], (40, 50), p=[0.9 - share, share * 0.6, share * 0.4, 0.1])
    truth = small.astype(np.uint8).repeat(block, axis=0).repeat(block, axis=1)
    prediction = np.where((truth == 255) | (random.random(truth.shape) < 0.45), 1, truth).astype(np.uint8)
    result = count_objects(truth, prediction, CLASSES)
    np.testing.assert_array_equal(result, flood_fill(truth, prediction))
    assert result[..., 0].sum() > 0


def test_exactly_half_is_not_found_and_diagonal_neighbors_are_one_object():
    truth = np.eye(4, dtype=np.uint8)
    half = np.diag([1, 1, 0, 0]).astype(np.uint8)
    assert count_objects(truth, half, 2)[1, 0].tolist() == [1, 0]
    assert count_objects(truth, np.diag([1, 1, 1, 0]).astype(np.uint8), 2)[1, 0].tolist() == [1, 1]


def test_a_size_holds_its_lower_edge():
    areas = {50: 0, 51: 1, 201: 1, 202: 2}  # pi / 4 x 64 = 50.3; pi / 4 x 256 = 201.1
    for area, size in areas.items():
        truth = np.zeros((1, 250), np.uint8)
        truth[0, :area] = 1
        assert count_objects(truth, truth, 2)[1, size].tolist() == [1, 1]


def test_without_objects_nothing_is_defined():
    empty = np.zeros((5, 5), np.uint8)
    assert not count_objects(empty, empty, CLASSES).any()
    assert not count_objects(np.full((5, 5), 255, np.uint8), empty, CLASSES).any()
    assert np.isnan(recall(count_objects(empty, empty, CLASSES))).all()


def test_table_adds_up_to_all_images():
    random = np.random.default_rng(0)
    images = {}
    for name in "abc":
        truth, prediction = random.integers(0, CLASSES, (2, 30, 30), dtype=np.uint8)
        images[name] = count_objects(truth, prediction, CLASSES)
    table = sparse_table(images.items(), Objects)
    assert list(table) == ["sample_id", "class", "size", "objects", "found"]
    np.testing.assert_array_equal(Objects(EvaluationSettings(CLASSES)).total(table), sum(images.values()))
    assert Objects(EvaluationSettings(CLASSES)).total(sparse_table([], Objects)).sum() == 0
