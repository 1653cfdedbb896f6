"""Packed samples give back exactly what was packed, in parts and in other processes."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from unet_segmentation.data.store import packed_arrays
from unet_segmentation.data.store.packed_arrays import PackedSamples, PackedWriter, join_parts, pack
from unet_segmentation.errors import DataError


def _samples(dtype=np.uint8, channels=3, count=5):
    random = np.random.default_rng(0)
    samples = {}
    for number in range(count):
        height, width = random.integers(5, 40, 2)
        image = random.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype=dtype, endpoint=True)
        samples[f"folder/{number}"] = (image, random.integers(0, 256, (height, width), dtype=np.uint8))
    return samples


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_gives_back_images_masks_and_crops(tmp_path, dtype, channels):
    samples = _samples(dtype, channels)
    packed = pack(tmp_path / "packed", samples)
    assert packed.sample_ids == list(samples)
    assert (len(packed), packed.channels, packed.dtype) == (5, channels, dtype)
    for sample_id, (image, mask) in samples.items():
        assert packed.shape(sample_id) == image.shape
        np.testing.assert_array_equal(packed.image(sample_id), image)
        np.testing.assert_array_equal(packed.mask(sample_id), mask)
        part = (slice(1, 4), slice(2, 5))
        np.testing.assert_array_equal(packed.image(sample_id, *part), image[part])
        np.testing.assert_array_equal(packed.mask(sample_id, *part), mask[part])


def test_what_is_read_can_be_written_to_and_changes_nothing(tmp_path):
    packed = pack(tmp_path / "packed", _samples())
    packed.image("folder/0")[:] = 0
    packed.mask("folder/0")[:] = 0
    image, mask = _samples()["folder/0"]
    np.testing.assert_array_equal(packed.image("folder/0"), image)
    np.testing.assert_array_equal(packed.mask("folder/0"), mask)
    assert packed.image("folder/0", slice(0, 2)).flags.c_contiguous


def test_a_gray_image_among_color_images_is_repeated(tmp_path):
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    color = np.zeros((2, 2, 3), np.uint8)
    packed = pack(tmp_path / "packed", {"g": (gray, gray), "c": (color, np.zeros((2, 2), np.uint8))})
    assert packed.shape("g") == (3, 4, 3)
    np.testing.assert_array_equal(packed.image("g", slice(1, 3)), np.stack([gray[1:]] * 3, axis=2))


def test_travels_to_other_processes_as_a_path(tmp_path):
    packed = pack(tmp_path / "packed", _samples())
    packed.image("folder/1")
    assert len(pickle.dumps(packed)) < 400
    assert copy.deepcopy(packed).folder == packed.folder
    with ProcessPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(packed.image, "folder/1").result(), _samples()["folder/1"][0])


def test_an_unfinished_folder_is_not_taken_for_whole(tmp_path):
    def interrupted():
        with PackedWriter(tmp_path / "packed") as writer:
            writer.add("a", *_samples()["folder/0"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(DataError, match="holds no packed samples"):
        len(PackedSamples(tmp_path / "packed"))


def test_joined_parts_read_as_one_and_keep_each_images_depth(tmp_path):
    first, second = _samples(count=3), {f"deep/{n}": pair for n, pair in enumerate(_samples(np.uint16).values())}
    parts = [pack(tmp_path / "parts" / name, data).folder for name, data in (("one", first), ("two", second))]
    (tmp_path / "joined").mkdir()
    joined = join_parts(tmp_path / "joined", parts)
    assert joined.is_whole()
    assert joined.sample_ids == [*first, *second]
    for sample_id, (image, mask) in (first | second).items():
        result = joined.image(sample_id)
        assert result.dtype == image.dtype
        np.testing.assert_array_equal(result, image)
        np.testing.assert_array_equal(joined.mask(sample_id), mask)
    with (parts[1] / "masks.bin").open("ab") as stream:
        stream.write(b"x")
    assert not PackedSamples(tmp_path / "joined").is_whole()


def test_few_files_are_open_however_many_parts_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_arrays, "OPEN_MAPS", 3)
    samples = _samples(count=8)
    parts = [pack(tmp_path / str(n), {name: pair}).folder for n, (name, pair) in enumerate(samples.items())]
    (tmp_path / "joined").mkdir()
    joined = join_parts(tmp_path / "joined", parts)
    for _ in range(2):
        for name, (image, mask) in samples.items():
            np.testing.assert_array_equal(joined.image(name), image)
            np.testing.assert_array_equal(joined.mask(name), mask)
    assert len(joined._maps) == 3


def test_refuses_what_does_not_fit(tmp_path):
    image, mask = _samples()["folder/0"]
    with pytest.raises(ValueError, match="do not fit"):
        pack(tmp_path / "packed", {"a": (image, mask[1:])})
    with pytest.raises(ValueError, match="cannot pack float32"):
        pack(tmp_path / "packed", {"a": (image.astype(np.float32), mask)})
    assert not list(tmp_path.iterdir())
