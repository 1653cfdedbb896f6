"""One training run nested in an MLflow run: the body that a sweep and a hyperparameter search share."""

from __future__ import annotations

import errno
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

import unet_segmentation
from unet_segmentation.data.statistics import DatasetStatistics, hash_data, labeled_ids_by_split
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ConfigurationError, ResourceError, find_project_error, iter_causes
from unet_segmentation.experiments.variants import Variant
from unet_segmentation.inference.predict_split import predict_split
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.prediction_masks import count_predictions
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import ModelParameters, Parameters, PredictorParameters, TrainingParameters
from unet_segmentation.parameters.serialization import flatten, to_builtin
from unet_segmentation.tracking import Run
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.callbacks.history import EpochListener
from unet_segmentation.training.callbacks.progress import duration
from unet_segmentation.training.plan import RESULT_NEUTRAL, TrainingPlan
from unet_segmentation.training.plan_rules import PlanValues, ProposedPlan, propose_plan
from unet_segmentation.training.run_directory import RunDirectory
from unet_segmentation.training.train_model import TrainingResult, resolve_spec_and_init_weights, train_model
from unet_segmentation.training.training_inputs import TrainingInputs
from unet_segmentation.utils.atomic_io import atomic_write, remove
from unet_segmentation.utils.stable_hash import stable_hash

logger = logging.getLogger(__name__)

OUTCOME_FILE, TRAINED_FILE, RUN_FILE = "outcome.json", "trained.json", "mlflow_run.json"
HEADLINE_SCORES = ("dice/mean", "iou/mean")
PLANNED_BUDGET = ("epochs", "min_steps_per_epoch")  # always from the plan, so that every variant has the same budget
CHECKPOINT_SHARE = "training.checkpoint.max_time_fraction"


@dataclass(frozen=True)
class ExperimentData:
    """The prepared data and the parameters that all training runs of an experiment share."""

    parameters: Parameters
    samples: pd.DataFrame  # columns sample_id, split, masks
    packed: PackedSamples
    statistics: DatasetStatistics  # of the training split
    proposed_plan: ProposedPlan  # the problem's own

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes."""
        return self.parameters.classes

    @cached_property
    def evaluated_ids(self) -> list[str]:
        """Return the labeled samples of the evaluated split; raise ConfigurationError where there is none."""
        split = self.parameters.evaluation.split
        sample_ids = labeled_ids_by_split(self.samples).get(split)
        if not sample_ids:
            raise ConfigurationError(f"evaluation.split: the {split} split has no sample with a mask; name another")
        return sample_ids

    @cached_property
    def data_hash(self) -> str:
        """Return a hash of the data and of its split."""
        return hash_data(self.statistics, self.samples)

    def propose_values(self, model_params: ModelParameters, training: TrainingParameters) -> PlanValues:
        """Return the plan's values for a variant: the problem's own, except those that the variant changes.

        Epochs and steps per epoch stay as planned, so that the budget is equal, unless the variant sets them itself.
        """
        planned = propose_plan(self.statistics, self.parameters.model, self.parameters.training, self.classes).values
        proposed = propose_plan(self.statistics, model_params, training, self.classes).values
        changed = {k: value for k, value in proposed if value != getattr(planned, k) and k not in PLANNED_BUDGET}
        return self.proposed_plan.values.model_copy(update=changed)


@dataclass(frozen=True)
class Outcome:
    """What came of a nested training run; all but `status` and `reason` is known only where it did not fail."""

    status: Literal["finished", "pruned", "failed"]  # `pruned` only in a search
    reason: str = ""
    folder: str = ""  # of the outcome, relative to that of the experiment
    fingerprint: str = ""  # of the training plan
    epochs: int | None = None
    best_epoch: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None  # for one training patch
    memory_bytes: int | None = None  # that a training step keeps, counted
    scores: dict[str, float | None] = field(default_factory=dict)  # None where one is undefined
    costs: dict[str, float | None] = field(default_factory=dict)  # seconds, images per second, MiB
    started: float = 0.0  # seconds since 1970
    ended: float = 0.0  # seconds since 1970

    def __str__(self) -> str:
        scores = {name: self.scores[name] for name in HEADLINE_SCORES if name in self.scores} or self.scores
        words = [f"{name} {value:.4f}" for name, value in scores.items() if value is not None]
        words += [f"best epoch {self.best_epoch}"] if self.best_epoch is not None else []
        state = ["pruned"] if self.status == "pruned" else words
        return ", ".join([*state, duration(self.ended - self.started)])


def run_child_training(
    name: str,
    variant: Variant,
    run: Run,
    directory: Path,
    *,
    tags: Mapping[str, object],
    train: Callable[[Run, float], Outcome],
    log: Callable[[Run, Outcome], None],
) -> Outcome:
    """Train a variant as a nested MLflow run, or load the outcome of an earlier, finished run of it in `directory`.

    An error of this variant alone is an outcome, too; only one that every other variant would meet (a full disk) is
    raised. `train` gets the nested run and when it started; `log` logs what the outcome holds besides the epochs, also
    where it was loaded.
    """
    directory.mkdir(parents=True, exist_ok=True)
    stored = _read_json(directory / OUTCOME_FILE)
    outcome = None if stored is None else Outcome(**stored)
    started = outcome.started if outcome else time.time()
    child = run.start_nested_run(name, directory / RUN_FILE, tags, started)
    child.log_params(flatten(to_builtin(variant.parameters)))
    if outcome is not None:
        logger.info("%s: finished before", name)
        _log_history(child, directory.parent, outcome.ended)
    else:
        try:
            outcome = train(child, started)
        except Exception as error:
            if _is_fatal(error):
                raise
            reason = str(find_project_error(error) or f"{type(error).__name__}: {error}")
            logger.debug("%s failed", name, exc_info=True)
            logger.info("%s: failed: %s", name, reason.splitlines()[0])
            child.close("FAILED", reason)
            return Outcome("failed", reason, started=started, ended=time.time())
        if outcome.status == "finished":
            _write_json(directory / OUTCOME_FILE, asdict(outcome))
        logger.info("%s: %s", name, outcome)
    log(child, outcome)
    child.close("FINISHED", time=outcome.ended)
    return outcome


def train_variant(
    variant: Variant, data: ExperimentData, directory: Path, on_epoch_saved: EpochListener | None = None
) -> tuple[ModelSpec, TrainingResult]:
    """Train a variant, resuming where it was stopped; one that was finished is loaded."""
    stored = _read_json(directory / TRAINED_FILE)
    if stored is not None and (run_dir := RunDirectory(directory, stored["plan"]["fingerprint"])).best.is_file():
        result = TrainingResult.load(TrainingPlan.model_validate(stored["plan"]), run_dir)
        return result.info.spec, result
    network, training = variant.parameters.model, _with_every_epoch_saved(variant)
    values = data.propose_values(network, training)
    recipe = compose_recipe(variant.parameters.augmentation, data.statistics.channels, data.statistics.dtype)
    specification, weights = resolve_spec_and_init_weights(network, training, values, data.classes, data.statistics)
    inputs = TrainingInputs(specification, weights, data.packed, recipe, data.samples, data.statistics, values)
    return specification, train_model(inputs, training, directory, on_epoch_saved=on_epoch_saved)


def save_training_result(directory: Path, trained: TrainingResult) -> None:
    """Save that a training run is finished, and remove its last checkpoint, which is several times the model."""
    _write_json(directory / TRAINED_FILE, {"plan": trained.plan.model_dump(mode="json")})
    remove(trained.last)


def training_key(variant: Variant, data: ExperimentData) -> str:
    """Return a hash of all that determines the result of a training run, computed before a model is built."""
    training = variant.parameters.training
    return stable_hash(
        variant.parameters.model.model_dump(mode="json"),
        training.model_dump(mode="json", exclude=RESULT_NEUTRAL),
        variant.parameters.augmentation.model_dump(mode="json"),
        data.propose_values(variant.parameters.model, training).model_dump(),
        data.data_hash,
        unet_segmentation.__version__,
        torch.__version__,
    )


def predict_and_count(
    model: Path, inference: PredictorParameters, packed: PackedSamples, sample_ids: list[str], workdir: Path
) -> EvaluationTables:
    """Predict samples with a model file and count; `workdir` holds the predicted masks until they are counted."""
    masks = workdir / "predicting"
    remove(masks)
    masks.mkdir()
    predictor = Predictor.from_file(model, inference)
    soft = predict_split(predictor, packed, sample_ids, masks).soft
    confusion = count_predictions(masks, sample_ids, packed.mask, len(predictor.spec.classes))
    remove(masks)
    return EvaluationTables({"confusion": confusion, "soft": soft})


def _is_fatal(error: BaseException) -> bool:
    """Return whether the next variant would fail in the same way: the disk is full."""
    return any(
        (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT))
        or (isinstance(cause, ResourceError) and "disk" in str(cause))
        for cause in iter_causes(error)
    )


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return values


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(values, indent=2), encoding="utf-8")


def _with_every_epoch_saved(variant: Variant) -> TrainingParameters:
    """Save a checkpoint after every epoch unless the variant says otherwise, so that a kill costs at most one epoch."""
    training = variant.parameters.training
    if CHECKPOINT_SHARE in variant.overrides:
        return training
    return training.model_copy(update={"checkpoint": training.checkpoint.model_copy(update={"max_time_fraction": 1.0})})


def _log_history(child: Run, directory: Path, when: float) -> None:
    """Log the epochs of a finished training run; where MLflow has them already, nothing changes."""
    stored = _read_json(directory / TRAINED_FILE)
    if stored is None:
        return
    history = pd.read_csv(RunDirectory(directory, stored["plan"]["fingerprint"]).history, float_precision="round_trip")
    for row in history.to_dict("records"):
        values = {str(name): value for name, value in row.items() if name != "epoch" and math.isfinite(value)}
        child.log_metrics(values, step=int(row["epoch"]), time=when)
