"""Regions beside OpenCV's, SciPy's, pycocotools' and rasterio's reading of them."""

import json

import cv2
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from rasterio.features import rasterize, shapes
from scipy import ndimage

from unet_segmentation.inference.polygons.connected_components import Regions

CLASSES = ["background", "cell", "nucleus"]


def random_mask(seed: int, height: int = 37, width: int = 50) -> np.ndarray:
    """Blobs with holes, and pixels that touch at corners only."""
    generator = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(generator.normal(size=(height, width)).astype(np.float32), (0, 0), 1.2)
    return np.digitize(noise, np.quantile(noise, (0.6, 0.85))).astype(np.uint8)


def found(mask: np.ndarray, seed: int = 0) -> tuple[Regions, np.ndarray]:
    confidence = np.random.default_rng(seed).uniform(0.4, 1, mask.shape).astype(np.float32)
    return Regions(mask, confidence), confidence


def as_written(values):
    return json.loads(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY))


@pytest.mark.parametrize("seed", range(5))
def test_regions_are_those_of_opencv(seed):
    mask = random_mask(seed)
    regions, confidence = found(mask)
    for class_id in (1, 2):
        count, labels, statistics, _ = cv2.connectedComponentsWithStats((mask == class_id).astype(np.uint8), None, 8)
        actual = [number for number, each in enumerate(regions.class_ids) if each == class_id]
        assert len(actual) == count - 1
        assert sorted(regions.areas[actual]) == sorted(statistics[1:, cv2.CC_STAT_AREA])
        means = sorted(confidence[labels == number].mean() for number in range(1, count))
        np.testing.assert_allclose(sorted(regions.confidences[actual]), means, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_coco_masks_drawn_by_pycocotools_give_the_mask_back(height, width, seed):
    mask = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    drawn = np.zeros_like(mask)
    for annotation in found(mask)[0].annotations():
        code = coco_mask.frPyObjects(annotation["segmentation"], height, width)
        one = coco_mask.decode(code).astype(bool)
        assert not drawn[one].any()
        drawn[one] = annotation["category_id"]
        assert annotation["area"] == int(coco_mask.area(code))
        assert annotation["bbox"] == coco_mask.toBbox(code).tolist()
    np.testing.assert_array_equal(drawn, mask)


@pytest.mark.parametrize("seed", range(5))
def test_polygons_drawn_by_rasterio_give_the_mask_back(seed):
    mask = random_mask(seed)
    collection = as_written(found(mask)[0].features(CLASSES))
    shapes = [(each["geometry"], each["properties"]["class_id"]) for each in collection["features"]]
    np.testing.assert_array_equal(rasterize(shapes, mask.shape, dtype=np.uint8), mask)
    for feature in collection["features"]:
        properties = feature["properties"]
        assert CLASSES[properties["class_id"]] == properties["class"]
        rings = [ring for polygon in feature["geometry"]["coordinates"] for ring in polygon]
        signed = sum(0.5 * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) for x, y in (np.array(ring).T for ring in rings))
        assert abs(signed) == properties["area"]  # outer rings and holes turn in opposite ways


def canonical(ring) -> tuple:
    """A closed line, whatever point and direction it begins with."""
    points = [tuple(map(int, point)) for point in ring[:-1]]
    assert tuple(map(int, ring[-1])) == points[0]
    turned = [way[number:] + way[:number] for way in (points, points[::-1]) for number in range(len(points))]
    return tuple(min(turned))


def canonical_polygons(polygons) -> list:
    """Polygons in some order; holes likewise, the outer ring first."""
    return sorted((canonical(rings[0]), sorted(map(canonical, rings[1:]))) for rings in polygons)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000), st.integers(2, 4))
def test_polygons_are_those_of_gdal(height, width, seed, classes):
    mask = np.random.default_rng(seed).integers(0, classes, (height, width), dtype=np.uint8)
    features = as_written(found(mask)[0].features(["background", "cell", "nucleus", "other"]))["features"]
    actual = [polygon for feature in features for polygon in feature["geometry"]["coordinates"]]
    reference = [shape["coordinates"] for shape, _ in shapes(mask, mask=mask > 0, connectivity=4)]
    assert canonical_polygons(actual) == canonical_polygons(reference)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_regions_are_those_of_scipy(height, width, seed):
    mask = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    regions, _ = found(mask)
    expected = []
    for class_id in (1, 2):
        labels, count = ndimage.label(mask == class_id, structure=np.ones((3, 3)))
        boxes = ndimage.find_objects(labels)
        areas = ndimage.sum_labels(labels > 0, labels, range(1, count + 1))
        expected += [
            (class_id, int(area), x.start, y.start, x.stop - x.start, y.stop - y.start)
            for area, (y, x) in zip(areas, boxes, strict=True)
        ]
    actual = [(each["category_id"], each["area"], *each["bbox"]) for each in regions.annotations()]
    assert sorted(actual) == sorted(expected)


def test_an_image_without_foreground_has_no_region():
    regions, _ = found(np.zeros((5, 7), np.uint8))
    assert regions.features(CLASSES)["features"] == []
    assert list(regions.annotations()) == []
