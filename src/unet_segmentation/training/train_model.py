"""Training a model, from its inputs to the best epoch: the single entry point for every training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from torch import Tensor

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.models import factory
from unet_segmentation.models.components import check_model_supports
from unet_segmentation.models.model_file import read_header
from unet_segmentation.models.spec import ModelInfo, ModelSpec
from unet_segmentation.parameters.model import ModelParameters
from unet_segmentation.parameters.training import TrainingParameters
from unet_segmentation.training import trainer
from unet_segmentation.training.callbacks.history import EpochListener
from unet_segmentation.training.plan import TrainingPlan, resolve_plan, training_request
from unet_segmentation.training.plan_rules import PlanValues
from unet_segmentation.training.preflight import finalize_plan
from unet_segmentation.training.resume import find_resumable_plan
from unet_segmentation.training.run_directory import RunDirectory
from unet_segmentation.training.training_inputs import TrainingInputs


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves."""

    plan: TrainingPlan
    best: Path  # the model of the best epoch
    last: Path  # the checkpoint after the last epoch
    history: pd.DataFrame  # a row per epoch (from 1), with its metrics
    info: ModelInfo  # the header of the best model

    @classmethod
    def load(cls, plan: TrainingPlan, run_dir: RunDirectory) -> Self:
        """Load what a finished training left in its run directory."""
        history = pd.read_csv(run_dir.history, float_precision="round_trip")
        return cls(plan, run_dir.best, run_dir.last, history, read_header(run_dir.best))


def resolve_spec_and_init_weights(
    model_params: ModelParameters,
    training: TrainingParameters,
    proposal: PlanValues,
    classes: list[str],
    statistics: DatasetStatistics,
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Resolve the spec of a model, an `auto` depth from the proposed plan, and draw its weights from the seed.

    Returns:
        The spec and the state dict.

    Raises:
        ConfigurationError: there is no such network, or it cannot be trained as the parameters say.
    """
    if model_params.encoder_depth == "auto":
        model_params = model_params.model_copy(update={"encoder_depth": proposal.encoder_depth})
    spec = factory.resolve_model_spec(model_params, classes, statistics)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        network = factory.build_model(spec, model_params.encoder_weights)
    check_model_supports(network, training)
    factory.init_bias_from_class_priors(network, [statistics.class_shares[name] for name in classes])
    return spec, network.state_dict()


def make_plan(inputs: TrainingInputs, training: TrainingParameters, *, estimate_duration: bool = False) -> TrainingPlan:
    """Resolve everything that is open: by rules, by this machine, and by what a dry run measures."""
    started = time.perf_counter()
    return finalize_plan(resolve_plan(training, inputs), inputs, started, estimate_duration=estimate_duration)


def train_model(
    inputs: TrainingInputs,
    training: TrainingParameters,
    folder: Path,
    *,
    plan: TrainingPlan | None = None,
    on_epoch_saved: EpochListener | None = None,
) -> TrainingResult:
    """Train a model, or resume the unfinished training of the same request among the run directories of a folder.

    Args:
        inputs: what the training starts from.
        training: its parameters.
        folder: of the run directories.
        plan: a finalized plan; if None, that of an unfinished training is resumed, or a new one made.
        on_epoch_saved: as for :func:`trainer.run_training`.
    """
    if plan is None:
        plan = find_resumable_plan(folder, training_request(training, inputs)) or make_plan(inputs, training)
    resume = training.resume and not RunDirectory(folder, plan.fingerprint).delivered.is_file()
    rendezvous = training.rdzv_endpoint
    run_dir = trainer.run_training(plan, inputs, folder, on_epoch_saved, resume=resume, rendezvous=rendezvous)
    return TrainingResult.load(plan, run_dir)
