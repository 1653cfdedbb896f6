"""Regions found while rows pass, beside those of the whole mask, and what GDAL reads of the file."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import warp
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine, from_origin

from tests.inference.test_connected_components import CLASSES, as_written, canonical_polygons, found, random_mask
from unet_segmentation.inference.polygons import streaming_components
from unet_segmentation.inference.polygons.streaming_components import Region, StreamingComponents
from unet_segmentation.inference.rasters.checkpoint import pack, unpack
from unet_segmentation.inference.rasters.geojson_writer import RegionFile

UTM = CRS.from_epsg(32632)
NORTH_UP = from_origin(500_000, 5_000_000, 0.3, 0.3)


def streamed(mask: np.ndarray, confidence: np.ndarray, heights) -> list[Region]:
    stream, regions, top = StreamingComponents.begin(mask.shape[1]), [], 0
    for height in [*heights, len(mask)]:
        regions += stream.add(mask[top : top + height], confidence[top : top + height])
        top += height
    return regions + list(stream.finish())


def comparable(class_id, area, confidence, polygons) -> tuple:
    return class_id, area, round(confidence, 5), canonical_polygons(polygons)


def check_like_whole(mask: np.ndarray, heights) -> None:
    regions, confidence = found(mask)
    expected = [
        comparable(*(each["properties"][name] for name in ("class_id", "area")), exact, each["geometry"]["coordinates"])
        for each, exact in zip(regions.features(list("abcd"))["features"], regions.confidences.tolist(), strict=True)
    ]
    actual = [comparable(*region) for region in streamed(mask, confidence, heights)]
    assert sorted((a, b, d) for a, b, _, d in actual) == sorted((a, b, d) for a, b, _, d in expected)
    np.testing.assert_allclose(sorted(c for _, _, c, _ in actual), sorted(c for _, _, c, _ in expected), atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 14),
    st.integers(1, 12),
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.lists(st.integers(1, 5), max_size=8),
)
def test_however_rows_come_the_regions_are_those_of_the_whole_mask(height, width, seed, classes, heights):
    check_like_whole(np.random.default_rng(seed).integers(0, classes, (height, width), dtype=np.uint8), heights)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("traced", [1, 50, 10**6])
def test_neither_strips_nor_groups_make_a_difference(seed, traced, monkeypatch):
    monkeypatch.setattr(streaming_components, "STRIP", 150)
    monkeypatch.setattr(streaming_components, "TRACED", traced)
    check_like_whole(random_mask(seed), [7, 1, 12])


def test_a_spiral_is_one_region():
    mask = np.zeros((41, 41), np.uint8)
    mask[::4] = 1
    mask[1::8, -1] = mask[2::8, -1] = mask[3::8, -1] = mask[5::8, 0] = mask[6::8, 0] = mask[7::8, 0] = 1
    assert len(streamed(mask, np.ones(mask.shape, np.float32), [1] * 40)) == 1
    check_like_whole(mask, [1] * 40)


@pytest.mark.parametrize(("name", "limit"), [("MOST", 40), ("LARGEST", 60)])
def test_too_many_corners_cut_regions_and_lose_no_pixel(monkeypatch, caplog, name, limit):
    monkeypatch.setattr(streaming_components, "STRIP", 200)
    monkeypatch.setattr(streaming_components, name, limit)
    mask = random_mask(0)
    regions = streamed(mask, np.ones(mask.shape, np.float32), [5] * 7)
    shapes = [
        ({"type": "MultiPolygon", "coordinates": as_written(region.polygons)}, region.class_id) for region in regions
    ]
    np.testing.assert_array_equal(rasterize(shapes, mask.shape, dtype=np.uint8), mask)
    assert sum(region.area for region in regions) == (mask > 0).sum()
    assert "cut along rows" in caplog.text
    whole = [each["geometry"]["coordinates"] for each in found(mask)[0].features(CLASSES)["features"]]
    assert max(corners(region.polygons) for region in regions) < max(map(corners, whole))


def corners(polygons) -> int:
    return sum(len(ring) - 1 for rings in polygons for ring in rings)


def test_only_the_region_that_is_too_large_is_cut(monkeypatch):
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :20] = 1
    mask[::2, 5:15] = 0  # many corners
    mask[3:37, 30:50] = 1
    monkeypatch.setattr(streaming_components, "STRIP", 120)
    monkeypatch.setattr(streaming_components, "LARGEST", 50)
    regions = streamed(mask, np.ones(mask.shape, np.float32), [])
    assert len(regions) > 2
    assert [region.area for region in regions if region.polygons[0][0][0][0] >= 30] == [34 * 20]


def written(path, mask, crs, transform) -> dict:
    file = RegionFile(path, CLASSES, crs, transform)
    file.add(streamed(mask, np.ones(mask.shape, np.float32), [10]))
    file.finish()
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("crs", "transform", "square_meters"),
    [
        (UTM, NORTH_UP, 0.3**2),
        (CRS.from_epsg(2263), from_origin(980_000, 200_000, 2, 2), (2 * 12 / 39.37) ** 2),  # in US survey feet
        (CRS.from_epsg(4326), from_origin(7.4, 46.9, 1e-5, 1e-5), None),
        (UTM, Affine(0.2, 0.1, 500_000, 0.1, -0.2, 5_000_000), 0.05),  # turned
        (UTM, Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000), 0.25),  # south up
        (None, NORTH_UP, None),
    ],
)
def test_the_file_drawn_by_gdal_gives_the_mask_back(tmp_path, crs, transform, square_meters):
    mask = random_mask(1)
    content = written(tmp_path / "a.geojson", mask, crs, transform)
    shapes = [(each["geometry"], each["properties"]["class_id"]) for each in content["features"]]
    np.testing.assert_array_equal(rasterize(shapes, mask.shape, transform=transform, dtype=np.uint8), mask)
    for each in content["features"]:
        properties = each["properties"]
        if square_meters is None:
            assert "square_meters" not in properties
        else:
            assert properties["square_meters"] == pytest.approx(properties["area"] * square_meters, abs=1e-4)
        for polygon in each["geometry"]["coordinates"]:
            x, y = np.array(polygon[0]).T
            assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0  # an outer line goes to the left


def test_the_projection_is_named(tmp_path):
    named = written(tmp_path / "utm.geojson", random_mask(0), UTM, NORTH_UP)["crs"]
    assert named == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    assert "crs" not in written(tmp_path / "world.geojson", random_mask(0), CRS.from_epsg(4326), NORTH_UP)


def test_a_projection_without_a_name_becomes_longitude_and_latitude(tmp_path):
    crs = CRS.from_proj4("+proj=laea +lat_0=47.3 +lon_0=9.1 +datum=WGS84")
    transform = from_origin(-300, 2000, 10, 10)
    content = written(tmp_path / "a.geojson", random_mask(2), crs, transform)
    assert "crs" not in content
    shapes = [(each["geometry"], each["properties"]["class_id"]) for each in content["features"]]
    np.testing.assert_allclose(shapes[0][0]["coordinates"][0][0][0], (9.1, 47.3), atol=0.1)
    back = [(warp.transform_geom("EPSG:4326", crs, geometry), class_id) for geometry, class_id in shapes]
    drawn = rasterize(back, (37, 50), transform=transform, dtype=np.uint8)
    np.testing.assert_array_equal(drawn, random_mask(2))
    assert content["features"][0]["properties"]["square_meters"] == content["features"][0]["properties"]["area"] * 100


def test_without_coordinates_the_file_is_in_pixels_as_of_any_image(tmp_path):
    mask = random_mask(3)
    content = written(tmp_path / "a.geojson", mask, None, None)
    expected = as_written(found(mask)[0].features(CLASSES))
    actual, reference = (
        sorted(canonical_polygons(each["geometry"]["coordinates"]) for each in collection["features"])
        for collection in (content, expected)
    )
    assert actual == reference
    assert content.keys() == expected.keys()
    assert content["features"][0]["properties"].keys() == expected["features"][0]["properties"].keys()


def test_no_region_at_all_is_an_empty_collection(tmp_path):
    content = written(tmp_path / "a.geojson", np.zeros((5, 7), np.uint8), UTM, NORTH_UP)
    assert content["features"] == []
    assert "crs" in content


@pytest.mark.parametrize("rows", [0, 3, 20, 37])
def test_both_go_on_from_what_was_kept(tmp_path, rows):
    mask = random_mask(4)
    confidence = np.random.default_rng(0).uniform(0.4, 1, mask.shape).astype(np.float32)
    stream, file = StreamingComponents.begin(50), RegionFile(tmp_path / "a.geojson", CLASSES, UTM, NORTH_UP)
    file.add(stream.add(mask[:rows], confidence[:rows]))
    size, state = file.flushed(), pack("regions", stream)
    contents = []
    for _ in range(2):
        file.add([*stream.add(mask[rows:], confidence[rows:]), *stream.finish()])
        file.finish()
        contents.append((tmp_path / "a.geojson").read_bytes())
        file = RegionFile(tmp_path / "a.geojson", CLASSES, UTM, NORTH_UP, size)
        stream = unpack("regions", StreamingComponents, state)
    assert contents[0] == contents[1]
