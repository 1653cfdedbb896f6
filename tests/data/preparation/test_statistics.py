"""The profile agrees with brute force over the pixels themselves."""

import numpy as np
import pytest

from tests.data.preparation.fabrication import mask, picture
from unet_segmentation.data.split.split import split_samples
from unet_segmentation.data.statistics import DatasetStatistics, SideLengths, compute_statistics, data_sha256
from unet_segmentation.parameters.data import SplitParameters


def _split(inspected):
    return split_samples(inspected, inspected["height"] > 0, SplitParameters())[0]


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1)])
def test_statistics_against_all_pixels(fabricated, dtype, channels):
    for number in range(20):
        size = (8 + number % 3, 10 + number % 4)
        fabricated.add(f"s{number}", picture(number, size, channels, dtype), [mask(number, size, (0, 0, 1, 255))])
    inspected, _, packed = fabricated.inspect()
    samples = _split(inspected)
    profile = compute_statistics(samples, inspected, ["a", "b"])
    training = samples.loc[samples["split"] == "train", "sample_id"]
    pixels = np.concatenate([packed.image(name).reshape(-1, channels) for name in training]).astype(np.float64)
    labels = np.concatenate([packed.mask(name).ravel() for name in training])
    np.testing.assert_allclose(profile.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(profile.std, pixels.std(axis=0), rtol=1e-12)
    result = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    assert profile.class_shares == {"a": result[0] / (result[0] + result[1]), "b": result[1] / (result[0] + result[1])}
    assert profile.ignored_share == result[255] / len(labels)
    assert profile.samples == {"train": 13, "validation": 3, "test": 4}
    assert (profile.channels, profile.dtype) == (channels, np.dtype(dtype).name)
    assert profile.maximum_value == np.iinfo(dtype).max
    heights = [packed.shape(name)[0] for name in training]
    assert profile.height == SideLengths(minimum=min(heights), median=np.median(heights), maximum=max(heights))
    assert DatasetStatistics.model_validate_json(profile.model_dump_json()) == profile


def _four(fabricated, classes):
    for number, split in enumerate(["train", "train", "validation", "test"]):
        fabricated.add(f"s{number}", picture(number), [mask(number, options=classes[split])], split=split)
    inspected, _, _ = fabricated.inspect(("a", "b", "c"))
    return _split(inspected), inspected


def test_a_class_that_training_lacks_has_a_share_of_zero(fabricated):
    """The split has told it as an error; it may be allowed."""
    samples, inspected = _four(fabricated, {"train": (0, 1), "validation": (0, 1, 2), "test": (0, 1, 2)})
    shares = compute_statistics(samples, inspected, ["a", "b", "c"]).class_shares
    assert shares["c"] == 0
    assert sum(shares.values()) == pytest.approx(1)


def test_training_masks_that_are_all_ignored(fabricated):
    samples, inspected = _four(fabricated, {"train": (255,), "validation": (0, 1, 2), "test": (0, 1, 2)})
    profile = compute_statistics(samples, inspected, ["a", "b", "c"])
    assert profile.ignored_share == 1
    assert set(profile.class_shares.values()) == {0}


def test_the_data_hash_sees_files_and_split_but_not_order(fabricated):
    samples, _ = _four(fabricated, dict.fromkeys(("train", "validation", "test"), (0, 1, 2)))
    reference = data_sha256(samples)
    assert data_sha256(samples.iloc[::-1]) == reference
    for column, value in (("split", "test"), ("image_sha256", "0"), ("mask_sha256", "0"), ("sample_id", "x")):
        changed = samples.copy()
        changed.loc[0, column] = value
        assert data_sha256(changed) != reference
