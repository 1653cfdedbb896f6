"""Nodes of the training pipeline: thin, the work is done in ``unet_segmentation.learning``."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.parameters import NetworkParameters, TrainingParameters
from unet_segmentation.samples.packing import PackedSamples


def build_network(
    network: NetworkParameters,
    training: TrainingParameters,
    plan: dict[str, Any],
    classes: list[str],
    profile: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe the network and draw its initial weights from the seed.

    Returns:
        The specification (JSON) and the state dict.
    """
    from unet_segmentation.learning.plan import resolve_accelerator, resolve_precision
    from unet_segmentation.learning.planning import checked_values
    from unet_segmentation.learning.single import draw_network

    resolve_precision(training.precision, resolve_accelerator(training.accelerator))  # fail now, not after the preview
    return draw_network(network, training, checked_values(plan, classes), classes, profile)


def preflight(
    network: dict[str, Any],
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: dict[str, Any],
    profile: dict[str, Any],
    plan: dict[str, Any],
    training: TrainingParameters,
    folder: Path,
) -> dict[str, Any]:
    """Go on with the plan of an unfinished training of the same request, or resolve everything that is open.

    A new plan is tried: its memory and its speed are measured, and what they decide is settled.

    Returns:
        The plan of the training (JSON).
    """
    from safetensors.torch import load_file

    from unet_segmentation import tracking
    from unet_segmentation.learning.network import build_network
    from unet_segmentation.learning.plan import labelled_split, request_of, resolve_plan
    from unet_segmentation.learning.planning import checked_values
    from unet_segmentation.learning.preflight import plan_to_go_on_with, settle
    from unet_segmentation.learning.setup import Setup
    from unet_segmentation.learning.trainer import load_weights
    from unet_segmentation.learning.work import changes

    started = time.perf_counter()
    values = checked_values(plan, network["classes"])
    digest = hashlib.sha256(initial_weights.read_bytes()).hexdigest()
    parts = network, labelled_split(samples), recipe, profile, digest
    request = request_of(training, values, *parts)
    settled = plan_to_go_on_with(folder, request, training.more_epochs) if training.resume else None
    tracking.current().resumes(settled is not None or changes(folder, request) is None)
    if settled is None:
        settled = resolve_plan(training, values, network, packed, parts[1], recipe, profile, digest)
        model = build_network(network)
        load_weights(model, load_file(initial_weights))
        settled = settle(settled, training, values, Setup(model, network, packed, recipe), folder, started)
    return settled


def train(
    network: dict[str, Any],
    initial_weights: Path,
    packed: PackedSamples,
    recipe: dict[str, Any],
    plan: dict[str, Any],
    training: TrainingParameters,
    folder: Path,
) -> tuple[Path, Path, pd.DataFrame]:
    """Train as planned, from the last checkpoint if there is one, and report every epoch to the run.

    Returns:
        The best model, the last checkpoint, and the history (a row per epoch).
    """
    from safetensors.torch import load_file

    from unet_segmentation import tracking
    from unet_segmentation.learning.network import build_network
    from unet_segmentation.learning.setup import Setup
    from unet_segmentation.learning.trainer import fit, load_weights
    from unet_segmentation.learning.work import Work

    model = build_network(network)
    load_weights(model, load_file(initial_weights))
    run = tracking.current()
    result = fit(
        plan,
        Setup(model, network, packed, recipe),
        folder,
        report_epoch=lambda epoch, values, when: run.log_metrics(values, step=epoch, time=when),
        resume=training.resume and not Work(folder, plan["fingerprint"]).delivered.is_file(),
        rendezvous=training.rendezvous,
    )
    return result.best, result.last, result.history


def plot_training(history: pd.DataFrame, training: TrainingParameters) -> Any:  # noqa: ANN401 - a plotly figure
    """Draw loss, scores and learning rate against the epoch."""
    from unet_segmentation.figures.curves import training_curves

    return training_curves(history, score=f"validation/{training.score}")
