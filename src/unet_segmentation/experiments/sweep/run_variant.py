"""One variant of a sweep, from the prepared data to its scores."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import replace
from pathlib import Path

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.experiments.child_training import (
    ExperimentData,
    Outcome,
    predict_and_count,
    run_child_training,
    save_training_result,
    train_variant,
    training_key,
)
from unet_segmentation.experiments.variants import Variant
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.models.complexity import model_complexity
from unet_segmentation.models.factory import validate_model_name
from unet_segmentation.tracking import Run
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.utils.atomic_io import atomic_write
from unet_segmentation.utils.memory import PeakMemory
from unet_segmentation.utils.stable_hash import stable_hash

logger = logging.getLogger(__name__)

BYTES_PER_WEIGHT = 16  # float32: the weight, its gradient, and AdamW's two moments
TABLES = "tables"  # directory of the counts per image


def check_buildable(variants: list[Variant], statistics: DatasetStatistics) -> None:
    """Refuse unknown names of architectures, encoders and transforms before anything is trained.

    Raises:
        ConfigurationError: names the variant, and the nearest name that exists.
    """
    for variant in variants:
        try:
            validate_model_name(variant.parameters.model)
            compose_recipe(variant.parameters.augmentation, statistics.channels, statistics.dtype)
        except ConfigurationError as error:
            raise ConfigurationError(f"The variant {variant.name!r}: {error}") from None


def run_variant(variant: Variant, data: ExperimentData, folder: Path, run: Run) -> Outcome:
    """Train and evaluate a variant as a nested run of the sweep; see `run_child_training`."""
    directory = _evaluation_directory(variant, data, folder)
    tags = {
        "sweep.variant": variant.name,
        "sweep.overrides": json.dumps(variant.overrides, ensure_ascii=False),
        "sweep.training": directory.parent.name,
    }

    def log(child: Run, outcome: Outcome) -> None:
        scores = {f"test/{name}": value for name, value in outcome.scores.items() if value is not None}
        child.log_metrics(scores, time=outcome.ended)
        child.log_artifact(directory / TABLES, "evaluation")

    outcome = run_child_training(
        str(variant),
        variant,
        run,
        directory,
        tags=tags,
        train=lambda child, started: _train_and_evaluate(variant, data, directory, child, started),
        log=log,
    )
    return replace(outcome, folder=str(directory.relative_to(folder)))


def _evaluation_directory(variant: Variant, data: ExperimentData, folder: Path) -> Path:
    """Return the directory of an evaluation within that of its training: variants may differ in the predictor alone."""
    evaluation = stable_hash(variant.parameters.predictor.model_dump(mode="json"), data.parameters.evaluation.split)
    return folder / training_key(variant, data) / f"evaluation-{evaluation[:8]}"


def _train_and_evaluate(variant: Variant, data: ExperimentData, directory: Path, child: Run, started: float) -> Outcome:
    with PeakMemory() as memory:
        specification, trained = train_variant(
            variant, data, directory.parent, lambda epoch, values, when: child.log_metrics(values, epoch, when)
        )
    save_training_result(directory.parent, trained)
    evaluation_started = time.perf_counter()
    scores = _evaluate(trained.best, variant, data, directory)
    evaluation_seconds = time.perf_counter() - evaluation_started
    side, batch_size = trained.plan.patch_size, trained.plan.batch_size
    counts = model_complexity(specification, side, side)
    history = trained.history
    return Outcome(
        status="finished",
        fingerprint=trained.plan.fingerprint,
        epochs=len(history),
        best_epoch=trained.info.epoch,
        parameters=counts["parameters"],
        multiply_adds=counts["multiply_adds"],
        memory_bytes=batch_size * counts["activation_bytes"] + BYTES_PER_WEIGHT * counts["parameters"],
        scores=scores,
        costs={
            "seconds": time.time() - started,
            "training_seconds": float(history["train/epoch_seconds"].sum()),
            "evaluation_seconds": evaluation_seconds,
            "training_images_per_second": float(history["train/throughput"].median()),
            "prediction_images_per_second": len(data.evaluated_ids) / evaluation_seconds,
            "peak_memory_mib": memory.mib,
        },
        started=started,
        ended=time.time(),
    )


def _evaluate(model: Path, variant: Variant, data: ExperimentData, directory: Path) -> dict[str, float | None]:
    """Predict and score the evaluated split, and save the counts of every image."""
    tables = predict_and_count(model, variant.parameters.predictor, data.packed, data.evaluated_ids, directory)
    with atomic_write(directory / TABLES) as temporary:
        temporary.mkdir()
        tables.save(temporary)
    scores = compute_scores(tables, data.classes)
    return {name: None if math.isnan(value) else value for name, value in scores.items()}
