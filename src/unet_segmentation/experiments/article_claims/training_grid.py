"""A grid of models trained on equal terms: on the same data, with the same parameters, for as many epochs."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from unet_segmentation.data.statistics import DatasetStatistics, labeled_ids_by_split
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import DataError
from unet_segmentation.experiments.child_training import predict_and_count
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.metrics.sufficient_statistics import UnitSums, groups_of
from unet_segmentation.models.complexity import measure_speed, model_complexity
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import AugmentationRecipe, ModelParameters, PredictorParameters, TrainingParameters
from unet_segmentation.parameters.article_claims import PresetParameters
from unet_segmentation.training.plan import effective_values, steps_per_epoch
from unet_segmentation.training.plan_rules import PlanValues
from unet_segmentation.training.train_model import resolve_spec_and_init_weights, train_model
from unet_segmentation.training.training_inputs import TrainingInputs

logger = logging.getLogger(__name__)

SCORES = ("dice/mean", "iou/mean", "dice/foreground_mean", "iou/foreground_mean", "accuracy/pixel")


class GridPoint(NamedTuple):
    """One model of a grid."""

    key: Mapping[str, Any]  # what distinguishes it, by column; where it is trained, the seed is one of them
    model_params: ModelParameters

    def directory(self, root: Path) -> Path:
        """Return its own directory below one for all."""
        return root / "-".join(map(str, self.key.values()))

    def __str__(self) -> str:
        return ", ".join(f"seed {value}" if name == "seed" else str(value) for name, value in self.key.items())


@dataclass(frozen=True)
class GridData:
    """What all training runs of a grid share."""

    samples: pd.DataFrame  # columns sample_id, split, masks, group
    packed: PackedSamples
    statistics: DatasetStatistics  # of the training split
    recipe: AugmentationRecipe  # of the augmentation
    proposal: PlanValues  # for what the parameters leave open
    classes: list[str]
    split: str  # that is evaluated

    @cached_property
    def evaluated_ids(self) -> list[str]:
        """Return the labeled samples of the evaluated split; raise DataError where there is none."""
        sample_ids = labeled_ids_by_split(self.samples).get(self.split)
        if not sample_ids:
            raise DataError(f"The {self.split} split has no sample with a mask: name another in evaluation.split")
        return sample_ids

    def initialize(
        self, point: GridPoint, training: TrainingParameters
    ) -> tuple[ModelSpec, dict[str, Tensor], TrainingParameters]:
        """Return the specification and initial weights of a model, and the training parameters with its seed."""
        seeded = training.model_copy(update={"seed": point.key["seed"]})
        return *resolve_spec_and_init_weights(
            point.model_params, seeded, self.proposal, self.classes, self.statistics
        ), seeded


class GridResult(NamedTuple):
    """What the training runs of a grid gave, each row under the key of its grid point."""

    runs: pd.DataFrame  # a row per training run: `SCORES`, and the best epoch
    confusion: pd.DataFrame  # sparse counts per image: sample_id, truth, prediction, count
    soft_overlap_sums: pd.DataFrame  # per image
    models: list[Path]  # file of the best epoch of each training run


def shared_training_parameters(
    training: TrainingParameters, preset: PresetParameters, steps: int, data: GridData
) -> TrainingParameters:
    """Return the parameters that all models of a grid are trained with, for `steps` rounded up to whole epochs.

    The preset may replace patch and batch size.
    """
    sizes = {"patch_size": preset.patch_size, "batch_size": preset.batch_size}
    update: dict[str, object] = {name: size for name, size in sizes.items() if size is not None}
    shared = training.model_copy(update=update | {"max_time_minutes": None, "extra_epochs": None})
    return shared.model_copy(update={"epochs": math.ceil(steps / _steps_per_epoch(shared, data))})


def _steps_per_epoch(training: TrainingParameters, data: GridData) -> int:
    images = len(labeled_ids_by_split(data.samples)["train"])
    return steps_per_epoch(effective_values(training, data.proposal), training.accumulate_grad_batches, images)


def expected_seconds(
    points: Sequence[GridPoint], training: TrainingParameters, data: GridData, speeds: pd.DataFrame, side: int
) -> float:
    """Estimate how long all training runs take together, without validation and prediction.

    `speeds` holds the ``training_images_per_second`` of each model, under the columns of the keys but the seed, for
    images of `side` pixels; time is proportional to the number of pixels.
    """
    values = effective_values(training, data.proposal)
    patches = values.epochs * _steps_per_epoch(training, data) * values.batch_size
    seconds = patches * (values.patch_size / side) ** 2 / speeds["training_images_per_second"]
    keys = pd.DataFrame([point.key for point in points])
    shared = [name for name in keys if name in speeds]
    return float(keys.merge(speeds[shared].assign(seconds=seconds), on=shared)["seconds"].sum())


def train_all(
    points: Sequence[GridPoint],
    training: TrainingParameters,
    data: GridData,
    inference: PredictorParameters,
    folder: Path,
) -> GridResult:
    """Train models one after the other, and score each on the evaluated split.

    An unfinished training run resumes; a finished one is not trained again. `folder` gets a directory for each.
    """
    rows, confusions, softs, models = [], [], [], []
    for number, point in enumerate(points, 1):
        logger.info("training %d/%d: %s", number, len(points), point)
        directory = point.directory(folder)
        directory.mkdir(parents=True, exist_ok=True)
        specification, weights, seeded = data.initialize(point, training)
        inputs = TrainingInputs(
            specification, weights, data.packed, data.recipe, data.samples, data.statistics, data.proposal
        )
        trained = train_model(inputs, seeded, directory)
        tables = predict_and_count(trained.best, inference, data.packed, data.evaluated_ids, directory)
        scores = compute_scores(tables, data.classes)
        rows.append({**point.key, "best_epoch": trained.info.epoch} | {name: scores[name] for name in SCORES})
        confusions.append(tables.confusion.assign(**point.key))
        softs.append(tables.soft.assign(**point.key))
        models.append(trained.best)
    confusion, soft = (pd.concat(tables, ignore_index=True) for tables in (confusions, softs))
    return GridResult(pd.DataFrame(rows), confusion, soft, models)


@dataclass(frozen=True)
class CostMeasurement:
    """Counts and times models for the problem at hand."""

    classes: list[str]
    statistics: DatasetStatistics  # of the training split
    proposal: PlanValues  # for what the parameters leave open
    side: int  # of the images, in pixels; rounded up to what a model takes
    batch_size: int  # of the steps that are timed
    seconds: float  # of each measurement

    def count(self, points: Sequence[GridPoint]) -> pd.DataFrame:
        """Count the costs of each model: the same at any time; see `model_complexity`."""
        rows = []
        for point in points:
            specification, side = self._specification(point)
            rows.append({**point.key, **model_complexity(specification, side, side)})
            logger.info("%s: %.1f million parameters", point, rows[-1]["parameters"] / 1e6)
        return pd.DataFrame(rows)

    def time(self, points: Sequence[GridPoint]) -> pd.DataFrame:
        """Measure the speed of each model: another one each time; see `measure_speed`."""
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        rows = []
        for point in points:
            specification, side = self._specification(point)
            network = build_model(specification)
            speed = measure_speed(
                network, side, side, batch_size=self.batch_size, seconds=self.seconds, accelerator=accelerator
            )
            rows.append({**point.key, **speed})
        return pd.DataFrame(rows)

    def _specification(self, point: GridPoint) -> tuple[ModelSpec, int]:
        model_params = point.model_params
        if model_params.encoder_depth == "auto":
            model_params = model_params.model_copy(update={"encoder_depth": self.proposal.encoder_depth})
        specification = resolve_model_spec(model_params, self.classes, self.statistics)
        return specification, -(-self.side // specification.multiple) * specification.multiple


def split_sums(
    confusion: pd.DataFrame, soft_overlap_sums: pd.DataFrame, key: list[str], samples: pd.DataFrame, classes: list[str]
) -> dict[tuple[Hashable, ...], UnitSums]:
    """Split the counts of several training runs (see `GridResult`) by the columns that distinguish them."""
    groups, counts = groups_of(samples), confusion.groupby(key, sort=False)
    return {
        values: UnitSums.of(EvaluationTables({"confusion": counts.get_group(values), "soft": soft}), classes, groups)
        for values, soft in soft_overlap_sums.groupby(key, sort=False)
    }
