"""Nodes of the training pipeline: thin, the work is done in ``unet_segmentation.learning``."""

from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.parameters import NetworkParameters, TrainingParameters
from unet_segmentation.samples.packing import PackedSamples


def build_network(
    network: NetworkParameters, training: TrainingParameters, classes: list[str], profile: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe the network and draw its initial weights from the seed.

    Returns:
        The specification (JSON) and the state dict.
    """
    import torch

    from unet_segmentation.learning import network as networks
    from unet_segmentation.learning.plan import resolve_accelerator, resolve_precision

    resolve_precision(training.precision, resolve_accelerator(training.accelerator))  # fail now, not after the preview
    specification = networks.describe_network(network, classes, profile)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = networks.build_network(specification, network.encoder_weights)
    networks.start_from_class_shares(model, [profile["class_shares"][name] for name in classes])
    return specification, model.state_dict()


def train(
    network: dict[str, Any],
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: dict[str, Any],
    profile: dict[str, Any],
    training: TrainingParameters,
    classes: list[str],
    folder: Path,
) -> tuple[dict[str, Any], Path, Path, pd.DataFrame]:
    """Resolve the plan, train, and report every epoch to the run.

    Returns:
        The plan, the best model, the last checkpoint, and the history (a row per epoch).
    """
    from safetensors.torch import load_file

    from unet_segmentation import tracking
    from unet_segmentation.learning.network import build_network
    from unet_segmentation.learning.plan import labelled_split, resolve_plan
    from unet_segmentation.learning.trainer import fit, load_weights

    plan = resolve_plan(training, network, packed, labelled_split(samples), recipe, profile)
    model = build_network(network)
    load_weights(model, load_file(initial_weights))
    run = tracking.current()
    result = fit(
        plan,
        model,
        network,
        packed,
        recipe,
        folder,
        report_epoch=lambda epoch, values: run.log_metrics(values, step=epoch),
    )
    return plan, result.best, result.last, result.history


def plot_training(history: pd.DataFrame, training: TrainingParameters) -> Any:  # noqa: ANN401 - a plotly figure
    """Draw loss, scores and learning rate against the epoch."""
    from unet_segmentation.figures.curves import training_curves

    return training_curves(history, score=f"validation/{training.score}")
