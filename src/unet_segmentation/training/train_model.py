"""Training a model, from its inputs to the best epoch: the one road that every training takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.models import factory as networks
from unet_segmentation.models.components import check_model_supports
from unet_segmentation.models.model_file import read_header
from unet_segmentation.models.spec import ModelInfo, ModelSpec
from unet_segmentation.parameters.model import ModelParameters
from unet_segmentation.parameters.training import TrainingParameters
from unet_segmentation.training import trainer
from unet_segmentation.training.callbacks.epoch_reports import ReportEpoch
from unet_segmentation.training.plan import TrainingPlan, resolve_plan, training_request
from unet_segmentation.training.plan_rules import PlanValues
from unet_segmentation.training.preflight import finalize_plan
from unet_segmentation.training.resume import find_resumable_plan
from unet_segmentation.training.run_directory import RunDirectory
from unet_segmentation.training.training_inputs import TrainingInputs


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves.

    Attributes:
        plan: of the training.
        best: the model of the best epoch (:func:`model_file.load_model` reads it).
        last: the checkpoint after the last epoch.
        history: a row per epoch; ``epoch`` from 1, then the metrics.
        info: the header of the best model.
    """

    plan: TrainingPlan
    best: Path
    last: Path
    history: pd.DataFrame
    info: ModelInfo


def initialize_model(
    network: ModelParameters,
    training: TrainingParameters,
    values: PlanValues,
    classes: list[str],
    statistics: DatasetStatistics,
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Resolve the spec of a model, and draw its initial weights from the seed.

    Args:
        network: the parameters; an `auto` depth is that of the plan.
        training: the parameters.
        values: of the plan.
        classes: names of the classes.
        statistics: of the training split.

    Returns:
        The spec and the state dict.

    Raises:
        ConfigurationError: there is no such network, or it cannot be trained as the parameters say.
    """
    if network.encoder_depth == "auto":
        network = network.model_copy(update={"encoder_depth": values.encoder_depth})
    spec = networks.resolve_model_spec(network, classes, statistics)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = networks.build_model(spec, network.encoder_weights)
    check_model_supports(model, training)
    networks.init_bias_from_class_priors(model, [statistics.class_shares[name] for name in classes])
    return spec, model.state_dict()


def make_plan(inputs: TrainingInputs, training: TrainingParameters, *, estimate_duration: bool = False) -> TrainingPlan:
    """Resolve everything that is open: by rules, by this machine, and by what a dry run measures.

    Args:
        inputs: of the training.
        training: the parameters.
        estimate_duration: log how long the training will take.
    """
    started = time.perf_counter()
    return finalize_plan(resolve_plan(training, inputs), inputs, started, estimate_duration=estimate_duration)


def train_model(
    inputs: TrainingInputs,
    training: TrainingParameters,
    folder: Path,
    *,
    plan: TrainingPlan | None = None,
    report_epoch: ReportEpoch | None = None,
) -> TrainingResult:
    """Train a model, or resume the unfinished training of the same request.

    Args:
        inputs: what the training starts from.
        training: the parameters.
        folder: of the run directories.
        plan: where it was made before, or is that of an unfinished training.
        report_epoch: as for :func:`trainer.fit`.
    """
    if plan is None:
        plan = find_resumable_plan(folder, training_request(training, inputs)) or make_plan(inputs, training)
    resume = training.resume and not RunDirectory(folder, plan.fingerprint).delivered.is_file()
    work = trainer.fit(plan, inputs, folder, report_epoch, resume=resume, rendezvous=training.rdzv_endpoint)
    return TrainingResult(plan, work.best, work.last, _history(work.history), read_header(work.best))


def _history(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, float_precision="round_trip")
