"""Which images are unlike the training images."""

import numpy as np
import pytest

from unet_segmentation.data.statistics import ReferenceStatistics, reference_statistics
from unet_segmentation.inference.out_of_distribution import ood_flags


def images(count: int, level: float = 120, spread: float = 20, side: int = 40, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    levels = generator.normal(level, 8, (count, 3))
    return [generator.normal(each, spread, (side, side, 3)).clip(0, 255).astype(np.uint8) for each in levels]


def described(pictures: list[np.ndarray]) -> ReferenceStatistics:
    means = [each.reshape(-1, 3).mean(axis=0) for each in pictures]
    deviations = [each.reshape(-1, 3).std(axis=0) for each in pictures]
    return reference_statistics(means, deviations, [each.shape[:2] for each in pictures], 255)


def test_no_training_image_is_strange():
    pictures = [*images(30), *images(1, level=240), *images(1, spread=1), *images(1, side=90)]
    known = described(pictures)
    assert [ood_flags(each, known) for each in pictures] == [[]] * len(pictures)


def test_new_images_of_the_same_kind_are_not_strange():
    known = described(images(40))
    assert sum(bool(ood_flags(each, known)) for each in images(200, seed=1)) == 0


def darkened(channel: int) -> np.ndarray:
    picture = images(1, seed=2)[0]
    picture[..., channel] //= 4
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (images(1, level=20, spread=8)[0], "low_brightness"),
        (images(1, level=230, spread=10)[0], "high_brightness"),
        (images(1, spread=80)[0], "high_contrast"),
        (np.full((40, 40, 3), 120, np.uint8), "low_contrast"),
        (images(1, side=10)[0], "small"),
        (images(1, side=200)[0], "large"),
        (darkened(2), "low_brightness in channel 2"),
    ],
)
def test_what_is_strange_is_named(picture, expected):
    assert expected in ood_flags(picture, described(images(40)))


def test_the_fences_are_tukeys():
    values = np.array([100.0, 110, 120, 130, 140])
    known = reference_statistics(values[:, None], values[:, None], np.full((5, 2), 8), 255)
    assert (known.mean.low, known.mean.high) == ((110 - 3 * 20,), (130 + 3 * 20,))


def test_a_model_that_does_not_say_finds_nothing_strange():
    assert ood_flags(images(1)[0], None) == []
