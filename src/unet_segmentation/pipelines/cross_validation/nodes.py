"""Nodes of the cross-validation: each fold is profiled, built, planned, trained and predicted like a problem."""

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
    CrossValidationParameters,
    ImageParameters,
    ModelParameters,
    PredictorParameters,
    SplitParameters,
    TrainingParameters,
)
from unet_segmentation.pipelines.data_preparation.nodes import compute_statistics as profile_split
from unet_segmentation.pipelines.training.nodes import build_model

logger = logging.getLogger(__name__)


def assign_folds(
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    cross_validation: CrossValidationParameters,
    split: SplitParameters,
) -> pd.DataFrame:
    """Cut the labelled samples of the chosen splits into folds; beside each, the others into training and validation.

    Returns:
        Columns fold (from 1), sample_id, split; `test` is what the fold holds out.
    """
    from unet_segmentation.data.split import kfold

    return kfold.assign_folds(samples, inspected, cross_validation, split)


def train_folds(
    folds: pd.DataFrame,
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    packed: PackedSamples,
    recipe: dict[str, Any],
    plan: dict[str, Any],
    network: ModelParameters,
    training: TrainingParameters,
    images: ImageParameters,
    classes: list[str],
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train once for each fold, going on where an earlier run was stopped.

    Pixel statistics and class shares are those of the fold's own training samples: what is held out has no part in
    its network.

    Args:
        folds: which sample is on which side of which fold.
        samples: the samples; their split does not matter here.
        inspected: what inspection measured of them.
        packed: images and masks.
        recipe: of the augmentation.
        plan: the proposal for what the parameters leave open; the same for every fold.
        network: the parameters.
        training: the parameters.
        images: how image values were taken.
        classes: names of the classes.
        folder: gets a folder of working folders for each fold.

    Returns:
        Columns fold, train, validation, held_out (numbers of samples), fingerprint (of the training), epoch (the best
        one), score (its validation score): a row per fold. And the histories of all, a row per fold and epoch.
    """
    from unet_segmentation.data.split.kfold import samples_of_fold
    from unet_segmentation.data.split.split import count_splits
    from unet_segmentation.training.train_model import train_model

    rows: list[dict[str, Any]] = []
    histories: list[pd.DataFrame] = []
    count = int(folds["fold"].max())
    for fold in range(1, count + 1):
        table = samples_of_fold(samples, folds, fold)
        sizes = dict(zip(("train", "validation", "held_out"), count_splits(table["split"]).values(), strict=True))
        logger.info("fold %d/%d: %d train, %d validation, %d held out", fold, count, *sizes.values())
        profile = profile_split(table, inspected, classes, images)
        parts = *build_model(network, training, plan, classes, profile), table, profile
        trained = train_model(*parts, packed, recipe, plan["values"], training, folder / str(fold))
        best = trained.information
        score = best.scores.get(f"validation/{training.monitor}", math.nan)
        found = {"fingerprint": trained.plan["fingerprint"], "epoch": best.epoch, "score": score}
        logger.info(
            "fold %d/%d: best epoch %d, validation/%s %.4f",
            fold,
            count,
            found["epoch"],
            training.monitor,
            found["score"],
        )
        tracking.current().log_metrics({f"cv/validation/{training.monitor}": found["score"]}, step=fold)
        rows.append({"fold": fold, **sizes, **found})
        histories.append(trained.history.assign(fold=fold))
    history = pd.concat(histories, ignore_index=True)
    return pd.DataFrame(rows), history[["fold", *(name for name in history if name != "fold")]]


def predict_folds(
    trainings: pd.DataFrame,
    folds: pd.DataFrame,
    packed: PackedSamples,
    inference: PredictorParameters,
    folder: Path,
    predicting: Path,
) -> tuple[Callable[[Path], None], pd.DataFrame]:
    """Predict every sample by the network of the fold that held it out.

    Args:
        trainings: columns fold, fingerprint.
        folds: which sample is held out of which fold.
        packed: images and masks.
        inference: the predictor's parameters.
        folder: where the folds' trainings are.
        predicting: to work in.

    Returns:
        A writer of the predictions, and the article's sums of every image, with its fold.
    """
    from unet_segmentation.data.split.kfold import held_out
    from unet_segmentation.inference.predict_split import predict_split
    from unet_segmentation.inference.predictor import Predictor
    from unet_segmentation.training.run_directory import RunDirectory

    for leftover in predicting.glob("*.png"):  # of a pass that was interrupted
        leftover.unlink()
    sums = []
    for fold, fingerprint in zip(trainings["fold"], trainings["fingerprint"], strict=True):
        predictor = Predictor.from_file(RunDirectory(folder / str(fold), fingerprint).best, inference)
        found = predict_split(predictor, packed, held_out(folds, fold), predicting)
        sums.append(found.soft.assign(fold=fold))

    def write(target: Path) -> None:
        for file in predicting.glob("*.png"):
            shutil.move(file, target / file.name)

    return write, pd.concat(sums, ignore_index=True)


def count_folds(predictions: Path, folds: pd.DataFrame, packed: PackedSamples, classes: list[str]) -> pd.DataFrame:
    """Count the pixels of every image by true and predicted class, as the evaluation does.

    Args:
        predictions: folder of the predicted masks.
        folds: which sample is held out of which fold.
        packed: the true masks.
        classes: names of the classes.

    Returns:
        Columns fold, sample_id, truth, prediction, count.

    Raises:
        DataError: a prediction is missing, or does not fit its mask.
    """
    from unet_segmentation.metrics.prediction_masks import count_predictions

    out_of = folds.loc[folds["split"] == "test"].set_index("sample_id")["fold"]
    table = count_predictions(predictions, out_of.index.tolist(), packed.mask, len(classes))
    table.insert(0, "fold", table["sample_id"].map(out_of))
    return table


def score_folds(
    confusion: pd.DataFrame, soft_overlap_sums: pd.DataFrame, classes: list[str]
) -> dict[str, float | None]:
    """Turn counts into scores: over all samples together, of each fold, and mean and deviation over the folds.

    Returns:
        Name to value, None where it is undefined.
    """
    from unet_segmentation.metrics.cross_validation import out_of_fold_scores

    found = out_of_fold_scores(confusion, soft_overlap_sums, classes)
    sizes = soft_overlap_sums["fold"].value_counts().sort_index()
    for fold, size in sizes.items():
        scores = (found[f"cv/fold_{fold}/{name}"] for name in ("dice/mean", "iou/mean"))
        logger.info("fold %d/%d: dice/mean %.4f, iou/mean %.4f on %d held out", fold, len(sizes), *scores, size)
    logger.info(
        "Out of fold: dice/mean %.4f, iou/mean %.4f; folds: dice/mean %.4f, deviation %.4f",
        *(found[name] for name in ("dice/mean", "iou/mean", "cv/dice/mean/mean", "cv/dice/mean/std")),
    )
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def plot_folds(metrics: dict[str, float | None]) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the scores of every fold."""
    from unet_segmentation.reporting.cross_validation_chart import folds_chart

    return folds_chart(metrics)


def mark_folds_completed(
    trainings: pd.DataFrame,
    metrics: dict[str, float | None],
    chart: Any,  # noqa: ANN401 - a Plotly figure
    folder: Path,
) -> None:
    """Note that every training's result is known, so that the next run trains anew.

    Args:
        trainings: columns fold, fingerprint.
        metrics: of all folds. That they are there is what matters.
        chart: likewise.
        folder: where the folds' trainings are.
    """
    from unet_segmentation.training.run_directory import RunDirectory

    for fold, fingerprint in zip(trainings["fold"], trainings["fingerprint"], strict=True):
        RunDirectory(folder / str(fold), fingerprint).delivered.touch()
