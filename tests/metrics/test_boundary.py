"""Boundary scores beside brute force: all pairs of contour points, and the band as its authors' code makes it."""

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from unet_segmentation.metrics.basis import EvaluatedImage, EvaluationSettings
from unet_segmentation.metrics.boundary import MEASURES, Boundary, measure_boundaries, ratio

CLASSES = 3
TOLERANCE = 1.5


def boundary_table(images, classes, measures, tolerance):
    """Measure images (name, truth, prediction), and build their table."""
    basis = Boundary(EvaluationSettings(classes, tuple(measures), tolerance))
    builder = basis.table_builder()
    for name, truth, prediction in images:
        builder.add(name, basis.measure(EvaluatedImage(truth, prediction)))
    return builder.build()


def boundary_values(table, classes):
    """Return the metrics of every class that the table holds."""
    sums = Boundary(EvaluationSettings(classes)).unit_sums(table, table["sample_id"].unique().tolist())
    return {name: ratio(values.sum(axis=0)) for name, values in sums.items()}


def blobs(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    field = ndimage.gaussian_filter(random.normal(size=shape), 3)
    return np.digitize(field, np.quantile(field, [0.5, 0.8])).astype(np.uint8)


def pair(kind: str) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(len(kind))
    shape = (1, 40) if kind == "one row" else (60, 83)
    truth, prediction = blobs(random, shape), blobs(random, shape)
    if kind in ("shifted", "ignored", "all ignored"):
        prediction = np.roll(truth, (2, 1), (0, 1))
        prediction[random.random(shape) < 0.02] = 2
    if kind == "ignored":
        truth[10:30, 20:50] = 255
        truth[random.random(shape) < 0.1] = 255
    elif kind == "all ignored":
        truth[:] = 255
    elif kind == "noise":
        truth, prediction = random.integers(0, CLASSES, (2, *shape), dtype=np.uint8)
    elif kind == "perfect":
        prediction = truth.copy()
    elif kind == "class missed":
        prediction[prediction == 2] = 0
    elif kind == "class invented":
        truth[truth == 2] = 0
    elif kind == "class absent":
        truth[truth == 2], prediction[prediction == 2] = 0, 1
    elif kind == "single pixels":
        truth[:], prediction[:] = 0, 0
        truth[5, 7], prediction[44, 80] = 1, 1
    elif kind == "full":
        truth[:], prediction[:] = 1, 1
    return truth, prediction


KINDS = [
    "blobs", "shifted", "noise", "ignored", "all ignored", "perfect", "class missed", "class invented", "class absent",
    "single pixels", "full", "one row",
]  # fmt: skip


def brute_force(truth: np.ndarray, prediction: np.ndarray, number: int) -> dict[str, float] | None:
    counted = truth != 255
    masks = np.where(counted, truth, prediction) == number, prediction == number
    if not (masks[0] | masks[1]).any():
        return None
    diagonal = np.hypot(*truth.shape)
    bands = [authors_band(mask, max(1, round(0.02 * diagonal))) & counted for mask in masks]
    contours = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    directed = []
    for mine, other in (contours, contours[::-1]):
        points, others = np.argwhere(mine & counted), np.argwhere(other)
        directed.append(cdist(points, others).min(axis=1) if len(others) else np.full(len(points), np.inf))
    points = np.concatenate(directed)
    if not len(points):
        hd95 = np.nan
    elif np.isinf(points).any():
        hd95 = diagonal
    else:
        hd95 = max(np.percentile(part, 95) for part in directed if len(part))
    return {
        "intersection": (bands[0] & bands[1]).sum(), "union": (bands[0] | bands[1]).sum(), "hd95": hd95,
        "within": (points <= TOLERANCE).sum(), "contour": len(points),
    }  # fmt: skip


def authors_band(mask: np.ndarray, width: int) -> np.ndarray:
    """`mask_to_boundary` of the article's code (boundary-iou-api)."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return (mask.astype(np.uint8) - eroded[1:-1, 1:-1]).astype(bool)


@pytest.mark.parametrize("kind", KINDS)
def test_measurements_equal_brute_force(kind):
    truth, prediction = pair(kind)
    table = boundary_table([("a", truth, prediction)], CLASSES, MEASURES, TOLERANCE).set_index("class")
    for number in range(CLASSES):
        expected = brute_force(truth, prediction, number)
        says_nothing = expected is None or not np.nan_to_num(list(expected.values())).any()
        assert (number in table.index) != says_nothing
        if says_nothing:
            continue
        for name, value in expected.items():
            if name == "hd95" and np.isnan(value):
                assert table.loc[number, ["hd95", "hd95_defined"]].tolist() == [0, 0]
                continue
            assert table.loc[number, name] == pytest.approx(value, abs=1e-12, nan_ok=True), (number, name)


def test_an_empty_side_counts_as_the_diagonal_and_an_ignored_pixel_makes_no_error():
    truth, prediction = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    truth[3:6, 3:6] = 1
    table = boundary_table([("a", truth, prediction)], 2, MEASURES, 2)
    result = boundary_values(table, 2)
    assert result["hd95"][1] == pytest.approx(50)
    assert result["surface_dice"][1] == 0
    assert result["boundary_iou"][1] == 0
    truth[3:6, 3:6] = 255
    table = boundary_table([("a", truth, prediction)], 2, MEASURES, 2)
    result = boundary_values(table, 2)
    assert result["hd95"][0] == 0
    assert result["surface_dice"][0] == result["boundary_iou"][0] == 1
    assert np.isnan([values[1] for values in result.values()]).all()


def test_closed_form_of_a_shifted_square():
    truth, prediction = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    truth[20:60, 20:60], prediction[20:60, 25:65] = 1, 1
    distance, _ = measure_boundaries(truth, prediction, 2, ["hd95"], 0)[1]
    assert distance == pytest.approx(5)  # both vertical sides are 5 pixels off
    intersection, union = measure_boundaries(truth, prediction, 2, ["boundary_iou"], 0)[1]
    band = 40**2 - 34**2  # 2 % of the diagonal: 3 pixels
    assert intersection + union == 2 * band
    within, contour = measure_boundaries(truth, prediction, 2, ["surface_dice"], 5)[1]
    assert within == contour == 2 * (4 * 40 - 4)


def test_means_over_images_and_classes():
    table = pd.DataFrame({
        "sample_id": ["a", "a", "b", "c"], "class": [0, 1, 0, 1], "intersection": [1, 2, 3, 0], "union": [4, 2, 4, 0],
        "hd95": [1.0, 2.0, 4.0, 0.0], "hd95_defined": [1, 1, 1, 0], "within": [1, 2, 3, 0], "contour": [2, 2, 4, 0],
    })  # fmt: skip
    result = boundary_values(table, 3)
    np.testing.assert_allclose(result["boundary_iou"], [0.5, 1, np.nan])
    np.testing.assert_allclose(result["hd95"], [2.5, 2, np.nan])
    np.testing.assert_allclose(result["surface_dice"], [0.625, 1, np.nan])


def test_a_contour_that_is_met_exactly_counts_in_the_mean():
    truth = np.zeros((20, 20), np.uint8)
    truth[5:12, 5:12] = 1
    off = np.roll(truth, 3, axis=0)
    images = [("exact", truth, truth), ("off", truth, off)]
    table = boundary_table(images, 2, ["hd95"], 0)
    distance = boundary_values(table[table["sample_id"] == "off"], 2)["hd95"]
    assert (distance > 0).all()
    np.testing.assert_allclose(boundary_values(table, 2)["hd95"], distance / 2)


def test_only_what_is_asked_for_is_in_the_table():
    truth, prediction = pair("blobs")
    table = boundary_table([("a", truth, prediction)], CLASSES, ["hd95"], 1)
    assert list(table) == ["sample_id", "class", "hd95", "hd95_defined"]
    assert set(boundary_values(table, CLASSES)) == {"hd95"}
    empty = boundary_table([], CLASSES, [], 1)
    assert list(empty) == ["sample_id", "class"]
    assert boundary_values(empty, CLASSES) == {}
