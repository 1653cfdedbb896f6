"""One training from its parameters to its best model: what whoever trains several networks does for each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.models import factory as networks
from unet_segmentation.models.components import check_model_supports
from unet_segmentation.models.model_file import read_header
from unet_segmentation.models.spec import ModelInfo, ModelSpec
from unet_segmentation.parameters.training import ModelParameters, TrainingParameters
from unet_segmentation.training import trainer
from unet_segmentation.training.epoch_keeper import ReportEpoch
from unet_segmentation.training.plan import labelled_ids_by_split, resolve_plan, training_request
from unet_segmentation.training.preflight import finalize_plan, find_resumable_plan
from unet_segmentation.training.training_inputs import TrainingInputs


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes:
        plan: as it was settled.
        best: the model of the best epoch.
        last: the state after the last epoch.
        history: a row per epoch.
        information: the header of the best model.
    """

    plan: dict[str, Any]
    best: Path
    last: Path
    history: pd.DataFrame
    information: ModelInfo


def initialize_model(
    network: ModelParameters,
    training: TrainingParameters,
    values: Mapping[str, Any],
    classes: list[str],
    profile: dict[str, Any],
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """Describe a network, and draw its initial weights from the seed.

    Args:
        network: the parameters; an `auto` depth is that of the plan.
        training: the parameters.
        values: of the plan.
        classes: names of the classes.
        profile: statistics of the training split.

    Returns:
        The spec and the state dict.

    Raises:
        ConfigurationError: there is no such network, or it cannot be trained as the parameters say.
    """
    if network.encoder_depth == "auto":
        network = network.model_copy(update={"encoder_depth": values["encoder_depth"]})
    specification = networks.resolve_model_spec(network, classes, profile)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = networks.build_model(specification, network.encoder_weights)
    check_model_supports(model, training)
    networks.init_bias_from_class_priors(model, [profile["class_shares"][name] for name in classes])
    return specification, model.state_dict()


def train_model(
    specification: ModelSpec,
    weights: dict[str, Tensor],
    samples: pd.DataFrame,
    profile: dict[str, Any],
    packed: PackedSamples,
    recipe: dict[str, Any],
    proposal: Mapping[str, Any],
    training: TrainingParameters,
    folder: Path,
    report_epoch: ReportEpoch | None = None,
) -> Trained:
    """Settle the plan of a training, or take up that of its unfinished one; train; say what the best epoch is.

    Args:
        specification: of the network.
        weights: its initial ones.
        samples: columns sample_id, split, masks; what is `test` takes no part.
        profile: statistics of the training split.
        packed: images and masks.
        recipe: of the augmentation.
        proposal: the values of the plan, for what the parameters leave open.
        training: the parameters.
        folder: of working folders.
        report_epoch: as for :func:`trainer.fit`.
    """
    started = time.perf_counter()
    split = {name: ids for name, ids in labelled_ids_by_split(samples).items() if name != "test"}
    digest = hashlib.sha256(save(weights)).hexdigest()
    request = training_request(training, proposal, specification, split, recipe, profile, digest)
    plan = find_resumable_plan(folder, request, None) if training.resume else None
    resume = plan is not None
    network = networks.build_model(specification)
    trainer.load_weights(network, weights)
    setup = TrainingInputs(network, specification, packed, recipe)
    if plan is None:
        plan = resolve_plan(training, proposal, specification, packed, split, recipe, profile, digest)
        plan = finalize_plan(plan, training, dict(proposal), setup, folder, started, foretell=False)  # one of many
    result = trainer.fit(plan, setup, folder, report_epoch, resume=resume, rendezvous=training.rdzv_endpoint)
    return Trained(plan, result.best, result.last, result.history, read_header(result.best))
