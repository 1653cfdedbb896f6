"""Nodes of the learning-rate pipeline: thin, the work is done in ``unet_segmentation.training.lr_finder``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import AugmentationRecipe, TrainingParameters
from unet_segmentation.training.lr_schedule import LearningRateTest


def find_learning_rate(
    network: ModelSpec,
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    statistics: DatasetStatistics,
    plan: Mapping[str, object],
    training: TrainingParameters,
) -> LearningRateTest:
    """Train for a hundred steps with a learning rate that rises."""
    from unet_segmentation.training import lr_finder
    from unet_segmentation.training.plan import resolve_plan
    from unet_segmentation.training.training_inputs import load_inputs

    inputs = load_inputs(
        network, initial_weights, samples=samples, packed=packed, recipe=recipe, statistics=statistics, plan=plan
    )
    return lr_finder.find_learning_rate(resolve_plan(training, inputs), inputs)


def plot_learning_rate(result: LearningRateTest) -> Any:  # noqa: ANN401 - a plotly figure
    """Plot the loss against the learning rate, with what is suggested and what is set."""
    from unet_segmentation.reporting.training_curves import learning_rate_curve

    return learning_rate_curve(result)
