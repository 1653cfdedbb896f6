"""Nodes of the training pipeline: thin, the work is done in ``unet_segmentation.training``."""

from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import AugmentationRecipe, ModelParameters, TrainingParameters
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.plan_rules import ProposedPlan


def propose_plan(
    statistics: DatasetStatistics, model_params: ModelParameters, training: TrainingParameters, classes: list[str]
) -> ProposedPlan:
    """Propose a value, and the reason for it, for whatever the parameters leave open; the file may be edited."""
    from unet_segmentation.training import plan_rules

    return plan_rules.propose_plan(statistics, model_params, training, classes)


def build_model(
    model_params: ModelParameters,
    training: TrainingParameters,
    proposed_plan: ProposedPlan,
    classes: list[str],
    statistics: DatasetStatistics,
) -> tuple[ModelSpec, dict[str, Any]]:
    """Resolve the model's spec, and draw its initial weights (a state dict) from the seed."""
    from unet_segmentation.training.hardware import resolve_hardware
    from unet_segmentation.training.train_model import resolve_spec_and_init_weights

    resolve_hardware(training)  # an accelerator that is missing is reported now, not after the preview
    return resolve_spec_and_init_weights(model_params, training, proposed_plan.values, classes, statistics)


def preflight(
    spec: ModelSpec,
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    statistics: DatasetStatistics,
    proposed_plan: ProposedPlan,
    training: TrainingParameters,
    folder: Path,
) -> TrainingPlan:
    """Return the plan of the unfinished training of the same request, or resolve and measure a new one."""
    from safetensors.torch import load_file

    from unet_segmentation import tracking
    from unet_segmentation.training.plan import training_request
    from unet_segmentation.training.resume import explain_mismatch, find_resumable_plan
    from unet_segmentation.training.train_model import make_plan
    from unet_segmentation.training.training_inputs import TrainingInputs

    weights, proposal = load_file(initial_weights), proposed_plan.values
    inputs = TrainingInputs(spec, weights, packed, recipe, samples, statistics, proposal)
    request = training_request(training, inputs)
    resumable = find_resumable_plan(folder, request)
    tracking.active_run().decide_resumption(resumable is not None or explain_mismatch(folder, request) is None)
    return resumable or make_plan(inputs, training, estimate_duration=True)


def train(
    spec: ModelSpec,
    initial_weights: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    statistics: DatasetStatistics,
    proposed_plan: ProposedPlan,
    training_plan: TrainingPlan,
    training: TrainingParameters,
    folder: Path,
) -> tuple[Path, Path, pd.DataFrame]:
    """Train as planned, from the last checkpoint if there is one; after each saved epoch, log its metrics to MLflow.

    Returns:
        The best model, the last checkpoint, and the history (a row per epoch).
    """
    from safetensors.torch import load_file

    from unet_segmentation import tracking
    from unet_segmentation.training.train_model import train_model
    from unet_segmentation.training.training_inputs import TrainingInputs

    run = tracking.active_run()
    weights, proposal = load_file(initial_weights), proposed_plan.values
    inputs = TrainingInputs(spec, weights, packed, recipe, samples, statistics, proposal)
    result = train_model(
        inputs,
        training,
        folder,
        plan=training_plan,
        on_epoch_saved=lambda epoch, metrics, end_time: run.log_metrics(metrics, step=epoch, time=end_time),
    )
    return result.best, result.last, result.history


def plot_training(history: pd.DataFrame, training: TrainingParameters) -> Any:  # noqa: ANN401 - a plotly figure
    """Plot loss, scores and learning rate against the epoch."""
    from unet_segmentation.reporting.training_curves import training_curves

    return training_curves(history, score=f"validation/{training.monitor}")
