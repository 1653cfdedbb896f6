"""Test-time augmentation beside views that are written out."""

import cv2
import numpy as np
import pytest

from tests.inference.test_predictor import input_spec
from unet_segmentation.inference import test_time_augmentation as tta
from unet_segmentation.inference.backends.base import Backend
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.parameters import PredictorParameters

KERNEL = np.array([[1, 2, 0], [0, 5, 1], [3, 0, 4]], np.float32)  # no symmetry of its own


class Filter(Backend):
    """Two classes; the second is a lopsided filter of the first channel. Counts its calls."""

    name = "filter"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        planes = [
            cv2.filter2D(image[..., 0].astype(np.float32), -1, KERNEL, borderType=cv2.BORDER_CONSTANT) / 5000
            for image in images
        ]
        return np.stack([np.stack([1 - plane, plane]) for plane in planes]).astype(np.float32)


def written_out(image, views):
    """Each view as OpenCV turns and mirrors it, and back."""
    result = []
    for there, back in views:
        plane = Filter()(there(image)[None])[0, 1]
        result.append(back(plane))
    return np.mean(result, axis=0)


def turned(code):
    return lambda array: cv2.rotate(array, code)


def mirrored(code):
    return lambda array: cv2.flip(array, code)


SAME = (lambda array: array, lambda array: array)
FLIPS = [SAME, *((mirrored(code), mirrored(code)) for code in (1, 0, -1))]
CLOCKWISE, BACK = cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE
TURNS = [
    (turned(CLOCKWISE), turned(BACK)),
    (turned(BACK), turned(CLOCKWISE)),
    (cv2.transpose, cv2.transpose),
    (lambda array: cv2.flip(cv2.transpose(array), -1), lambda array: cv2.transpose(cv2.flip(array, -1))),
]


@pytest.mark.parametrize(("name", "views"), [("flip", FLIPS), ("d4", FLIPS + TURNS)])
def test_the_mean_over_the_views_is_that_of_views_written_out(name, views):
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    backend = Filter()
    result = tta.TestTimeAugmentationBackend(backend, name)(image[None])
    assert backend.calls == len(views)
    np.testing.assert_allclose(result[0, 1], written_out(image, views), atol=1e-6)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("turn", [np.rot90, lambda array: np.flip(array, 0)])
def test_with_all_symmetries_a_turned_image_has_the_turned_prediction(turn):
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    inference = PredictorParameters(test_time_augmentation="d4")
    predictor = Predictor(input_spec(["a", "b"]), Filter(), inference)
    straight = predictor.probabilities(image)
    there = predictor.probabilities(np.ascontiguousarray(turn(image)))
    np.testing.assert_allclose(there, np.stack([turn(plane) for plane in straight]), atol=1e-6)
