"""Nodes of the training pipeline: thin, the work is done in ``unet_segmentation.learning``."""

import hashlib
import time
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import ModelParameters, TrainingParameters


def propose_plan(
    profile: dict[str, Any], network: ModelParameters, training: TrainingParameters, classes: list[str]
) -> dict[str, Any]:
    """Return a value, and the reason for it, for whatever the parameters leave open.

    Returns:
        YAML that may be edited: ``values`` and ``reasons`` by name.
    """
    from unet_segmentation.training import plan_rules

    return plan_rules.propose_plan(profile, network, training, classes)


def build_model(
    network: ModelParameters,
    training: TrainingParameters,
    plan: dict[str, Any],
    classes: list[str],
    profile: dict[str, Any],
) -> tuple[ModelSpec, dict[str, Any]]:
    """Describe the network and draw its initial weights from the seed.

    Returns:
        The spec and the state dict.
    """
    from unet_segmentation.training.plan import resolve_accelerator, resolve_precision
    from unet_segmentation.training.plan_rules import validate_plan_values
    from unet_segmentation.training.train_model import initialize_model

    resolve_precision(training.precision, resolve_accelerator(training.accelerator))  # fail now, not after the preview
    return initialize_model(network, training, validate_plan_values(plan, classes), classes, profile)


def preflight(
    network: ModelSpec,
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
    from unet_segmentation.models.factory import build_model
    from unet_segmentation.training.plan import labelled_ids_by_split, resolve_plan, training_request
    from unet_segmentation.training.plan_rules import validate_plan_values
    from unet_segmentation.training.preflight import finalize_plan, find_resumable_plan
    from unet_segmentation.training.run_directory import explain_mismatch
    from unet_segmentation.training.trainer import load_weights
    from unet_segmentation.training.training_inputs import TrainingInputs

    started = time.perf_counter()
    values = validate_plan_values(plan, list(network.classes))
    digest = hashlib.sha256(initial_weights.read_bytes()).hexdigest()
    parts = network, labelled_ids_by_split(samples), recipe, profile, digest
    request = training_request(training, values, *parts)
    settled = find_resumable_plan(folder, request, training.extra_epochs) if training.resume else None
    tracking.current().resumes(settled is not None or explain_mismatch(folder, request) is None)
    if settled is None:
        settled = resolve_plan(training, values, network, packed, parts[1], recipe, profile, digest)
        model = build_model(network)
        load_weights(model, load_file(initial_weights))
        settled = finalize_plan(
            settled, training, values, TrainingInputs(model, network, packed, recipe), folder, started
        )
    return settled


def train(
    network: ModelSpec,
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
    from unet_segmentation.models.factory import build_model
    from unet_segmentation.training.run_directory import RunDirectory
    from unet_segmentation.training.trainer import fit, load_weights
    from unet_segmentation.training.training_inputs import TrainingInputs

    model = build_model(network)
    load_weights(model, load_file(initial_weights))
    run = tracking.current()
    result = fit(
        plan,
        TrainingInputs(model, network, packed, recipe),
        folder,
        report_epoch=lambda epoch, values, when: run.log_metrics(values, step=epoch, time=when),
        resume=training.resume and not RunDirectory(folder, plan["fingerprint"]).delivered.is_file(),
        rendezvous=training.rdzv_endpoint,
    )
    return result.best, result.last, result.history


def plot_training(history: pd.DataFrame, training: TrainingParameters) -> Any:  # noqa: ANN401 - a plotly figure
    """Draw loss, scores and learning rate against the epoch."""
    from unet_segmentation.reporting.training_curves import training_curves

    return training_curves(history, score=f"validation/{training.monitor}")
