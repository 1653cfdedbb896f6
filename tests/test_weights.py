"""The hash of weights: theirs alone."""

import numpy as np
from safetensors.numpy import save_file

from unet_segmentation.weights import weights_sha256

WEIGHTS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.int64)}


def test_the_hash_is_of_the_tensors_not_of_what_is_said_about_them(tmp_path):
    save_file(WEIGHTS, tmp_path / "one", metadata={"speed": "12.5"})
    save_file(WEIGHTS, tmp_path / "two", metadata={"speed": "13.7 images/s"})
    save_file(WEIGHTS, tmp_path / "three")
    assert len({weights_sha256(tmp_path / name) for name in ("one", "two", "three")}) == 1
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_a_bit_a_name_or_a_shape_changes_it(tmp_path):
    changed = WEIGHTS["a"].copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    variants = [
        WEIGHTS,
        WEIGHTS | {"a": changed},
        WEIGHTS | {"a": WEIGHTS["a"].reshape(3, 2)},
        {"c": WEIGHTS["a"], "b": WEIGHTS["b"]},
    ]
    for number, weights in enumerate(variants):
        save_file(weights, tmp_path / str(number))
    assert len({weights_sha256(tmp_path / str(number)) for number in range(4)}) == 4
