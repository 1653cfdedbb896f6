"""Adapters between the catalog and the library: predictor, counts, scores, pictures, report."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from kedro.utils import find_kedro_project
from numpy.typing import NDArray

from unet_segmentation import tracking
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import DataError
from unet_segmentation.parameters import (
    BootstrapParameters,
    EvaluationParameters,
    PredictorParameters,
    SourceParameters,
)
from unet_segmentation.tracking import run_metadata
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.utils import machine

if TYPE_CHECKING:
    from unet_segmentation.reporting.prediction_gallery import Shown

logger = logging.getLogger(__name__)

EXAMPLE_SIDE = 512  # pixels; a larger example image would only bloat the logged model


def predict(
    model: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    inference: PredictorParameters,
    evaluation: EvaluationParameters,
    folder: Path,
) -> tuple[Callable[[Path], None], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Predict every sample of the split, once.

    The masks are written to a working folder while the pass runs, so that memory does not grow with the number of
    images; the writer moves them to where the catalog wants them.

    Args:
        model: the trained network.
        samples: columns sample_id, split, masks.
        packed: images and masks.
        inference: the predictor's parameters.
        evaluation: names the split.
        folder: to work in.

    Returns:
        A writer of the predictions; and of every image the article's sums, the sums for calibration, and, where there
        are two classes, the histogram of the foreground's probability.

    Raises:
        DataError: the split has no labelled sample.
    """
    from unet_segmentation.inference.predict_split import predict_split
    from unet_segmentation.inference.predictor import Predictor
    from unet_segmentation.utils.compute_environment import compute_environment

    sample_ids = _evaluated(samples, evaluation)
    tracking.active_run().set_tags({f"evaluation.{key}": value for key, value in compute_environment().items()})
    for leftover in folder.glob("*.png"):  # of a pass that was interrupted
        leftover.unlink()
    sums = predict_split(Predictor.from_file(model, inference), packed, sample_ids, folder)

    def write(target: Path) -> None:
        for file in folder.glob("*.png"):
            shutil.move(file, target / file.name)

    return write, sums.soft, sums.calibration, sums.foreground


def count(
    predictions: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    classes: list[str],
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the pixels of every image by true and predicted class, and the objects that were found.

    Args:
        predictions: folder of the predicted masks.
        samples: columns sample_id, split, masks.
        packed: the true masks.
        classes: names of the classes.
        evaluation: names the split.

    Returns:
        Columns sample_id, truth, prediction, count; and sample_id, class, size, objects, found.

    Raises:
        DataError: a prediction is missing, or does not fit its mask.
    """
    from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
    from unet_segmentation.metrics.object_recall import count_objects, objects_table

    objects: list[tuple[str, NDArray[np.int64]]] = []

    def matrices() -> Iterator[tuple[str, NDArray[np.int64]]]:  # each file is read once, for both
        for sample_id, truth, prediction in _masks(predictions, samples, packed, evaluation):
            objects.append((sample_id, count_objects(truth, prediction, len(classes))))
            yield sample_id, confusion_matrix(truth, prediction, len(classes))

    return confusion_table(matrices()), objects_table(objects)


def count_boundaries(
    predictions: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    classes: list[str],
    evaluation: EvaluationParameters,
) -> pd.DataFrame:
    """Measure how well the contours of every image are met, as far as it was asked for.

    Args:
        predictions: folder of the predicted masks.
        samples: columns sample_id, split, masks.
        packed: the true masks.
        classes: names of the classes.
        evaluation: names the split and the measures.

    Returns:
        Columns sample_id, class and those of the measures; see `boundaries.boundary_table`.

    Raises:
        DataError: a prediction is missing.
    """
    from unet_segmentation.metrics.boundary import MEASURES, boundary_table, measure_boundaries

    measures = [measure for measure in MEASURES if measure in evaluation.boundary_metrics]
    pairs = _masks(predictions, samples, packed, evaluation) if measures else ()
    return boundary_table(
        (
            (
                sample_id,
                measure_boundaries(truth, prediction, len(classes), measures, evaluation.surface_dice_tolerance_px),
            )
            for sample_id, truth, prediction in pairs
        ),
        measures,
    )


def choose_threshold(
    model: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    classes: list[str],
    inference: PredictorParameters,
    evaluation: EvaluationParameters,
) -> dict[str, Any]:
    """Choose the threshold of a problem of two classes on the validation split, never on the one that is scored.

    Args:
        model: the trained network.
        samples: columns sample_id, split, masks.
        packed: images and masks.
        classes: names of the classes.
        inference: the predictor's parameters.
        evaluation: names the split that is scored.

    Returns:
        threshold (None where there is none, then a note says why), dice (of the foreground, on validation), images.
    """
    from unet_segmentation.metrics.definitions import dice_per_class
    from unet_segmentation.metrics.thresholds import best_threshold, counts_at

    validation = _labelled(samples, "validation")
    if reason := _no_threshold(classes, evaluation, validation):
        return {"threshold": None, "dice": None, "images": 0, "note": reason}

    from unet_segmentation.inference.predict_split import total_foreground_histogram
    from unet_segmentation.inference.predictor import Predictor

    histogram = total_foreground_histogram(Predictor.from_file(model, inference), packed, validation)
    threshold = best_threshold(histogram)
    if threshold is None:
        note = f"{classes[1]} does not occur in the validation split"
        return {"threshold": None, "dice": None, "images": len(validation), "note": note}
    dice = float(dice_per_class(counts_at(histogram, threshold))[0])
    logger.info("Threshold of %s, chosen on validation: %.4g (Dice %.4f there)", classes[1], threshold, dice)
    return {"threshold": threshold, "dice": dice, "images": len(validation), "note": "highest Dice on validation"}


def _no_threshold(classes: list[str], evaluation: EvaluationParameters, validation: list[str]) -> str | None:
    if len(classes) != 2:
        return f"a threshold belongs to problems of two classes; this one has {len(classes)}"
    if evaluation.split == "validation":
        return "the validation split is scored, and a threshold must not be chosen on what is scored"
    return None if validation else "the validation split has no labelled sample"


def score(
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    calibration_counts: pd.DataFrame,
    object_counts: pd.DataFrame,
    boundary_counts: pd.DataFrame,
    foreground_histogram: pd.DataFrame,
    threshold: dict[str, Any],
    classes: list[str],
) -> tuple[dict[str, float | None], pd.DataFrame, pd.DataFrame]:
    """Turn counts into scores.

    Args:
        confusion: counts per image.
        soft_overlap_sums: the article's sums per image.
        calibration_counts: pixels per image by confidence.
        object_counts: objects per image by class and size.
        boundary_counts: what was measured of the contours, per image and class.
        foreground_histogram: pixels per image by the foreground's probability.
        threshold: what was chosen on validation.
        classes: names of the classes.

    Returns:
        Every score of the split, None where it is undefined; the scores of every image, the worst first; and what the
        scores are, one by one.
    """
    from unet_segmentation.metrics import definitions as metrics
    from unet_segmentation.metrics.definition_table import definitions

    found = metrics.scores(
        confusion,
        soft_overlap_sums,
        classes,
        calibration_counts=calibration_counts,
        object_counts=object_counts,
        boundary_counts=boundary_counts,
        foreground_histogram=foreground_histogram if len(classes) == 2 else None,
        threshold=threshold["threshold"],
    )
    logger.info(
        "Scores: dice/mean %.4f, iou/mean %.4f, iou/foreground_mean %.4f, accuracy/pixel %.4f",
        *(found[name] for name in ("dice/mean", "iou/mean", "iou/foreground_mean", "accuracy/pixel")),
    )
    plain = {name: None if math.isnan(value) else value for name, value in found.items()}
    return plain, metrics.image_scores(confusion, soft_overlap_sums, classes), definitions(plain)


def estimate_intervals(
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    calibration_counts: pd.DataFrame,
    object_counts: pd.DataFrame,
    boundary_counts: pd.DataFrame,
    foreground_histogram: pd.DataFrame,
    threshold: dict[str, Any],
    samples: pd.DataFrame,
    classes: list[str],
    bootstrap: BootstrapParameters,
) -> pd.DataFrame:
    """Return every score an interval, by the bootstrap over images, or over groups where samples have one.

    Args:
        confusion: counts per image.
        soft_overlap_sums: the article's sums per image.
        calibration_counts: this and the next four as for `score`.
        object_counts: likewise.
        boundary_counts: likewise.
        foreground_histogram: likewise.
        threshold: likewise.
        samples: columns sample_id, group.
        classes: names of the classes.
        bootstrap: how intervals are computed.

    Returns:
        See `scoring.intervals.bootstrap`.
    """
    from unet_segmentation.metrics.bootstrap import Resampling
    from unet_segmentation.metrics.bootstrap import bootstrap as bootstrap_scores
    from unet_segmentation.metrics.count_tables import groups_of
    from unet_segmentation.metrics.sufficient_statistics import UnitSums

    sums = UnitSums.of(
        confusion,
        soft_overlap_sums,
        classes,
        groups_of(samples),
        calibration_counts=calibration_counts,
        object_counts=object_counts,
        boundary_counts=boundary_counts,
        foreground_histogram=foreground_histogram if len(classes) == 2 else None,
        threshold=threshold["threshold"],
    )
    table = bootstrap_scores(sums, Resampling(**bootstrap.model_dump()))
    first = table.iloc[0]
    logger.info(
        "%s %.4f [%.4f, %.4f], %.0f %% interval over %d %s",
        *first[["score", "value", "low", "high"]], 100 * first["confidence"], len(sums.units), sums.kind,
    )  # fmt: skip
    if not first["trusted"]:
        logger.info("intervals are %s", first["remark"])
    return table


def plot_confusion(confusion: pd.DataFrame, classes: list[str]) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the confusion matrix of the whole split."""
    from unet_segmentation.metrics.confusion_matrix import total_matrix
    from unet_segmentation.reporting.score_charts import confusion_chart

    return confusion_chart(total_matrix(confusion, len(classes)), classes)


def plot_scores(metrics: dict[str, float | None], classes: list[str]) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the scores of every class."""
    from unet_segmentation.reporting.score_charts import class_chart

    return class_chart(metrics, classes)


def plot_reliability(calibration_counts: pd.DataFrame) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw how often the network is right against how sure it is."""
    from unet_segmentation.metrics.calibration import reliability, total_sums
    from unet_segmentation.reporting.score_charts import reliability_chart

    return reliability_chart(reliability(total_sums(calibration_counts)))


def plot_objects(object_counts: pd.DataFrame, classes: list[str]) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw how many objects of every size are found, class by class."""
    from unet_segmentation.metrics.object_recall import total_objects
    from unet_segmentation.reporting.score_charts import objects_chart

    return objects_chart(total_objects(object_counts, len(classes)), classes)


def plot_precision_recall(foreground_histogram: pd.DataFrame, threshold: dict[str, Any], classes: list[str]) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw precision against recall of the foreground; without a line where there are not two classes."""
    from unet_segmentation.metrics.thresholds import precision_recall_curve, total_histogram
    from unet_segmentation.reporting.score_charts import precision_recall_chart

    if len(classes) != 2:
        return precision_recall_chart(None, None)
    return precision_recall_chart(precision_recall_curve(total_histogram(foreground_histogram)), threshold["threshold"])


def draw_gallery(
    image_scores: pd.DataFrame,
    confusion: pd.DataFrame,
    predictions: Path,
    packed: PackedSamples,
    classes: list[str],
    evaluation: EvaluationParameters,
) -> tuple[Any, Any]:
    """Draw the worst, the median and the best samples, of all classes and of each: image, truth, prediction, errors.

    Returns:
        Two PIL images.
    """
    from unet_segmentation.reporting.prediction_gallery import class_gallery, gallery

    shown, by_class = _galleries(image_scores, confusion, predictions, packed, classes, evaluation)
    return gallery(shown, classes, _score_title(evaluation)), class_gallery(by_class, classes)


def find_patterns(
    image_scores: pd.DataFrame, samples: pd.DataFrame, inspected: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """Find out what the error of an image goes with: its size, its brightness, its foreground, its group.

    Returns:
        What is known of each image, a sentence for each pattern, and a Plotly figure.
    """
    from unet_segmentation.metrics import error_analysis
    from unet_segmentation.reporting.error_analysis_charts import patterns_chart

    facts = error_analysis.image_features(image_scores, samples, inspected)
    return facts, error_analysis.find_patterns(facts), patterns_chart(facts)


def report(
    problem: str,
    source: SourceParameters,
    classes: list[str],
    inference: PredictorParameters,
    evaluation: EvaluationParameters,
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    packed: PackedSamples,
    predictions: Path,
    model: Path,
    metrics: dict[str, Any],
    image_scores: pd.DataFrame,
    confusion: pd.DataFrame,
    image_features: pd.DataFrame,
    error_patterns: pd.DataFrame,
    confusion_matrix: Any,  # noqa: ANN401 - a Plotly figure
    class_scores: Any,  # noqa: ANN401 - a Plotly figure
    training_curves: Any,  # noqa: ANN401 - a Plotly figure
    augmentation_preview: Path,
    verdict: AuditResult,
    findings: pd.DataFrame,
    statistics: DatasetStatistics,
    network: dict[str, Any],
    plan: TrainingPlan,
    intervals: pd.DataFrame | None = None,
    reliability: Any = None,  # noqa: ANN401 - a Plotly figure, like the two after it
    precision_recall: Any = None,  # noqa: ANN401
    object_recall: Any = None,  # noqa: ANN401
    comparison: dict[str, Any] | None = None,
) -> str:
    """Write everything about the run into one HTML page that opens without a network.

    It takes what the nodes before it have made and, where there was one, what the last sweep of the problem has found.
    """
    from unet_segmentation.metrics.confusion_matrix import total_matrix
    from unet_segmentation.reporting.report import render_report
    from unet_segmentation.tracking.run_metadata import weights_sha256
    from unet_segmentation.training.plan import data_fingerprint

    charts = {"curves": training_curves, "confusion": confusion_matrix, "classes": class_scores}
    charts |= {"reliability": reliability, "precision_recall": precision_recall, "object_recall": object_recall}
    shown, by_class = _galleries(image_scores, confusion, predictions, packed, classes, evaluation)
    pixels = inspected[["sample_id", "class_pixels", "ignored_pixels"]]
    root = find_kedro_project(Path.cwd()) or Path.cwd()
    file = model.absolute()
    return render_report(
        problem=problem,
        source=source,
        classes=classes,
        split=evaluation.split,
        metrics=metrics,
        image_scores=image_scores,
        pixels=total_matrix(confusion, len(classes)).sum(axis=1),
        charts={name: chart for name, chart in charts.items() if chart is not None},
        gallery=shown,
        class_gallery=by_class,
        gallery_score=_score_title(evaluation),
        augmentation=augmentation_preview,
        facts=image_features,
        patterns=error_patterns,
        samples=samples.merge(pixels, on="sample_id", how="left", validate="one_to_one"),
        verdict=verdict,
        findings=findings,
        statistics=statistics,
        network=network,
        plan=plan.model_dump(mode="json"),
        inference=inference,
        model={
            "epoch": _epoch(model),
            "file": file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name,
            "sha256": weights_sha256(model),
        },
        code=_code(root),
        intervals=intervals,
        variants=comparison,
        data=data_fingerprint(statistics, samples),
    )


def log_model(
    model: Path,
    metrics: dict[str, Any],
    inference: PredictorParameters,
    samples: pd.DataFrame,
    packed: PackedSamples,
) -> dict[str, Any]:
    """Log the network as a model in MLflow, with an image of the test split as its example.

    Args:
        model: the trained network.
        metrics: its scores.
        inference: the predictor's parameters; they travel with the model.
        samples: columns sample_id, split.
        packed: the images.

    Returns:
        Where the model is, or why it was not logged.
    """
    from unet_segmentation.tracking.model_packaging import package_model

    in_test = samples.loc[samples["split"] == "test", "sample_id"]
    sample_id = str((in_test if len(in_test) else samples["sample_id"]).iloc[0])
    example = packed.image(sample_id, slice(EXAMPLE_SIDE), slice(EXAMPLE_SIDE))
    build = partial(package_model, model=model, inference=inference, example=example)
    return tracking.active_run().log_model(build, metrics, _epoch(model))


def _masks(
    predictions: Path, samples: pd.DataFrame, packed: PackedSamples, evaluation: EvaluationParameters
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Return every evaluated sample's id, true mask and predicted mask, one after the other."""
    from unet_segmentation.metrics.prediction_masks import read_prediction

    for sample_id in _evaluated(samples, evaluation):
        yield sample_id, packed.mask(sample_id), read_prediction(predictions, sample_id)


def _labelled(samples: pd.DataFrame, split: str) -> list[str]:
    labelled = (samples["split"] == split) & (samples["masks"].map(len) > 0)
    return samples.loc[labelled, "sample_id"].astype(str).tolist()


def _evaluated(samples: pd.DataFrame, evaluation: EvaluationParameters) -> list[str]:
    labelled = _labelled(samples, evaluation.split)
    if not labelled:
        raise DataError(
            f"evaluation.split: the {evaluation.split} split has no labelled sample to evaluate. "
            "Choose another split (evaluation.split) or give it samples (split, source.splits)."
        )
    return labelled


def _galleries(
    image_scores: pd.DataFrame,
    confusion: pd.DataFrame,
    predictions: Path,
    packed: PackedSamples,
    classes: list[str],
    evaluation: EvaluationParameters,
) -> tuple[Iterator[Shown], Iterator[tuple[str, Shown]]]:
    """Read the samples of the gallery, and those of the gallery by class, one by one."""
    from unet_segmentation.metrics.prediction_masks import read_prediction
    from unet_segmentation.reporting.prediction_gallery import Shown, pick, pick_by_class

    def shown(section: str, name: str, value: float) -> Shown:
        return Shown(section, name, value, packed.image(name), packed.mask(name), read_prediction(predictions, name))

    picked = pick(image_scores, evaluation.gallery_score, evaluation.gallery_samples)
    by_class = pick_by_class(image_scores, confusion, classes)
    return (shown(*sample) for sample in picked), (
        (name, shown(part, sample, iou)) for name, part, sample, iou in by_class
    )


def _score_title(evaluation: EvaluationParameters) -> str:
    return {"iou": "IoU", "dice": "Dice"}[evaluation.gallery_score.split("/")[0]]


def _code(root: Path) -> dict[str, str]:
    """Say of which code, libraries and lock file the run is made; empty where it is no checkout."""
    tags, lock = run_metadata.git_tags(root), root / "requirements.lock"
    found = {name.removeprefix("version."): version for name, version in machine.versions().items()}
    code = {"versions": ", ".join(f"{name} {version}" for name, version in found.items())}
    if "git.commit" in tags:
        code["commit"] = tags["git.commit"]
        code["changed"] = ", with uncommitted changes" if tags["git.dirty"] == "true" else ""
    if lock.is_file():
        code["lock_sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return code


def _epoch(model: Path) -> int:
    """Read from the file's header of which epoch the weights are; 0 where it does not say."""
    from safetensors import safe_open

    with safe_open(model, framework="np") as file:
        information = json.loads((file.metadata() or {}).get("information", "{}"))
    return int(information.get("epoch", 0))
