"""Nodes of the cross-validation: for each fold a model is initialized, trained and evaluated as for a whole problem."""

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import (
    AugmentationRecipe,
    CrossValidationParameters,
    ImageParameters,
    ModelParameters,
    PredictorParameters,
    SplitParameters,
    TrainingParameters,
)

logger = logging.getLogger(__name__)


def assign_folds(
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    cross_validation: CrossValidationParameters,
    split: SplitParameters,
) -> pd.DataFrame:
    """Divide the labelled samples of the chosen splits into folds, and the rest of each into training and validation.

    Returns:
        Columns fold (from 1), sample_id, split; `test` is what the fold holds out.
    """
    from unet_segmentation.data.split import kfold

    return kfold.assign_folds(samples, inspected, cross_validation, split)


def train_folds(
    *,
    folds: pd.DataFrame,
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    plan: dict[str, Any],
    network: ModelParameters,
    training: TrainingParameters,
    images: ImageParameters,
    classes: list[str],
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a model for each fold, resuming where an earlier run was stopped.

    Pixel statistics and class shares are those of the fold's own training samples: what is held out has no influence on
    its model.

    Args:
        folds: which sample is in which split of which fold.
        samples: the samples; their split is ignored.
        inspected: what inspection measured of them.
        packed: images and masks.
        recipe: of the augmentation.
        plan: the proposed plan, the same for every fold.
        network: parameters of the model.
        training: parameters of training.
        images: how image values were read.
        classes: names of the classes.
        folder: gets a directory for each fold.

    Returns:
        Columns fold, train, validation, held_out (numbers of samples), fingerprint (of the training plan), epoch (the
        best one), score (its validation score): a row per fold. And the histories, a row per fold and epoch.
    """
    from unet_segmentation.data.split.kfold import samples_of_fold
    from unet_segmentation.data.split.split import count_splits
    from unet_segmentation.data.statistics import compute_statistics
    from unet_segmentation.training.plan_rules import validate_plan_values
    from unet_segmentation.training.train_model import initialize_model, train_model
    from unet_segmentation.training.training_inputs import TrainingInputs

    values = validate_plan_values(plan, classes)
    rows: list[dict[str, object]] = []
    histories: list[pd.DataFrame] = []
    count = int(folds["fold"].max())
    monitor = f"validation/{training.monitor}"
    for fold in range(1, count + 1):
        table = samples_of_fold(samples, folds, fold)
        sizes = dict(zip(("train", "validation", "held_out"), count_splits(table["split"]).values(), strict=True))
        logger.info("fold %d/%d: %d train, %d validation, %d held out", fold, count, *sizes.values())
        statistics = compute_statistics(table, inspected, classes, images)
        if absent := [name for name, share in statistics.class_shares.items() if share == 0]:
            logger.warning("No pixel of the training split is of: %s; the model cannot learn it", ", ".join(absent))
        specification, weights = initialize_model(network, training, values, classes, statistics)
        inputs = TrainingInputs(specification, weights, packed, recipe, table, statistics, values)
        trained = train_model(inputs, training, folder / str(fold))
        epoch, score = trained.info.epoch, trained.info.scores.get(monitor, math.nan)
        logger.info("fold %d/%d: best epoch %d, %s %.4f", fold, count, epoch, monitor, score)
        tracking.active_run().log_metrics({f"cv/{monitor}": score}, step=fold)
        rows.append({"fold": fold, **sizes, "fingerprint": trained.plan.fingerprint, "epoch": epoch, "score": score})
        histories.append(trained.history.assign(fold=fold))
    history = pd.concat(histories, ignore_index=True)
    return pd.DataFrame(rows), history[["fold", *(name for name in history if name != "fold")]]


def predict_folds(
    runs: pd.DataFrame,
    folds: pd.DataFrame,
    packed: PackedSamples,
    inference: PredictorParameters,
    folder: Path,
    workdir: Path,
) -> tuple[Callable[[Path], None], pd.DataFrame]:
    """Predict every sample with the model of the fold that held it out.

    Args:
        runs: columns fold, fingerprint.
        folds: which sample is held out of which fold.
        packed: images and masks.
        inference: parameters of the predictor.
        folder: of the folds' training runs.
        workdir: holds the masks until they are complete.

    Returns:
        A writer of the predictions, and the soft overlap sums of every image, with its fold.
    """
    from unet_segmentation.data.split.kfold import held_out
    from unet_segmentation.inference.predict_split import predict_split
    from unet_segmentation.inference.predictor import Predictor
    from unet_segmentation.training.run_directory import RunDirectory

    for leftover in workdir.glob("*.png"):  # of an interrupted run
        leftover.unlink()
    sums = []
    for fold, fingerprint in zip(runs["fold"], runs["fingerprint"], strict=True):
        predictor = Predictor.from_file(RunDirectory(folder / str(fold), fingerprint).best, inference)
        predicted = predict_split(predictor, packed, held_out(folds, fold), workdir)
        sums.append(predicted.soft.assign(fold=fold))

    def write(target: Path) -> None:
        for file in workdir.glob("*.png"):
            shutil.move(file, target / file.name)

    return write, pd.concat(sums, ignore_index=True)


def count_folds(predictions: Path, folds: pd.DataFrame, packed: PackedSamples, classes: list[str]) -> pd.DataFrame:
    """Count the pixels of every image by target and predicted class, as evaluation does.

    Args:
        predictions: folder of the predicted masks.
        folds: which sample is held out of which fold.
        packed: the target masks.
        classes: names of the classes.

    Returns:
        Columns fold, sample_id, truth, prediction, count.

    Raises:
        DataError: a prediction is missing, or does not fit its mask.
    """
    from unet_segmentation.metrics.prediction_masks import count_predictions

    fold_of = folds.loc[folds["split"] == "test"].set_index("sample_id")["fold"]
    table = count_predictions(predictions, fold_of.index.tolist(), packed.mask, len(classes))
    table.insert(0, "fold", table["sample_id"].map(fold_of))
    return table


def score_folds(
    confusion: pd.DataFrame, soft_overlap_sums: pd.DataFrame, classes: list[str]
) -> dict[str, float | None]:
    """Compute the scores of all samples together, of each fold, and mean and standard deviation over the folds.

    Returns:
        Name to value, None where it is undefined.
    """
    from unet_segmentation.metrics.evaluation_tables import EvaluationTables
    from unet_segmentation.metrics.scores import out_of_fold_scores

    scores = out_of_fold_scores(EvaluationTables({"confusion": confusion, "soft": soft_overlap_sums}), classes)
    sizes = soft_overlap_sums["fold"].value_counts().sort_index()
    for fold, size in sizes.items():
        headline = (scores[f"cv/fold_{fold}/{name}"] for name in ("dice/mean", "iou/mean"))
        logger.info("fold %d/%d: dice/mean %.4f, iou/mean %.4f on %d held out", fold, len(sizes), *headline, size)
    logger.info(
        "Out of fold: dice/mean %.4f, iou/mean %.4f; folds: dice/mean %.4f, deviation %.4f",
        *(scores[name] for name in ("dice/mean", "iou/mean", "cv/dice/mean/mean", "cv/dice/mean/std")),
    )
    return {name: None if math.isnan(value) else value for name, value in scores.items()}


def plot_folds(metrics: dict[str, float | None]) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the scores of every fold."""
    from unet_segmentation.reporting.cross_validation_chart import folds_chart

    return folds_chart(metrics)


def mark_folds_completed(
    runs: pd.DataFrame,
    metrics: dict[str, float | None],
    chart: Any,  # noqa: ANN401 - a Plotly figure
    folder: Path,
) -> dict[str, str]:
    """Mark the folds' training runs as completed, so that the next run trains from scratch.

    Args:
        runs: columns fold, fingerprint.
        metrics: saved before.
        chart: saved before.
        folder: of the folds' training runs.

    Returns:
        The model file of each fold.
    """
    from unet_segmentation.training.run_directory import RunDirectory

    models = {}
    for fold, fingerprint in zip(runs["fold"], runs["fingerprint"], strict=True):
        directory = RunDirectory(folder / str(fold), fingerprint)
        directory.delivered.touch()
        models[str(fold)] = str(directory.best)
    return models
