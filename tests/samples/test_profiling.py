"""The profile agrees with brute force over the pixels themselves."""

import json
import logging

import numpy as np
import pytest

from tests.samples.fabrication import mask, picture
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.preparation import SplitParameters
from unet_segmentation.samples.profiling import data_sha256, profile_samples
from unet_segmentation.samples.splitting import split_samples


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1)])
def test_statistics_against_all_pixels(fabricated, dtype, channels):
    for number in range(20):
        size = (8 + number % 3, 10 + number % 4)
        fabricated.add(f"s{number}", picture(number, size, channels, dtype), [mask(number, size, (0, 0, 1, 255))])
    inspected, _, packed = fabricated.inspect()
    samples = split_samples(inspected, SplitParameters())
    profile = profile_samples(samples, inspected, ["a", "b"])
    training = samples.loc[samples["split"] == "train", "sample_id"]
    pixels = np.concatenate([packed.image(name).reshape(-1, channels) for name in training]).astype(np.float64)
    labels = np.concatenate([packed.mask(name).ravel() for name in training])
    np.testing.assert_allclose(profile["mean"], pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(profile["std"], pixels.std(axis=0), rtol=1e-12)
    found = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    assert profile["class_shares"] == {"a": found[0] / (found[0] + found[1]), "b": found[1] / (found[0] + found[1])}
    assert profile["ignored_share"] == found[255] / len(labels)
    assert profile["samples"] == {"train": 13, "validation": 3, "test": 4}
    assert (profile["channels"], profile["dtype"]) == (channels, np.dtype(dtype).name)
    assert profile["maximum_value"] == np.iinfo(dtype).max
    heights = [packed.shape(name)[0] for name in training]
    assert profile["height"] == {"minimum": min(heights), "median": np.median(heights), "maximum": max(heights)}
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile


def _four(fabricated, classes):
    for number, split in enumerate(["train", "train", "validation", "test"]):
        fabricated.add(f"s{number}", picture(number), [mask(number, options=classes[split])], split=split)
    inspected, _, _ = fabricated.inspect(("a", "b", "c"))
    return split_samples(inspected, SplitParameters()), inspected


def test_a_class_that_training_lacks_is_an_error(fabricated):
    samples, inspected = _four(fabricated, {"train": (0, 1), "validation": (0, 1, 2), "test": (0, 1, 2)})
    with pytest.raises(DataError, match=r"training split \(2 samples\) holds no pixel of: c.*split.seed"):
        profile_samples(samples, inspected, ["a", "b", "c"])


def test_a_class_that_testing_lacks_is_told(fabricated, caplog):
    samples, inspected = _four(fabricated, {"train": (0, 1, 2), "validation": (0, 1, 2), "test": (0, 1)})
    with caplog.at_level(logging.WARNING):
        profile_samples(samples, inspected, ["a", "b", "c"])
    assert "The test split holds no pixel of: c" in caplog.text


def test_the_data_hash_sees_files_and_split_but_not_order(fabricated):
    samples, _ = _four(fabricated, dict.fromkeys(("train", "validation", "test"), (0, 1, 2)))
    reference = data_sha256(samples)
    assert data_sha256(samples.iloc[::-1]) == reference
    for column, value in (("split", "test"), ("image_sha256", "0"), ("mask_sha256", "0"), ("sample_id", "x")):
        changed = samples.copy()
        changed.loc[0, column] = value
        assert data_sha256(changed) != reference
