"""Nodes of the cross-validation: for each fold a model is initialized, trained and evaluated as for a whole problem."""

import logging
import math
from collections.abc import Callable
from functools import partial
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
from unet_segmentation.training.plan_rules import ProposedPlan

logger = logging.getLogger(__name__)


def assign_folds(
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    cross_validation: CrossValidationParameters,
    split: SplitParameters,
) -> pd.DataFrame:
    """Divide the labeled samples of the chosen splits into folds; see `kfold.assign_folds`."""
    from unet_segmentation.data.split import kfold

    return kfold.assign_folds(samples, inspected, cross_validation, split)


def train_folds(
    *,
    folds: pd.DataFrame,
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    packed: PackedSamples,
    recipe: AugmentationRecipe,
    proposed_plan: ProposedPlan,
    model_params: ModelParameters,
    training: TrainingParameters,
    images: ImageParameters,
    classes: list[str],
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a model for each fold, resuming where an earlier run was stopped.

    Pixel statistics and class shares are those of the fold's own training samples: what is held out has no influence on
    its model. The plan is the same for every fold.

    Returns:
        Columns fold, train, validation, held_out (numbers of samples), fingerprint (of the training plan), epoch (the
        best one), score (its validation score): a row per fold. And the histories, a row per fold and epoch.
    """
    from unet_segmentation.data.split.kfold import samples_of_fold
    from unet_segmentation.data.split.split import count_splits
    from unet_segmentation.data.statistics import compute_statistics
    from unet_segmentation.training.train_model import resolve_spec_and_init_weights, train_model
    from unet_segmentation.training.training_inputs import TrainingInputs

    proposal = proposed_plan.values
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
        spec, weights = resolve_spec_and_init_weights(model_params, training, proposal, classes, statistics)
        inputs = TrainingInputs(spec, weights, packed, recipe, table, statistics, proposal)
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
    predictor_params: PredictorParameters,
    folder: Path,
    workdir: Path,
) -> tuple[Callable[[Path], None], pd.DataFrame]:
    """Predict every sample with the model of the fold that held it out.

    Returns:
        A writer of the predictions, and the soft overlap sums of every image, with its fold.
    """
    from unet_segmentation.data.split.kfold import held_out
    from unet_segmentation.inference.predict_split import predict_split
    from unet_segmentation.inference.predictor import Predictor
    from unet_segmentation.metrics.prediction_masks import move_predictions, remove_predictions
    from unet_segmentation.training.run_directory import RunDirectory

    remove_predictions(workdir)  # of an interrupted run
    sums = []
    for fold, fingerprint in zip(runs["fold"], runs["fingerprint"], strict=True):
        predictor = Predictor.from_file(RunDirectory(folder / str(fold), fingerprint).best, predictor_params)
        predicted = predict_split(predictor, packed, held_out(folds, fold), workdir)
        sums.append(predicted.soft.assign(fold=fold))
    return partial(move_predictions, workdir), pd.concat(sums, ignore_index=True)


def count_folds(predictions: Path, folds: pd.DataFrame, packed: PackedSamples, classes: list[str]) -> pd.DataFrame:
    """Count the pixels of every image by target and predicted class: columns fold, sample_id, truth, prediction, count.

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
    """Compute the scores of all samples together, of each fold, and over the folds; None where one is undefined."""
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
    from unet_segmentation.reporting.score_charts import folds_chart

    return folds_chart(metrics)


def mark_folds_completed(
    runs: pd.DataFrame,
    metrics: dict[str, float | None],
    chart: Any,  # noqa: ANN401 - a Plotly figure
    folder: Path,
) -> dict[str, str]:
    """Mark the folds' training runs as completed once all is saved: the next run trains from scratch.

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
