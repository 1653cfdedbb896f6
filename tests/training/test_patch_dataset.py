import numpy as np
import pytest
import torch
from scipy import stats

from tests.training.conftest import CLASSES, PROFILE
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import AugmentationParameters, AugmentationRecipe, TrainingParameters
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.foreground_sampler import ForegroundSampler, ForegroundSampling
from unet_segmentation.training.patch_dataset import (
    KeyedSampler,
    PatchDataset,
    TileDataset,
    first_patches,
    pad_reflect,
    training_loader,
)
from unet_segmentation.training.plan_rules import default_plan_values

NOTHING = AugmentationRecipe()


def on(classes, share=1.0):
    return ForegroundSampling(share=share, class_ids=tuple(classes))


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
    resumed.skip_batches(0, 3)
    assert list(resumed) == whole[3] + whole[4]
    resumed.set_epoch(1)
    assert len(list(resumed)) == 20


def test_seeds_differ():
    assert list(KeyedSampler(50, 10, 5, seed=0)) != list(KeyedSampler(50, 10, 5, seed=1))


def epochs(packed, recipe, workers, share=0.0, classes=()):
    patches = PatchDataset(packed, packed.sample_ids, recipe, 32, 5, on(classes, share))
    loader = training_loader(patches, 4, 5, workers)
    batches = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        batches += [(images.clone(), masks.clone()) for images, masks in loader]
    return batches


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_batches_are_the_same_with_any_number_of_workers_and_differ_between_epochs(packed, recipe, share):
    alone, together = epochs(packed, recipe, 0, share, [1]), epochs(packed, recipe, 2, share, [1])
    assert len(alone) == len(together) == 10
    for (images, masks), (others, other_masks) in zip(alone, together, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(masks, other_masks)
    patches = {image.numpy().tobytes() for images, _ in alone for image in images}
    assert len(patches) == 40  # 12 samples, 40 patches: no view comes twice


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_lies_channels_last(packed, recipe, workers):
    loader = training_loader(PatchDataset(packed, packed.sample_ids, recipe, 32, seed=5), 4, 1, workers)
    images, masks = next(iter(loader))
    assert images.shape == (4, 3, 32, 32)
    assert images.dtype == masks.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_holds_its_patches_in_their_order(packed, recipe):
    patches = PatchDataset(packed, packed.sample_ids, recipe, 32, 5, on([1], 0.5))
    keys = [(0, index, 1) for index in (4, 0, 7)]
    images, masks = patches.__getitems__(keys)
    for key, image, mask in zip(keys, images.permute(0, 2, 3, 1).numpy(), masks.numpy(), strict=True):
        np.testing.assert_array_equal(image, patches[key][0])
        np.testing.assert_array_equal(mask, patches[key][1])


def test_crops_come_from_everywhere_and_fit_their_masks(tmp_path):
    rows, columns = np.indices((40, 50))
    image = np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)
    packed = pack(tmp_path / "packed", {"x": (image, (rows + columns).astype(np.uint8))})
    patches = PatchDataset(packed, ["x"], NOTHING, 32, seed=0)
    corners = set()
    for epoch in range(300):
        crop, mask = patches[epoch, 0, 0]
        np.testing.assert_array_equal(crop[..., 2], mask)
        corners.add((int(crop[0, 0, 0]), int(crop[0, 0, 1])))
    assert {top for top, _ in corners} == set(range(9))
    assert {left for _, left in corners} == set(range(19))


def coordinates(tmp_path, mask):
    """An image whose pixels say their row and column, so that a patch says where it was cut."""
    image = np.stack(np.indices(mask.shape), axis=2).astype(np.uint16)
    return pack(tmp_path / "packed", {"x": (image, mask)})


def test_without_foreground_patches_are_cut_anywhere_by_the_first_two_draws(tmp_path):
    packed = coordinates(tmp_path, np.zeros((40, 57), np.uint8))
    for share, classes in [(0.0, [0]), (1.0, [])]:
        patches = PatchDataset(packed, ["x"], NOTHING, 32, 7, on(classes, share))
        for epoch in range(50):
            crop, _ = patches[epoch, 0, 2]
            generator = np.random.default_rng(np.random.SeedSequence((7, 1, epoch, 0, 2)))
            assert crop[0, 0].tolist() == [generator.integers(40 - 32 + 1), generator.integers(57 - 32 + 1)]


def test_foreground_patches_are_centered_on_every_pixel_of_the_class_as_far_as_the_border_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "unet_segmentation.training.foreground_sampler.STRIP", 300
    )  # several rows each, the last one shorter
    mask = np.zeros((71, 90), np.uint8)
    pixels = [(0, 0), (1, 88), (20, 30), (35, 44), (35, 45), (50, 20), (70, 60), (70, 89)]
    for row, column in pixels:
        mask[row, column] = 3
    patches = PatchDataset(coordinates(tmp_path, mask), ["x"], NOTHING, 32, 0, on([3]))
    corners = [tuple(patches[epoch, 0, 0][0][0, 0].tolist()) for epoch in range(1600)]
    expected = [(min(max(row - 16, 0), 71 - 32), min(max(column - 16, 0), 90 - 32)) for row, column in pixels]
    assert len(set(expected)) == len(pixels)
    counts = np.array([corners.count(corner) for corner in expected])
    assert counts.sum() == 1600
    assert stats.chisquare(counts).pvalue > 1e-3
    for epoch in range(100):
        crop, cut = patches[epoch, 0, 0]
        if 0 < crop[0, 0, 0] < 71 - 32 and 0 < crop[0, 0, 1] < 90 - 32:
            assert cut[16, 16] == 3


def test_classes_that_a_sample_has_are_drawn_equally_often_however_rare(tmp_path):
    mask = np.zeros((200, 200), np.uint8)
    mask[50:150, 50:150] = 1
    mask[60, 60] = 2
    mask[100:104, 100:104] = 4
    mask[90, 90] = 255
    patches = PatchDataset(coordinates(tmp_path, mask), ["x"], NOTHING, 32, 0, on([1, 2, 3, 4]))
    centers = [int(patches[epoch, 0, 0][1][16, 16]) for epoch in range(900)]
    counts = np.bincount(centers, minlength=5)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert stats.chisquare(counts[[1, 2, 4]]).pvalue > 1e-3


def test_the_declared_share_is_reached_among_samples_that_have_a_class(tmp_path):
    generator = np.random.default_rng(0)
    data = {}
    for number in range(30):
        mask = np.zeros((128, 128), np.uint8)
        if number % 10 == 0:
            mask[tuple(generator.integers(20, 108, 2))] = 1
        data[f"s{number:02d}"] = np.zeros((128, 128, 1), np.uint8), mask
    packed = pack(tmp_path / "packed", data)
    patches = PatchDataset(packed, packed.sample_ids, NOTHING, 32, 3, on([1], 1 / 3))
    keys = list(KeyedSampler(30, 10, 900, seed=3))
    centered = {True: [], False: []}
    for key in keys:
        centered[key[1] % 10 == 0].append(patches[key][1][16, 16] == 1)
    assert len(centered[True]) == 900  # each sample comes equally often, whatever it holds
    by_chance = 1 / (128 - 32 + 1) ** 2
    expected = 1 / 3 + 2 / 3 * by_chance
    assert stats.binomtest(sum(centered[True]), 900, expected).pvalue > 1e-3
    assert not any(centered[False])


def test_where_a_class_lies_is_found_again_whatever_was_asked_before(packed):
    used = ForegroundSampler(packed, [1])
    for sample_id in packed.sample_ids:
        used.draw(sample_id, np.random.default_rng(0))
    for number, sample_id in enumerate(packed.sample_ids):
        fresh = ForegroundSampler(packed, [1]).draw(sample_id, np.random.default_rng(number))
        assert used.draw(sample_id, np.random.default_rng(number)) == fresh
        assert packed.mask(sample_id)[fresh] == 1


def test_small_images_are_reflected_and_the_rest_ignored():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    larger, mask = pad_reflect(image, np.ones((2, 3), np.uint8), 4, 3)
    assert larger[..., 0].tolist() == [[3, 4, 5], [0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert mask.tolist() == [[255] * 3, [1] * 3, [1] * 3, [255] * 3]


def test_sixteen_bit_images_become_int32(tmp_path):
    image = np.full((32, 32, 1), 60_000, np.uint16)
    packed = pack(tmp_path / "packed", {"x": (image, np.zeros((32, 32), np.uint8))})
    images, _ = next(iter(training_loader(PatchDataset(packed, ["x"], NOTHING, 32, 0), 2, 1)))
    assert images.dtype == torch.int32
    assert (images == 60_000).all()


def test_validation_covers_every_pixel_once(tmp_path, monkeypatch):
    monkeypatch.setattr("unet_segmentation.training.patch_dataset.TILE_SIZE", 32)
    generator = np.random.default_rng(0)
    sizes = [(70, 33), (5, 5), (32, 64), (31, 90)]
    data = {}
    for number, (height, width) in enumerate(sizes):
        image = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        data[str(number)] = image, generator.integers(0, 3, (height, width), dtype=np.uint8)
    packed = pack(tmp_path / "packed", data)
    tiles = TileDataset(packed, packed.sample_ids, multiple=16, pixels=2 * 32 * 32)
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
    training = TrainingParameters(seed=5, batch_size=4, patch_size=32, min_steps_per_epoch=5)
    proposal = default_plan_values(training, PROFILE)
    proposal = proposal.model_copy(update={"oversample_foreground_fraction": 0.5, "foreground_classes": ["disc"]})
    shown = first_patches(
        packed, packed.sample_ids, recipe, training=training, proposal=proposal, classes=CLASSES, count=6
    )
    batches = epochs(packed, recipe, 2, 0.5, [1])
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
        PatchDataset(packed, packed.sample_ids, recipe, 32, 0)[0, 0, 0]
