"""Which images are unlike the training images."""

import numpy as np
import pytest

from unet_segmentation.predicting.familiarity import strange, typical


def images(count: int, level: float = 120, spread: float = 20, side: int = 40, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    levels = generator.normal(level, 8, (count, 3))
    return [generator.normal(each, spread, (side, side, 3)).clip(0, 255).astype(np.uint8) for each in levels]


def described(pictures: list[np.ndarray]) -> dict:
    means = [each.reshape(-1, 3).mean(axis=0) for each in pictures]
    deviations = [each.reshape(-1, 3).std(axis=0) for each in pictures]
    return typical(means, deviations, [each.shape[:2] for each in pictures], 255)


def test_no_training_image_is_strange():
    pictures = [*images(30), *images(1, level=240), *images(1, spread=1), *images(1, side=90)]
    known = described(pictures)
    assert [strange(each, known) for each in pictures] == [[]] * len(pictures)


def test_new_images_of_the_same_kind_are_not_strange():
    known = described(images(40))
    assert sum(bool(strange(each, known)) for each in images(200, seed=1)) == 0


def darkened(channel: int) -> np.ndarray:
    picture = images(1, seed=2)[0]
    picture[..., channel] //= 4
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (images(1, level=20, spread=8)[0], "darker"),
        (images(1, level=230, spread=10)[0], "brighter"),
        (images(1, spread=80)[0], "harsher"),
        (np.full((40, 40, 3), 120, np.uint8), "flatter"),
        (images(1, side=10)[0], "smaller"),
        (images(1, side=200)[0], "larger"),
        (darkened(2), "darker in channel 2"),
    ],
)
def test_what_is_strange_is_named(picture, expected):
    assert expected in strange(picture, described(images(40)))


def test_the_fences_are_tukeys():
    values = np.array([100.0, 110, 120, 130, 140])
    known = typical(values[:, None], values[:, None], np.full((5, 2), 8), 255)
    assert known["mean"] == {"low": [110 - 3 * 20], "high": [130 + 3 * 20]}


def test_a_model_that_does_not_say_finds_nothing_strange():
    assert strange(images(1)[0], None) == []
