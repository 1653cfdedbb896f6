"""The first patches that a training will see, made by the very code that makes them for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import AugmentationRecipe
from unet_segmentation.parameters.training import TrainingParameters
from unet_segmentation.training.patch_dataset import PatchDataset, training_loader
from unet_segmentation.training.plan import effective_values, foreground_sampling, steps_per_epoch
from unet_segmentation.training.plan_rules import PlanValues


def first_patches(
    samples: PackedSamples,
    sample_ids: Sequence[str],
    recipe: AugmentationRecipe,
    *,
    training: TrainingParameters,
    proposal: PlanValues,
    classes: Sequence[str],
    count: int,
) -> list[tuple[str, NDArray, NDArray[np.uint8]]]:
    """Return the first patches of the first epoch, in the order of the batches.

    Returns:
        Sample id, image (height, width, channels) and mask (height, width) of each.
    """
    values = effective_values(training, proposal)
    foreground = foreground_sampling(training, values, classes)
    patches = PatchDataset(samples, sample_ids, recipe, values.patch_size, training.seed, foreground)
    steps = steps_per_epoch(values, training.accumulate_grad_batches, len(sample_ids))
    loader = training_loader(patches, values.batch_size, steps)
    ids = [patches.sample_ids[index] for _, index, _ in islice(loader.sampler, count)]
    batches = islice(loader, -(-count // values.batch_size))
    pairs = [pair for images, masks in batches for pair in zip(images.permute(0, 2, 3, 1), masks, strict=True)]
    return [(name, image.numpy(), mask.numpy()) for name, (image, mask) in zip(ids, pairs, strict=False)]
