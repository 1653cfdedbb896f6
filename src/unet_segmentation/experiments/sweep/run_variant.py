"""One variant of a sweep, from the prepared data to its scores; what is finished is not done again."""

from __future__ import annotations

import errno
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import unet_segmentation
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ConfigurationError, ResourceError, find_project_error, iter_causes
from unet_segmentation.experiments.sweep.costs import PeakMemory, network_costs
from unet_segmentation.experiments.sweep.variants import Variant
from unet_segmentation.inference.predict_split import predict_split
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.metrics.definitions import scores as all_scores
from unet_segmentation.metrics.prediction_masks import count_predictions
from unet_segmentation.models.factory import validate_model_name
from unet_segmentation.models.model_file import read_header
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import ModelParameters, TrainingParameters
from unet_segmentation.tracking import Child, Run
from unet_segmentation.tracking.run_metadata import flatten
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.epoch_keeper import ReportEpoch
from unet_segmentation.training.plan import RESULT_NEUTRAL, data_fingerprint, fingerprint, labelled_ids_by_split
from unet_segmentation.training.plan_rules import propose_plan, validate_plan_values
from unet_segmentation.training.progress import duration
from unet_segmentation.training.run_directory import RunDirectory
from unet_segmentation.training.train_model import Trained, initialize_model, train_model
from unet_segmentation.utils.atomic_io import atomic_write, remove

logger = logging.getLogger(__name__)

RESULT, TRAINED, NOTE = "result.json", "trained.json", "mlflow_run.json"
HEADLINES = ("dice/mean", "iou/mean")
COUNTED = ("confusion_counts.parquet", "soft_overlap_sums.parquet")
PLANNED_BUDGET = ("epochs", "min_steps_per_epoch")  # the plan's, whatever else a variant changes: the budget is equal
SHARE = "training.checkpoint.max_time_fraction"


@dataclass(frozen=True)
class SweepData:
    """What all variants share: nothing of it is made twice.

    Attributes:
        parameters: all of the problem, as plain values.
        samples: columns sample_id, split, masks.
        packed: images and masks, opened once.
        profile: statistics of the training split.
        plan: of the problem, as proposed_plan.yml has it.
    """

    parameters: dict[str, Any]
    samples: pd.DataFrame
    packed: PackedSamples
    profile: dict[str, Any]
    plan: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        names: list[str] = self.parameters["classes"]
        return names

    @cached_property
    def evaluated(self) -> list[str]:
        """The samples of the split that is scored.

        Raises:
            ConfigurationError: there is none.
        """
        split = self.parameters["evaluation"]["split"]
        found = labelled_ids_by_split(self.samples).get(split)
        if not found:
            raise ConfigurationError(f"evaluation.split: the {split} split has no sample with a mask; name another")
        return found

    @cached_property
    def digest(self) -> str:
        """A hash of the data and of who is in which split."""
        return data_fingerprint(self.profile, self.samples)

    def values(self, network: ModelParameters, training: TrainingParameters) -> dict[str, Any]:
        """Return the values of the plan for a variant: the problem's own, but for what the variant makes of them.

        Epochs and their steps stay as planned, so that the budget is equal; a variant that says them itself is heard.
        """
        ours = ModelParameters.model_validate(self.parameters["model"])
        base = TrainingParameters.model_validate(self.parameters["training"])
        planned = propose_plan(self.profile, ours, base, self.classes)["values"]
        wanted = propose_plan(self.profile, network, training, self.classes)["values"]
        changed = {key: value for key, value in wanted.items() if value != planned[key] and key not in PLANNED_BUDGET}
        return validate_plan_values(self.plan, self.classes) | changed


@dataclass
class Result:
    """What is known of a variant that was run.

    Attributes:
        status: `finished` or `failed`.
        reason: why it failed.
        folder: of its tables, below that of the comparison.
        fingerprint: of the training's plan.
        epochs: that were trained.
        best_epoch: of them, by the validation score.
        parameters: of the network.
        multiply_adds: of one patch of the training.
        memory_bytes: that a step of the training keeps, counted.
        scores: of the evaluated split; None where one is undefined.
        costs: seconds, images a second, MiB: what differs from one time to the next.
        started: seconds since 1970.
        ended: likewise.
    """

    status: str
    reason: str = ""
    folder: str = ""
    fingerprint: str = ""
    epochs: int | None = None
    best_epoch: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    memory_bytes: int | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    costs: dict[str, float | None] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0


def check_buildable(variants: list[Variant], profile: dict[str, Any]) -> None:
    """Refuse names of networks, encoders and transforms that nobody knows, before anything is trained.

    Raises:
        ConfigurationError: names the variant, and the nearest name that exists.
    """
    for variant in variants:
        try:
            validate_model_name(variant.network)
            compose_recipe(variant.augmentation, profile["channels"], profile["dtype"])
        except ConfigurationError as error:
            raise ConfigurationError(f"The variant {variant.name!r}: {error}") from None


def run_variant(variant: Variant, prepared: SweepData, folder: Path, run: Run) -> Result:
    """Train and evaluate a variant, as a run within a run; or take what an earlier sweep has finished of it.

    Args:
        variant: what is trained.
        prepared: on what.
        folder: gets a folder for each training.
        run: the sweep's.

    Returns:
        What came of it. An error of this variant alone is its result; only what would stop every other, too (the disk
        is full), is raised.
    """
    place = _evaluation_directory(variant, prepared, folder)
    place.mkdir(parents=True, exist_ok=True)
    known = read_json(place / RESULT)
    began = time.time()
    child = run.child(str(variant), place / NOTE, _tags(variant, place), known["started"] if known else began)
    log_parameters(child, variant, prepared)
    if known is not None:
        result = Result(**known)
        logger.info("%s: finished before", variant)
        _tell_history(child, place.parent, result.ended)
    else:
        try:
            result = _finished(variant, prepared, place, child, began)
        except Exception as error:
            if is_fatal(error):
                raise
            reason = str(find_project_error(error) or f"{type(error).__name__}: {error}")
            logger.debug("%s failed", variant, exc_info=True)
            logger.info("%s: failed: %s", variant, reason.splitlines()[0])
            child.close("FAILED", reason)
            return Result("failed", reason, folder=str(place.relative_to(folder)), started=began, ended=time.time())
        result.folder = str(place.relative_to(folder))
        write_json(place / RESULT, asdict(result))
        scores = [f"{name} {value:.4f}" for name in HEADLINES if (value := result.scores[name]) is not None]
        took = duration(result.ended - result.started)
        logger.info("%s: %s, best epoch %d, %s", variant, ", ".join(scores), result.best_epoch, took)
    numbers = {f"test/{name}": value for name, value in result.scores.items() if value is not None}
    child.log_metrics(numbers, time=result.ended)
    for name in COUNTED:
        child.log_artifact(place / name, "evaluation")
    child.close("FINISHED", time=result.ended)
    return result


def train_variant(
    variant: Variant, prepared: SweepData, place: Path, report_epoch: ReportEpoch | None = None
) -> tuple[ModelSpec, Trained]:
    """Train a variant, going on where it was stopped; one that was finished is not trained again.

    Args:
        variant: what is trained.
        prepared: on what.
        place: the folder of the training.
        report_epoch: is told of each epoch.

    Returns:
        The network's spec, and what the training left.
    """
    known = read_json(place / TRAINED)
    if known is not None and (work := RunDirectory(place, known["plan"]["fingerprint"])).best.is_file():
        history = pd.read_csv(work.history, float_precision="round_trip")
        info = read_header(work.best)
        return info.spec, Trained(known["plan"], work.best, work.last, history, info)
    network, training = variant.network, _each_epoch_kept(variant)
    values = prepared.values(network, training)
    recipe = compose_recipe(variant.augmentation, prepared.profile["channels"], prepared.profile["dtype"])
    specification, weights = initialize_model(network, training, values, prepared.classes, prepared.profile)
    data = prepared.samples, prepared.profile, prepared.packed, recipe, values
    trained = train_model(specification, weights, *data, training, place, report_epoch)
    return specification, trained


def save_training_result(place: Path, trained: Trained) -> None:
    """Note that a training is finished, and drop the state that it would go on from: it is several times the model."""
    write_json(place / TRAINED, {"plan": trained.plan})
    remove(trained.last)


def training_key(variant: Variant, prepared: SweepData) -> str:
    """Hash all that decides what a training comes to, known before a network is built."""
    training = variant.training
    return fingerprint(
        variant.parameters["model"],
        training.model_dump(mode="json", exclude=RESULT_NEUTRAL),
        variant.parameters["augmentation"],
        prepared.values(variant.network, training),
        prepared.digest,
        unet_segmentation.__version__,
        torch.__version__,
    )


def _evaluation_directory(variant: Variant, prepared: SweepData, folder: Path) -> Path:
    """Name the folder of an evaluation, within that of its training: variants may differ in the predictor alone."""
    evaluation = fingerprint(variant.parameters["predictor"], prepared.parameters["evaluation"]["split"])
    return folder / training_key(variant, prepared) / f"evaluation-{evaluation[:8]}"


def _finished(variant: Variant, prepared: SweepData, place: Path, child: Child, began: float) -> Result:
    """Train, predict, count, score."""
    with PeakMemory() as memory:
        specification, trained = train_variant(
            variant, prepared, place.parent, lambda epoch, values, when: child.log_metrics(values, epoch, when)
        )
    save_training_result(place.parent, trained)
    before = time.perf_counter()
    scores = _evaluate(trained.best, variant, prepared, place)
    predicting = time.perf_counter() - before
    counts = network_costs(specification, trained.plan["patch_size"], trained.plan["batch_size"])
    history = trained.history
    result = Result(
        status="finished",
        fingerprint=trained.plan["fingerprint"],
        epochs=len(history),
        best_epoch=trained.information.epoch,
        parameters=counts["parameters"],
        multiply_adds=counts["multiply_adds"],
        memory_bytes=counts["memory_bytes"],
        scores=scores,
        costs={
            "seconds": time.time() - began,
            "training_seconds": float(history["train/epoch_seconds"].sum()),
            "evaluation_seconds": predicting,
            "training_images_per_second": float(history["train/throughput"].median()),
            "prediction_images_per_second": len(prepared.evaluated) / predicting,
            "peak_memory_mib": memory.mib,
        },
        started=began,
        ended=time.time(),
    )
    return result


def _evaluate(model: Path, variant: Variant, prepared: SweepData, place: Path) -> dict[str, float | None]:
    """Send the split through the network; keep the counts of every image, and give the scores."""
    masks = place / "predicting"
    remove(masks)
    masks.mkdir()
    predictor = Predictor.from_file(model, variant.inference)
    soft = predict_split(predictor, prepared.packed, prepared.evaluated, masks).soft
    confusion = count_predictions(masks, prepared.evaluated, prepared.packed.mask, len(prepared.classes))
    remove(masks)
    for name, table in zip(COUNTED, (confusion, soft), strict=True):
        with atomic_write(place / name) as temporary:
            table.to_parquet(temporary, index=False)
    found = all_scores(confusion, soft, prepared.classes)
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def _each_epoch_kept(variant: Variant) -> TrainingParameters:
    """Keep every epoch, unless the variant says otherwise: a kill loses no more than the one that is under way."""
    training = variant.training
    if SHARE in variant.overrides:
        return training
    return training.model_copy(update={"checkpoint": training.checkpoint.model_copy(update={"max_time_fraction": 1.0})})


def is_fatal(error: BaseException) -> bool:
    """Return whether the next variant would meet the same: the disk is full."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(cause, OSError) and cause.errno in full for cause in iter_causes(error)) or any(
        isinstance(cause, ResourceError) and "disk" in str(cause) for cause in iter_causes(error)
    )


# -- what MLflow is told


def _tags(variant: Variant, place: Path) -> dict[str, object]:
    return {
        "sweep.variant": variant.name,
        "sweep.overrides": json.dumps(variant.overrides, ensure_ascii=False),
        "sweep.training": place.parent.name,
    }


def log_parameters(child: Child, variant: Variant, prepared: SweepData) -> None:
    """Log all parameters of a variant to its run."""
    parameters = {**prepared.parameters, **variant.parameters}
    child.log_params(flatten(parameters))


def _tell_history(child: Child, place: Path, when: float) -> None:
    """Tell of the epochs of a finished training: where MLflow has them already, nothing changes."""
    known = read_json(place / TRAINED)
    if known is None:
        return
    history = pd.read_csv(RunDirectory(place, known["plan"]["fingerprint"]).history, float_precision="round_trip")
    for row in history.to_dict("records"):
        values = {str(name): value for name, value in row.items() if name != "epoch" and math.isfinite(value)}
        child.log_metrics(values, step=int(row["epoch"]), time=when)


# -- files


def read_json(file: Path) -> dict[str, Any] | None:
    """Read a small file; None where there is none."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return None


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write a small file, whole or not at all."""
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(values, indent=2), encoding="utf-8")
