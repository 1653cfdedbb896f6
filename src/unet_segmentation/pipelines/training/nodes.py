"""Nodes of the training pipeline: thin, the work is done in ``unet_segmentation.learning``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import AugmentationRecipe, ModelParameters, TrainingParameters
from unet_segmentation.training.plan import TrainingPlan


def propose_plan(
    statistics: DatasetStatistics, network: ModelParameters, training: TrainingParameters, classes: list[str]
) -> dict[str, Any]:
    """Propose a value, and the reason for it, for whatever the parameters leave open.

    Returns:
        YAML that may be edited: ``values`` and ``reasons`` by name.
    """
    from unet_segmentation.training import plan_rules

    return plan_rules.propose_plan(statistics, network, training, classes).model_dump()


def build_model(
    network: ModelParameters,
    training: TrainingParameters,
    plan: Mapping[str, object],
    classes: list[str],
    statistics: DatasetStatistics,
) -> tuple[ModelSpec, dict[str, Any]]:
    """Resolve the model's spec, and draw its initial weights from the seed.

    Returns:
        The spec and the state dict.
    """
    from unet_segmentation.training.hardware import resolve_hardware
    from unet_segmentation.training.plan_rules import validate_plan_values
    from unet_segmentation.training.train_model import initialize_model

    resolve_hardware(training)  # an accelerator that is missing is reported now, not after the preview
    return initialize_model(network, training, validate_plan_values(plan, classes), classes, statistics)


def preflight(
    network: ModelSpec,
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    statistics: DatasetStatistics,
    plan: Mapping[str, object],
    training: TrainingParameters,
    folder: Path,
) -> TrainingPlan:
    """Return the plan of the unfinished training of the same request, or resolve and measure a new one."""
    from unet_segmentation import tracking
    from unet_segmentation.training.plan import training_request
    from unet_segmentation.training.resume import explain_mismatch, find_resumable_plan
    from unet_segmentation.training.train_model import make_plan
    from unet_segmentation.training.training_inputs import load_inputs

    inputs = load_inputs(
        network, initial_weights, samples=samples, packed=packed, recipe=recipe, statistics=statistics, plan=plan
    )
    request = training_request(training, inputs)
    resumable = find_resumable_plan(folder, request)
    tracking.active_run().set_resumed(resumable is not None or explain_mismatch(folder, request) is None)
    return resumable or make_plan(inputs, training, estimate_duration=True)


def train(
    network: ModelSpec,
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    statistics: DatasetStatistics,
    plan: Mapping[str, object],
    training_plan: TrainingPlan,
    training: TrainingParameters,
    folder: Path,
) -> tuple[Path, Path, pd.DataFrame]:
    """Train as planned, from the last checkpoint if there is one, and log every epoch to the run.

    Returns:
        The best model, the last checkpoint, and the history (a row per epoch).
    """
    from unet_segmentation import tracking
    from unet_segmentation.training.train_model import train_model
    from unet_segmentation.training.training_inputs import load_inputs

    run = tracking.active_run()
    inputs = load_inputs(
        network, initial_weights, samples=samples, packed=packed, recipe=recipe, statistics=statistics, plan=plan
    )
    result = train_model(
        inputs,
        training,
        folder,
        plan=training_plan,
        report_epoch=lambda epoch, metrics, end_time: run.log_metrics(metrics, step=epoch, time=end_time),
    )
    return result.best, result.last, result.history


def plot_training(history: pd.DataFrame, training: TrainingParameters) -> Any:  # noqa: ANN401 - a plotly figure
    """Plot loss, scores and learning rate against the epoch."""
    from unet_segmentation.reporting.training_curves import training_curves

    return training_curves(history, score=f"validation/{training.monitor}")
