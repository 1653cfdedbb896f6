"""Batches: which samples, in which order, cut and augmented how. All of it a function of (seed, epoch, sample)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import AugmentationRecipe, TrainingParameters
from unet_segmentation.training.augmentation import Augmenter
from unet_segmentation.training.foreground_sampler import ForegroundSampler, ForegroundSampling
from unet_segmentation.training.plan import effective_values, foreground_sampling, steps_per_epoch
from unet_segmentation.training.plan_rules import PlanValues
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

TILE_SIZE = 512  # pixels; the largest side of what validation puts through the network at once
ORDER, PIXELS, LAYERS = 0, 1, 2  # what a random stream is for
ANYWHERE = ForegroundSampling()

Key = tuple[int, int, int]  # epoch, index of the sample, repetition within the epoch
Batch = tuple[Tensor, Tensor]  # images (N, channels, H, W) uint8 or int32, masks (N, H, W) uint8


class PatchDataset(Dataset[Any]):
    """Square, augmented patches. An item is asked for by its key, so that no worker keeps a random state.

    Patches that `foreground` aims at a class are centered on a pixel of it as far as the border allows; the others, and
    those of samples that have none of the classes, are cut anywhere. The order of the sample ids belongs to the
    randomness.
    """

    def __init__(
        self,
        samples: PackedSamples,
        sample_ids: Sequence[str],
        recipe: AugmentationRecipe,
        patch_size: int,
        seed: int,
        foreground: ForegroundSampling = ANYWHERE,
    ) -> None:
        self.samples = samples
        self.sample_ids = list(sample_ids)
        self.augmenter = Augmenter(recipe)
        self.patch_size = patch_size
        self.seed = seed
        self.oversample_foreground_fraction = foreground.share if foreground.class_ids else 0.0
        self.foreground = ForegroundSampler(samples, foreground.class_ids)

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, key: Key) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Return a random patch (height, width, channels) and its mask, both augmented."""
        generator = keyed_rng(self.seed, PIXELS, *key)
        sample_id = self.sample_ids[key[1]]
        rows, columns = self._crop(sample_id, generator)
        image, mask = self.samples.image(sample_id, rows, columns), self.samples.mask(sample_id, rows, columns)
        image, mask = self.augmenter(*pad_reflect(image, mask, self.patch_size, self.patch_size), generator)
        if mask.shape != (self.patch_size, self.patch_size):
            raise ConfigurationError(
                f"augmentation.transforms: they make patches of {mask.shape[0]}x{mask.shape[1]} pixels out of "
                f"{self.patch_size}x{self.patch_size}; remove what crops or resizes, or let it end at that size"
            )
        return image, mask

    def __getitems__(self, keys: list[Key]) -> Batch:
        """Build a whole batch at once: pixels lie channels-last already, so that no copy is needed later."""
        return _fill_batch((self[key] for key in keys), len(keys))

    def _crop(self, sample_id: str, generator: np.random.Generator) -> tuple[slice, slice]:
        center = None
        if self.oversample_foreground_fraction and generator.random() < self.oversample_foreground_fraction:
            center = self.foreground.draw(sample_id, generator)
        height, width, _ = self.samples.shape(sample_id)
        if center is None:
            return _random_crop(height, self.patch_size, generator), _random_crop(width, self.patch_size, generator)
        return _crop_around(center[0], height, self.patch_size), _crop_around(center[1], width, self.patch_size)


class KeyedSampler(Sampler[Key]):
    """Yields (epoch, index, repetition): every sample once per repetition, reshuffled each time.

    Where an epoch has more keys than samples, further passes follow, each in an order of its own. Lightning calls
    :meth:`set_epoch`. Where several processes train together (`share`: rank of this one, and how many), each yields its
    share of every batch; the batch size is that of all.
    """

    def __init__(self, samples: int, batch_size: int, batches: int, seed: int, share: tuple[int, int] = (0, 1)) -> None:
        self.samples, self.batch_size, self.batches, self.seed = samples, batch_size, batches, seed
        self.rank, self.processes = share
        self.epoch = 0
        self.resumed = (0, 0)  # an epoch, and its batches that were done before

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch (from 0) that comes next."""
        self.epoch = epoch

    def skip_batches(self, epoch: int, batches: int) -> None:
        """Skip the batches of an epoch that were done before the training was stopped."""
        self.resumed = (epoch, batches)

    def __len__(self) -> int:
        return self.batches * self.batch_size // self.processes

    def __iter__(self) -> Iterator[Key]:
        keys = list(self._keys())
        share = self.batch_size // self.processes
        for batch in range(self.resumed[1] if self.epoch == self.resumed[0] else 0, self.batches):
            first = batch * self.batch_size + self.rank * share
            yield from keys[first : first + share]

    def _keys(self) -> Iterator[Key]:
        length = self.batches * self.batch_size
        for start in range(0, length, self.samples):
            repetition = start // self.samples
            order = keyed_rng(self.seed, ORDER, self.epoch, repetition).permutation(self.samples)
            for index in order[: length - start]:
                yield self.epoch, int(index), repetition


class TileDataset(Dataset[Batch]):
    """Whole images, in tiles of at most ``TILE_SIZE`` pixels a side that cover every pixel once.

    An item is a batch of tiles whose padded shapes are equal, of about `pixels` pixels in all. Tiles are padded by
    reflection to the multiple that the network needs; padded pixels are ignored.

    `share` is the rank of this process, and how many train together: each takes its part. Where there are fewer batches
    than processes, each takes all: sums are then multiplied, scores and mean loss are the same.
    """

    def __init__(
        self,
        samples: PackedSamples,
        sample_ids: Sequence[str],
        multiple: int,
        pixels: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.samples, self.sample_ids = samples, list(sample_ids)
        groups: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for index, sample_id in enumerate(self.sample_ids):
            height, width, _ = samples.shape(sample_id)
            for top in range(0, height, TILE_SIZE):
                for left in range(0, width, TILE_SIZE):
                    sides = min(height - top, TILE_SIZE), min(width - left, TILE_SIZE)
                    shape = -(-sides[0] // multiple) * multiple, -(-sides[1] // multiple) * multiple
                    groups.setdefault(shape, []).append((index, top, left))
        self.batches = [
            (shape, tiles[start : start + size])
            for shape, tiles in sorted(groups.items())
            for size in [max(1, pixels // (shape[0] * shape[1]))]
            for start in range(0, len(tiles), size)
        ]
        if len(self.batches) >= share[1]:
            self.batches = self.batches[share[0] :: share[1]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        """Read one batch of tiles."""
        shape, tiles = self.batches[number]
        return _fill_batch((self._tile(shape, *tile) for tile in tiles), len(tiles))

    def _tile(self, shape: tuple[int, int], index: int, top: int, left: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        rows, columns = slice(top, top + TILE_SIZE), slice(left, left + TILE_SIZE)
        sample_id = self.sample_ids[index]
        image, mask = self.samples.image(sample_id, rows, columns), self.samples.mask(sample_id, rows, columns)
        return pad_reflect(image, mask, *shape)


def training_loader(
    patches: PatchDataset,
    batch_size: int,
    steps: int,
    workers: int = 0,
    pin_memory: bool = False,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Batch]:
    """Load training batches, the same ones whatever the number of workers; `share` as for :class:`KeyedSampler`."""
    sampler = KeyedSampler(len(patches), batch_size, steps, patches.seed, share)
    return _loader(patches, workers, pin_memory, sampler=sampler, batch_size=batch_size // share[1])


def validation_loader(tiles: TileDataset, workers: int = 0, pin_memory: bool = False) -> DataLoader[Batch]:
    """Load validation batches, always in the same order."""
    return _loader(tiles, workers, pin_memory, batch_size=None)


def first_patches(
    samples: PackedSamples,
    sample_ids: Sequence[str],
    recipe: AugmentationRecipe,
    *,
    training: TrainingParameters,
    proposal: PlanValues,
    classes: Sequence[str],
    count: int,
) -> list[tuple[str, NDArray[Any], NDArray[np.uint8]]]:
    """Return sample id, image (height, width, channels) and mask (height, width) of the first patches of a training."""
    values = effective_values(training, proposal)
    foreground = foreground_sampling(training, values, classes)
    patches = PatchDataset(samples, sample_ids, recipe, values.patch_size, training.seed, foreground)
    steps = steps_per_epoch(values, training.accumulate_grad_batches, len(sample_ids))
    loader = training_loader(patches, values.batch_size, steps)
    ids = [patches.sample_ids[index] for _, index, _ in islice(loader.sampler, count)]
    batches = islice(loader, -(-count // values.batch_size))
    pairs = [pair for images, masks in batches for pair in zip(images.permute(0, 2, 3, 1), masks, strict=True)]
    return [(name, image.numpy(), mask.numpy()) for name, (image, mask) in zip(ids, pairs, strict=False)]


def pad_reflect(
    image: NDArray[Any], mask: NDArray[np.uint8], height: int, width: int
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Pad image and mask to at least ``height`` x ``width``: reflected on both sides, the added pixels ignored."""
    missing = max(0, height - mask.shape[0]), max(0, width - mask.shape[1])
    if not any(missing):
        return image, mask
    sides = [(gap // 2, gap - gap // 2) for gap in missing]
    return np.pad(image, [*sides, (0, 0)], mode="reflect"), np.pad(mask, sides, constant_values=IGNORE_INDEX)


def keyed_rng(*key: int) -> np.random.Generator:
    """Return the random generator of a key: well mixed, and the same wherever it is made."""
    return np.random.default_rng(np.random.SeedSequence(key))


def _random_crop(side: int, patch: int, generator: np.random.Generator) -> slice:
    start = int(generator.integers(max(0, side - patch) + 1))
    return slice(start, start + patch)


def _crop_around(center: int, side: int, patch: int) -> slice:
    start = min(max(0, center - patch // 2), max(0, side - patch))
    return slice(start, start + patch)


def _fill_batch(items: Iterator[tuple[NDArray[Any], NDArray[np.uint8]]], count: int) -> Batch:
    """Fill a batch one by one: a patch's memory serves the next one, instead of coming from the system each time."""
    images, masks = np.empty(0), np.empty(0)
    for number, (image, mask) in enumerate(items):
        if number == 0:
            dtype = np.int32 if image.dtype == np.uint16 else image.dtype  # torch does little with uint16
            images, masks = np.empty((count, *image.shape), dtype), np.empty((count, *mask.shape), mask.dtype)
        images[number], masks[number] = image, mask
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(masks)


def _loader(dataset: Dataset[Batch], workers: int, pin_memory: bool, **options: Any) -> DataLoader[Batch]:  # noqa: ANN401
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=_keep_batch,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread if workers else None,
        generator=torch.Generator(),  # its own: the network's random layers must not notice the loading
        **options,
    )


def _keep_batch(batch: Any) -> Any:  # noqa: ANN401 - it was made as a whole
    return batch


def _one_thread(_: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
