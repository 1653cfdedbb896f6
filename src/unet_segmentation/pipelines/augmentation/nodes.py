"""Nodes of the augmentation pipeline: thin, the work is done in ``unet_segmentation.training``."""

from typing import Any

import pandas as pd

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import DataError
from unet_segmentation.parameters import AugmentationParameters, AugmentationRecipe, TrainingParameters
from unet_segmentation.training.plan_rules import ProposedPlan


def compose_augmentation(augmentation: AugmentationParameters, statistics: DatasetStatistics) -> AugmentationRecipe:
    """Turn the parameters into a recipe, every transform tried on an image like those of the training split."""
    from unet_segmentation.training.augmentation import compose_recipe

    return compose_recipe(augmentation, statistics.channels, statistics.dtype)


def preview_augmentation(
    recipe: AugmentationRecipe,
    samples: pd.DataFrame,
    packed: PackedSamples,
    proposed_plan: ProposedPlan,
    training: TrainingParameters,
    augmentation: AugmentationParameters,
    classes: list[str],
) -> Any:  # noqa: ANN401 - a PIL image
    """Lay out the first patches of the first epoch, each followed by its mask."""
    from unet_segmentation.data.statistics import labeled_ids_by_split
    from unet_segmentation.training.patch_dataset import first_patches
    from unet_segmentation.visualization import class_colors, color_mask, contact_sheet, displayable

    sample_ids = labeled_ids_by_split(samples).get("train", [])
    if not sample_ids:
        raise DataError("The train split has no sample with a mask: give the data more, or change split")
    colors = class_colors(len(classes))
    tiles, captions = [], []
    patches = first_patches(
        packed,
        sample_ids,
        recipe,
        training=training,
        proposal=proposed_plan.values,
        classes=classes,
        count=augmentation.preview_samples,
    )
    for sample_id, image, mask in patches:
        tiles += [displayable(image), color_mask(mask, colors)]
        captions += [sample_id, ""]
    return contact_sheet(tiles, columns=8, captions=captions)
