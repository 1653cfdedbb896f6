"""Nodes of the learning-rate pipeline: thin, the work is done in ``unet_segmentation.training.lr_finder``."""

from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import TrainingParameters


def find_learning_rate(
    network: ModelSpec,
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: dict[str, Any],
    profile: dict[str, Any],
    plan: dict[str, Any],
    training: TrainingParameters,
) -> dict[str, Any]:
    """Train for a hundred steps with a learning rate that rises.

    Returns:
        JSON: the suggested and the current learning rate, and the rates and losses of the steps.
    """
    from safetensors.torch import load_file

    from unet_segmentation.models.factory import build_model
    from unet_segmentation.training import lr_finder
    from unet_segmentation.training.plan import labelled_ids_by_split, resolve_plan
    from unet_segmentation.training.plan_rules import validate_plan_values
    from unet_segmentation.training.trainer import load_weights
    from unet_segmentation.training.training_inputs import TrainingInputs

    values = validate_plan_values(plan, list(network.classes))
    settled = resolve_plan(training, values, network, packed, labelled_ids_by_split(samples), recipe, profile)
    model = build_model(network)
    load_weights(model, load_file(initial_weights))
    return lr_finder.find_learning_rate(settled, TrainingInputs(model, network, packed, recipe))


def plot_learning_rate(found: dict[str, Any]) -> Any:  # noqa: ANN401 - a plotly figure
    """Draw the loss against the learning rate, with what is suggested and what is set."""
    from unet_segmentation.reporting.training_curves import learning_rate_curve

    return learning_rate_curve(found)
