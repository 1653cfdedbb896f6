"""Where tiles lie along a side: covered, with the overlap wanted, and with little work."""

from itertools import pairwise

import numpy as np
import pytest

from unet_segmentation.inference.rasters.tiling import Span, blending_profiles, place_tiles
from unet_segmentation.inference.sliding_window import blending_weights
from unet_segmentation.parameters import PredictorParameters

DEFAULT = PredictorParameters()


def tiling_overhead(spans: list[Span], length: int) -> float:
    """Work done over work needed along one side."""
    return sum(span.size for span in spans) / length


@pytest.mark.parametrize("overlap", [0, 1 / 16, 1 / 8, 1 / 4, 1 / 2])
@pytest.mark.parametrize(("tile", "multiple"), [(64, 32), (96, 32), (64, 8), (256, 32), (512, 32)])
def test_tiles_cover_every_length_and_share_at_least_the_overlap(tile, multiple, overlap):
    for length in range(1, 10 * tile, 1 if tile < 100 else 13):
        spans = place_tiles(length, tile, overlap, multiple)
        assert spans[0].start == 0
        assert spans[-1].stop == max(length, spans[0].size)
        assert all(span.size % multiple == 0 and tile // 2 <= span.size <= tile for span in spans[1:])
        for one, next_one in pairwise(spans):
            assert one.start < next_one.start
            assert one.stop < next_one.stop
            assert one.stop - next_one.start >= int(tile * overlap)
            assert one.size - next_one.size in {0, multiple} or one.size == next_one.size


def test_work_at_the_raster_default_is_at_most_1_35_for_every_length_from_eight_tiles_on():
    tile, overlap = DEFAULT.tile_size, DEFAULT.raster_overlap
    ratios = [
        tiling_overhead(place_tiles(length, tile, overlap, 32), length) for length in range(8 * tile, 40 * tile + 1)
    ]
    assert max(ratios) ** 2 <= 1.35
    eight = min(length for length in range(tile, 9 * tile) if len(place_tiles(length, tile, overlap, 32)) == 8)
    ratios = [tiling_overhead(place_tiles(length, tile, overlap, 32), length) for length in range(eight, 8 * tile)]
    assert max(ratios) ** 2 <= 1.35  # read the other way, too: from eight tiles in a row on


@pytest.mark.parametrize("length", [50, 64, 65, 300, 1000])
def test_profiles_are_gaussians_that_sum_to_one(length):
    spans = place_tiles(length, 64, 0.25, 32)
    total = np.zeros(spans[-1].stop)
    for span, profile in zip(spans, blending_profiles(spans), strict=True):
        assert profile.shape == (span.size,)
        total[span.start : span.stop] += profile
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_profiles_weigh_as_the_blending_of_images_does():
    """Where two tiles meet, their shares stand to each other as the weights of `tiles.blending_weights`."""
    one, two = blending_profiles([Span(0, 64), Span(48, 64)])
    weights = blending_weights(64, 64)[32]
    np.testing.assert_allclose(one[48:] / two[:16], weights[48:] / weights[:16], rtol=1e-4)
