"""The score of a pairing is the sum of its features, and can be explained."""

import re

import pytest

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.onboarding.filename_patterns import find_families
from unet_segmentation.data.onboarding.mask_detection import PixelProbe
from unet_segmentation.data.onboarding.pairing_candidates import image_candidates, mask_candidates, match_candidates
from unet_segmentation.data.onboarding.pairing_score import FEATURES, explain, score_names


def test_every_feature_is_named_once_and_has_a_reason():
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)
    assert all(feature.why for feature in FEATURES)


def test_the_explanation_adds_up_to_the_score(tmp_path):
    paths = [f"{folder}/{number:03}.png" for folder in ("images", "masks") for number in range(6)]
    families, probe = find_families(paths), PixelProbe(FileStore(tmp_path))
    images = [glob for family in families for glob in image_candidates(family, probe)]
    masks = [(glob, "picture") for family in families for glob in mask_candidates(family, probe, "picture")]
    candidates = list(match_candidates(images, masks, probe))
    best = max(candidates, key=lambda candidate: score_names(candidate, len(paths)))
    assert (best.images.glob, best.masks.glob) == ("images/{id}.png", "masks/{id}.png")
    for candidate in candidates:
        head, *lines = explain(candidate, len(paths)).splitlines()
        parts = [float(re.match(r"  ([-+][\d.]+)", line)[1]) for line in lines]
        assert sum(parts) == pytest.approx(float(head.rpartition(" ")[2]), abs=0.005)
