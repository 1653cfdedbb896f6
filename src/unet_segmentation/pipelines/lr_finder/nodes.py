"""Nodes of the learning-rate pipeline: thin, the work is done in ``unet_segmentation.training.lr_finder``."""

from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import AugmentationRecipe, TrainingParameters
from unet_segmentation.training.lr_schedule import LearningRateTest
from unet_segmentation.training.plan_rules import ProposedPlan


def find_learning_rate(
    spec: ModelSpec,
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    statistics: DatasetStatistics,
    proposed_plan: ProposedPlan,
    training: TrainingParameters,
) -> LearningRateTest:
    """Train for a hundred steps with a learning rate that rises."""
    from safetensors.torch import load_file

    from unet_segmentation.training import lr_finder
    from unet_segmentation.training.plan import resolve_plan
    from unet_segmentation.training.training_inputs import TrainingInputs

    weights, proposal = load_file(initial_weights), proposed_plan.values
    inputs = TrainingInputs(spec, weights, packed, recipe, samples, statistics, proposal)
    return lr_finder.find_learning_rate(resolve_plan(training, inputs), inputs)


def plot_learning_rate(result: LearningRateTest) -> Any:  # noqa: ANN401 - a plotly figure
    """Plot the loss against the learning rate, with what is suggested and what is set."""
    from unet_segmentation.reporting.training_curves import learning_rate_curve

    return learning_rate_curve(result)
