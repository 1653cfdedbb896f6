"""Adapters between the catalog and the library: predict, count, score, draw, report."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.utils import find_kedro_project

from unet_segmentation import tracking
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import DataError
from unet_segmentation.inference.backend_selection import BackendCheck
from unet_segmentation.metrics.basis import EvaluationSettings
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.thresholds import ThresholdChoice
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import (
    BootstrapParameters,
    EvaluationParameters,
    PredictorParameters,
    SourceParameters,
)
from unet_segmentation.reporting.html import ReportSection
from unet_segmentation.tracking import run_metadata
from unet_segmentation.training.plan import TrainingPlan

logger = logging.getLogger(__name__)

CHECKED_IMAGES = 3  # that the backend is compared with float32 on
EXAMPLE_SIDE = 512  # pixels; a larger example image would only bloat the logged model


def predict(
    model: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    predictor_params: PredictorParameters,
    evaluation: EvaluationParameters,
    folder: Path,
) -> tuple[Callable[[Path], None], EvaluationTables]:
    """Predict the split; return a writer of the masks, and the tables of what needs probabilities.

    The masks are written to a working directory while the pass runs, so that memory does not grow with the number of
    images; the writer moves them to where the catalog keeps them.
    """
    from unet_segmentation.inference.predict_split import predict_split
    from unet_segmentation.inference.predictor import Predictor
    from unet_segmentation.metrics.prediction_masks import move_predictions, remove_predictions
    from unet_segmentation.utils.device import compute_environment

    sample_ids = _evaluated(samples, evaluation)
    tracking.active_run().set_tags({f"evaluation.{key}": value for key, value in compute_environment().items()})
    remove_predictions(folder)  # of a pass that was interrupted
    tables = predict_split(Predictor.from_file(model, predictor_params), packed, sample_ids, folder)
    return partial(move_predictions, folder), tables


def count(
    predictions: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    classes: list[str],
    evaluation: EvaluationParameters,
    probability_tables: EvaluationTables,
) -> EvaluationTables:
    """Measure the predicted masks; return these tables and those of what needed probabilities."""
    from unet_segmentation.metrics.prediction_masks import measure_predictions

    boundary, tolerance = tuple(evaluation.boundary_metrics), evaluation.surface_dice_tolerance_px
    settings = EvaluationSettings(len(classes), boundary, tolerance)
    tables = measure_predictions(predictions, _evaluated(samples, evaluation), packed.mask, settings)
    return EvaluationTables({**tables.tables, **probability_tables.tables})


def choose_threshold(
    model: Path,
    samples: pd.DataFrame,
    packed: PackedSamples,
    classes: list[str],
    predictor_params: PredictorParameters,
    evaluation: EvaluationParameters,
) -> ThresholdChoice:
    """Choose the threshold of a problem of two classes on the validation split, never on the one that is scored."""
    from unet_segmentation.inference.predict_split import choose_foreground_threshold
    from unet_segmentation.inference.predictor import Predictor

    validation = _labeled(samples, "validation")
    if len(classes) != 2:
        return ThresholdChoice(note=f"a threshold belongs to problems of two classes; this one has {len(classes)}")
    if evaluation.split == "validation":
        note = "the validation split is scored, and a threshold must not be chosen on what is scored"
        return ThresholdChoice(note=note)
    if not validation:
        return ThresholdChoice(note="the validation split has no labeled sample")
    return choose_foreground_threshold(Predictor.from_file(model, predictor_params), packed, validation)


def score(
    tables: EvaluationTables, threshold: ThresholdChoice, classes: list[str]
) -> tuple[dict[str, float | None], pd.DataFrame, pd.DataFrame]:
    """Compute every score of the split, None where it is undefined, those of every image, and their definitions."""
    from unet_segmentation.metrics.definitions import score_definitions
    from unet_segmentation.metrics.scores import compute_image_scores, compute_scores

    values = compute_scores(tables, classes, threshold.threshold)
    logger.info(
        "Scores: dice/mean %.4f, iou/mean %.4f, iou/foreground_mean %.4f, accuracy/pixel %.4f",
        *(values[name] for name in ("dice/mean", "iou/mean", "iou/foreground_mean", "accuracy/pixel")),
    )
    scores = {name: None if math.isnan(value) else value for name, value in values.items()}
    return scores, compute_image_scores(tables, classes), score_definitions(scores)


def estimate_intervals(
    tables: EvaluationTables,
    threshold: ThresholdChoice,
    samples: pd.DataFrame,
    classes: list[str],
    bootstrap: BootstrapParameters,
) -> pd.DataFrame:
    """Compute the intervals of the scores, by the bootstrap over images, or over groups where samples have one."""
    from unet_segmentation.metrics.bootstrap import Resampling
    from unet_segmentation.metrics.bootstrap import bootstrap as bootstrap_scores
    from unet_segmentation.metrics.sufficient_statistics import UnitSums, groups_of

    sums = UnitSums.of(tables, classes, groups_of(samples), threshold.threshold)
    table = bootstrap_scores(sums, Resampling(**bootstrap.model_dump()))
    first = table.iloc[0]
    logger.info(
        "%s %.4f [%.4f, %.4f], %.0f %% interval over %d %s",
        *first[["score", "value", "low", "high"]], 100 * first["confidence"], len(sums.units), sums.kind,
    )  # fmt: skip
    if not first["trusted"]:
        logger.info("intervals are %s", first["remark"])
    return table


def plot_scores(
    tables: EvaluationTables, metrics: dict[str, float | None], threshold: ThresholdChoice, classes: list[str]
) -> tuple[object, ...]:
    """Draw the charts of the scores; see `reporting.score_charts.ScoreCharts`."""
    from unet_segmentation.reporting.score_charts import draw_score_charts

    return draw_score_charts(tables, metrics, threshold.threshold, classes)


def draw_gallery(
    image_scores: pd.DataFrame,
    tables: EvaluationTables,
    predictions: Path,
    packed: PackedSamples,
    classes: list[str],
    evaluation: EvaluationParameters,
) -> tuple[object, object]:
    """Draw the worst, the median and the best samples, of all classes and of each, as two pictures."""
    from unet_segmentation.reporting.prediction_gallery import class_gallery, gallery, load_galleries

    shown, by_class = load_galleries(image_scores, tables.confusion, predictions, packed, classes, evaluation)
    return gallery(shown, classes, _score_title(evaluation)), class_gallery(by_class, classes)


def find_patterns(
    image_scores: pd.DataFrame, samples: pd.DataFrame, inspected: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """Find out what the error of an image depends on; return its features, a row per pattern, and a Plotly figure."""
    from unet_segmentation.metrics import error_analysis
    from unet_segmentation.reporting.error_analysis_charts import patterns_chart

    facts = error_analysis.image_features(image_scores, samples, inspected)
    return facts, error_analysis.find_patterns(facts), patterns_chart(facts)


def write_training_section(
    *,
    problem: str,
    classes: list[str],
    predictor_params: PredictorParameters,
    model: Path,
    training_curves: Any,  # noqa: ANN401 - a Plotly figure
    augmentation_preview: Path,
    statistics: DatasetStatistics,
    spec: ModelSpec,
    plan: TrainingPlan,
) -> ReportSection:
    """Render what the report shows of the training and of the model."""
    from unet_segmentation.models.model_file import read_header, weights_sha256
    from unet_segmentation.reporting.report import render_training_section

    root = find_kedro_project(Path.cwd()) or Path.cwd()
    file = model.absolute()
    path = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
    return render_training_section(
        problem=problem,
        classes=classes,
        inference=predictor_params,
        curves=training_curves,
        augmentation=augmentation_preview,
        statistics=statistics,
        network=spec.to_json(),
        plan=plan.model_dump(mode="json"),
        model={"epoch": read_header(model).epoch, "file": path, "sha256": weights_sha256(model)},
        code=run_metadata.code_version(root),
    )


def write_evaluation_section(
    *,
    problem: str,
    source: SourceParameters,
    classes: list[str],
    evaluation: EvaluationParameters,
    tables: EvaluationTables,
    threshold: ThresholdChoice,
    metrics: dict[str, float | None],
    intervals: pd.DataFrame,
    image_scores: pd.DataFrame,
    statistics: DatasetStatistics,
    spec: ModelSpec,
) -> ReportSection:
    """Render what the report shows of the scores."""
    from unet_segmentation.metrics.confusion_matrix import total_matrix
    from unet_segmentation.reporting.report import render_evaluation_section
    from unet_segmentation.reporting.score_charts import draw_score_charts

    charts = draw_score_charts(tables, metrics, threshold.threshold, classes)._asdict()
    names = {"confusion_matrix": "confusion", "class_scores": "classes"}
    return render_evaluation_section(
        problem=problem,
        source=source,
        classes=classes,
        split=evaluation.split,
        metrics=metrics,
        image_scores=image_scores,
        pixels=total_matrix(tables.confusion, len(classes)).sum(axis=1),
        charts={names.get(name, name): chart for name, chart in charts.items()},
        statistics=statistics,
        network=spec.to_json(),
        intervals=intervals,
    )


def write_gallery_section(
    *,
    classes: list[str],
    evaluation: EvaluationParameters,
    metrics: dict[str, float | None],
    image_scores: pd.DataFrame,
    tables: EvaluationTables,
    predictions: Path,
    packed: PackedSamples,
    image_features: pd.DataFrame,
    error_patterns: pd.DataFrame,
) -> ReportSection:
    """Render what the report shows of single images, and of what their error correlates with."""
    from unet_segmentation.reporting.prediction_gallery import load_galleries
    from unet_segmentation.reporting.report import render_gallery_section

    shown, by_class = load_galleries(image_scores, tables.confusion, predictions, packed, classes, evaluation)
    return render_gallery_section(
        classes=classes,
        metrics=metrics,
        image_scores=image_scores,
        gallery=shown,
        class_gallery=by_class,
        gallery_score=_score_title(evaluation),
        facts=image_features,
        patterns=error_patterns,
    )


def write_data_section(
    *,
    source: SourceParameters,
    classes: list[str],
    samples: pd.DataFrame,
    inspected: pd.DataFrame,
    verdict: AuditResult,
    findings: pd.DataFrame,
    statistics: DatasetStatistics,
    sweep: dict[str, Any] | None = None,
) -> ReportSection:
    """Render what the report shows of the data and, where there was one, of the last sweep of the problem."""
    from unet_segmentation.data.statistics import hash_data
    from unet_segmentation.reporting.report import render_data_section

    pixels = inspected[["sample_id", "class_pixels", "ignored_pixels"]]
    return render_data_section(
        source=source,
        classes=classes,
        samples=samples.merge(pixels, on="sample_id", how="left", validate="one_to_one"),
        verdict=verdict,
        findings=findings,
        statistics=statistics,
        variants=sweep,
        data=hash_data(statistics, samples) if sweep is not None else "",
    )


def report(
    problem: str,
    evaluation: EvaluationParameters,
    training: ReportSection,
    scores: ReportSection,
    gallery: ReportSection,
    data: ReportSection,
) -> str:
    """Write everything about the run into one HTML page that opens without a network."""
    from unet_segmentation.reporting.report import render_report

    return render_report(problem, evaluation.split, [training, scores, gallery, data])


def check_backend(
    model: Path, predictor_params: PredictorParameters, samples: pd.DataFrame, packed: PackedSamples, backends_dir: Path
) -> BackendCheck:
    """Compare the backend that predicts on this machine with float32, on a few images of the test split."""
    from unet_segmentation.inference.backend_selection import check_default_backend

    in_test = samples.loc[samples["split"] == "test", "sample_id"]
    names = (in_test if len(in_test) else samples["sample_id"]).astype(str).tolist()[:CHECKED_IMAGES]
    check = check_default_backend(model, [packed.image(name) for name in names], predictor_params, backends_dir)
    tracking.active_run().set_tags({"backend.name": check.backend, "backend.agreement": f"{check.agreement:.6f}"})
    return check


def log_model(
    model: Path,
    metrics: dict[str, Any],
    predictor_params: PredictorParameters,
    samples: pd.DataFrame,
    packed: PackedSamples,
) -> dict[str, Any]:
    """Log the network as a model in MLflow, with an image of the test split as its example.

    Returns:
        Where the model is, or why it was not logged.
    """
    from unet_segmentation.deployment.serving.model_packaging import package_model
    from unet_segmentation.models.model_file import read_header

    in_test = samples.loc[samples["split"] == "test", "sample_id"]
    sample_id = str((in_test if len(in_test) else samples["sample_id"]).iloc[0])
    example = packed.image(sample_id, slice(EXAMPLE_SIDE), slice(EXAMPLE_SIDE))
    build = partial(package_model, model=model, inference=predictor_params, example=example)
    return tracking.active_run().log_model(build, metrics, read_header(model).epoch)


def _labeled(samples: pd.DataFrame, split: str) -> list[str]:
    labeled = (samples["split"] == split) & (samples["masks"].map(len) > 0)
    return samples.loc[labeled, "sample_id"].astype(str).tolist()


def _evaluated(samples: pd.DataFrame, evaluation: EvaluationParameters) -> list[str]:
    labeled = _labeled(samples, evaluation.split)
    if not labeled:
        raise DataError(
            f"evaluation.split: the {evaluation.split} split has no labeled sample to evaluate. "
            "Choose another split (evaluation.split) or give it samples (split, source.splits)."
        )
    return labeled


def _score_title(evaluation: EvaluationParameters) -> str:
    return {"iou": "IoU", "dice": "Dice"}[evaluation.gallery_score.split("/")[0]]
