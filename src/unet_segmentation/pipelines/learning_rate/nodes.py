"""Nodes of the learning-rate pipeline: thin, the work is done in ``unet_segmentation.learning.learning_rate``."""

from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.parameters import TrainingParameters
from unet_segmentation.samples.packing import PackedSamples


def find_learning_rate(
    network: dict[str, Any],
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

    from unet_segmentation.learning import learning_rate
    from unet_segmentation.learning.network import build_network
    from unet_segmentation.learning.plan import labelled_split, resolve_plan
    from unet_segmentation.learning.planning import checked_values
    from unet_segmentation.learning.setup import Setup
    from unet_segmentation.learning.trainer import load_weights

    values = checked_values(plan, network["classes"])
    settled = resolve_plan(training, values, network, packed, labelled_split(samples), recipe, profile)
    model = build_network(network)
    load_weights(model, load_file(initial_weights))
    return learning_rate.find_learning_rate(settled, Setup(model, network, packed, recipe))


def plot_learning_rate(found: dict[str, Any]) -> Any:  # noqa: ANN401 - a plotly figure
    """Draw the loss against the learning rate, with what is suggested and what is set."""
    from unet_segmentation.figures.curves import learning_rate_curve

    return learning_rate_curve(found)
