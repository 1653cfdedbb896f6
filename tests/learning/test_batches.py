import numpy as np
import pytest
import torch

from tests.learning.conftest import PROFILE
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.learning.augmentation import compose_recipe
from unet_segmentation.learning.batches import (
    KeyedSampler,
    TrainingPatches,
    ValidationTiles,
    padded,
    training_loader,
)
from unet_segmentation.learning.planning import default_values
from unet_segmentation.learning.preview import first_patches
from unet_segmentation.parameters import AugmentationParameters, TrainingParameters
from unet_segmentation.samples.packing import pack

NOTHING = {"version": 1, "transforms": []}


def test_every_sample_comes_once_per_repetition_reshuffled_each_time():
    sampler = KeyedSampler(samples=7, batch_size=4, batches=4, seed=3)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 16
    orders = [[index for _, index, repetition in keys if repetition == number] for number in range(3)]
    assert [sorted(order) for order in orders[:2]] == [list(range(7))] * 2
    assert len(set(orders[2])) == 2
    assert orders[0] != orders[1]
    sampler.set_epoch(1)
    assert [key[0] for key in sampler] == [1] * 16
    assert [key[1] for key in sampler] != [key[1] for key in keys]
    sampler.set_epoch(0)
    assert list(sampler) == keys


def test_processes_share_each_batch_and_a_resumed_epoch_leaves_out_what_was_done():
    def batches(**share):
        sampler = KeyedSampler(samples=7, batch_size=4, batches=5, seed=3, **share)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        size = 4 // sampler.processes
        return [keys[start : start + size] for start in range(0, len(keys), size)]

    whole = batches()
    halves = batches(share=(0, 2)), batches(share=(1, 2))
    assert [first + second for first, second in zip(*halves, strict=True)] == whole
    resumed = KeyedSampler(samples=7, batch_size=4, batches=5, seed=3)
    resumed.go_on(0, 3)
    assert list(resumed) == whole[3] + whole[4]
    resumed.set_epoch(1)
    assert len(list(resumed)) == 20


def test_seeds_differ():
    assert list(KeyedSampler(50, 10, 5, seed=0)) != list(KeyedSampler(50, 10, 5, seed=1))


def epochs(packed, recipe, workers):
    loader = training_loader(TrainingPatches(packed, packed.sample_ids, recipe, 32, seed=5), 4, 5, workers)
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches += [(images.clone(), masks.clone()) for images, masks in loader]
    return batches


def test_batches_are_the_same_with_any_number_of_workers_and_differ_between_epochs(packed, recipe):
    alone, together = epochs(packed, recipe, 0), epochs(packed, recipe, 2)
    assert len(alone) == len(together) == 10
    for (images, masks), (others, other_masks) in zip(alone, together, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(masks, other_masks)
    patches = {image.numpy().tobytes() for images, _ in alone for image in images}
    assert len(patches) == 40  # 12 samples, 40 patches: no view comes twice


def test_a_batch_lies_channels_last(packed, recipe):
    images, masks = epochs(packed, recipe, 0)[0]
    assert images.shape == (4, 3, 32, 32)
    assert images.dtype == masks.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_crops_come_from_everywhere_and_fit_their_masks(tmp_path):
    rows, columns = np.indices((40, 50))
    image = np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)
    packed = pack(tmp_path / "packed", {"x": (image, (rows + columns).astype(np.uint8))})
    patches = TrainingPatches(packed, ["x"], NOTHING, 32, seed=0)
    corners = set()
    for epoch in range(300):
        crop, mask = patches[epoch, 0, 0]
        np.testing.assert_array_equal(crop[..., 2], mask)
        corners.add((int(crop[0, 0, 0]), int(crop[0, 0, 1])))
    assert {top for top, _ in corners} == set(range(9))
    assert {left for _, left in corners} == set(range(19))


def test_small_images_are_reflected_and_the_rest_ignored():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    larger, mask = padded(image, np.ones((2, 3), np.uint8), 4, 3)
    assert larger[..., 0].tolist() == [[3, 4, 5], [0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert mask.tolist() == [[255] * 3, [1] * 3, [1] * 3, [255] * 3]


def test_sixteen_bit_images_become_int32(tmp_path):
    image = np.full((32, 32, 1), 60_000, np.uint16)
    packed = pack(tmp_path / "packed", {"x": (image, np.zeros((32, 32), np.uint8))})
    images, _ = next(iter(training_loader(TrainingPatches(packed, ["x"], NOTHING, 32, 0), 2, 1)))
    assert images.dtype == torch.int32
    assert (images == 60_000).all()


def test_validation_covers_every_pixel_once(tmp_path, monkeypatch):
    monkeypatch.setattr("unet_segmentation.learning.batches.TILE_SIZE", 32)
    generator = np.random.default_rng(0)
    sizes = [(70, 33), (5, 5), (32, 64), (31, 90)]
    data = {}
    for number, (height, width) in enumerate(sizes):
        image = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        data[str(number)] = image, generator.integers(0, 3, (height, width), dtype=np.uint8)
    packed = pack(tmp_path / "packed", data)
    tiles = ValidationTiles(packed, packed.sample_ids, multiple=16, pixels=2 * 32 * 32)
    counts, sums = np.zeros(256, int), 0
    for number in range(len(tiles)):
        images, masks = tiles[number]
        assert images.shape[2] % 16 == images.shape[3] % 16 == 0
        assert max(images.shape[2:]) <= 32
        assert images.shape[0] * images.shape[2] * images.shape[3] <= 2 * 32 * 32
        counts += np.bincount(masks.numpy().ravel(), minlength=256)
        sums += int((images.long() * (masks != 255).unsqueeze(1)).sum())
    expected = np.bincount(np.concatenate([mask.ravel() for _, mask in data.values()]), minlength=255)
    assert counts[:255].tolist() == expected[:255].tolist()
    assert sums == sum(int(image.astype(int).sum()) for image, _ in data.values())


def test_the_preview_shows_exactly_the_first_batches_of_the_first_epoch(packed, recipe):
    training = TrainingParameters(seed=5, batch_size=4, patch_size=32, minimum_steps=5)
    proposal = default_values(training, PROFILE)
    shown = first_patches(packed, packed.sample_ids, recipe, training, proposal, count=6)
    batches = epochs(packed, recipe, 2)
    images = torch.cat([images for images, _ in batches[:2]]).permute(0, 2, 3, 1).numpy()
    masks = torch.cat([masks for _, masks in batches[:2]]).numpy()
    assert len(shown) == 6
    for (_, image, mask), expected, expected_mask in zip(shown, images, masks, strict=False):
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(mask, expected_mask)


def test_augmentation_that_changes_the_size_is_refused(packed):
    recipe = compose_recipe(
        AugmentationParameters.model_validate(
            {"transforms": [{"name": "Resize", "parameters": {"height": 8, "width": 8}}]}
        ),
        channels=3,
    )
    with pytest.raises(ConfigurationError, match=r"patches of 8x8 pixels out of 32x32"):
        TrainingPatches(packed, packed.sample_ids, recipe, 32, 0)[0, 0, 0]
