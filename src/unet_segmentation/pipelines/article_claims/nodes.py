"""Nodes that test the claims of an article on U-Net: thin, the work is done in ``experiments.article_claims``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import (
    ArticleClaimsParameters,
    AugmentationRecipe,
    BootstrapParameters,
    EvaluationParameters,
    PredictorParameters,
    ReleaseParameters,
    TrainingParameters,
)
from unet_segmentation.training.plan_rules import ProposedPlan

logger = logging.getLogger(__name__)

TIMED_BATCH = 4  # images of a step that is timed


def measure_upsampling(
    *,
    samples: pd.DataFrame,
    packed: PackedSamples,
    statistics: DatasetStatistics,
    recipe: AugmentationRecipe,
    proposed_plan: ProposedPlan,
    training: TrainingParameters,
    predictor_params: PredictorParameters,
    evaluation: EvaluationParameters,
    classes: list[str],
    speeds: pd.DataFrame,
    article: ArticleClaimsParameters,
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train every network with every upsampling mode and seed, and measure its checkerboards before and after.

    Steps, patch, batch and seed are those of `article`, all other parameters of training the problem's.

    Returns:
        A row per network, upsampling and seed, with scores and checkerboards; and their counts per image (see
        `training_grid.GridResult`).
    """
    from unet_segmentation.experiments.article_claims.training_grid import (
        GridData,
        expected_seconds,
        shared_training_parameters,
        train_all,
    )
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import (
        measure_checkerboard,
        upsampling_points,
        validate_upsampling_modes,
    )

    benchmark, preset = article.upsampling, article.chosen_preset
    data = GridData(samples, packed, statistics, recipe, proposed_plan.values, classes, evaluation.split)
    validate_upsampling_modes(benchmark.models, benchmark.modes, data)
    points = upsampling_points(benchmark.models, benchmark.modes, preset.seeds)
    shared = shared_training_parameters(training, preset, preset.steps, data)
    _log_expected_time(len(points), expected_seconds(points, shared, data, speeds, benchmark.speed_size))
    result = train_all(points, shared, data, predictor_params, folder)
    checkerboards = [
        measure_checkerboard(point, shared, data, benchmark.images, model, point.directory(folder))
        for point, model in zip(points, result.models, strict=True)
    ]
    return result.runs.join(pd.DataFrame(checkerboards)), result.confusion, result.soft_overlap_sums


def measure_upsampling_costs(
    statistics: DatasetStatistics, proposed_plan: ProposedPlan, classes: list[str], article: ArticleClaimsParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the costs of each network with each upsampling mode, and time those that are trained."""
    from unet_segmentation.experiments.article_claims.training_grid import CostMeasurement
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import upsampling_points

    benchmark = article.upsampling
    measurement = CostMeasurement(
        classes, statistics, proposed_plan.values, benchmark.speed_size, TIMED_BATCH, benchmark.speed_seconds
    )
    counts = measurement.count(upsampling_points({**benchmark.models, **benchmark.cost_only_models}, benchmark.modes))
    return counts, measurement.time(upsampling_points(benchmark.models, benchmark.modes))


def compare_upsampling(
    *,
    runs: pd.DataFrame,
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    samples: pd.DataFrame,
    classes: list[str],
    article: ArticleClaimsParameters,
    release: ReleaseParameters,
    bootstrap: BootstrapParameters,
) -> pd.DataFrame:
    """Compare the upsampling modes of each network, image by image and seed by seed."""
    from unet_segmentation.experiments.article_claims.training_grid import split_sums
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import KEY, compare_modes
    from unet_segmentation.metrics.bootstrap import Resampling

    sums = split_sums(confusion, soft_overlap_sums, KEY, samples, classes)
    resampling = Resampling(**bootstrap.model_dump())
    return compare_modes(
        runs, sums, release.score, article.upsampling.reference, release.noninferiority_margin, resampling
    )


def plot_upsampling(table: pd.DataFrame, release: ReleaseParameters) -> Any:  # noqa: ANN401 - a PIL image
    """Draw scores and checkerboards of every upsampling mode."""
    from unet_segmentation.experiments.article_claims.charts import upsampling_chart

    return upsampling_chart(table, release.score)


def draw_checkerboards(runs: pd.DataFrame, article: ArticleClaimsParameters, folder: Path) -> Any:  # noqa: ANN401 - a PIL image
    """Draw logits and spectra of the first seed's networks, before and after training."""
    from unet_segmentation.experiments.article_claims.checkerboard import Pair, checkerboard_sheet
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import read_logits

    first = runs[runs["seed"] == article.chosen_preset.seeds[0]]
    networks: dict[str, dict[str, Pair]] = {}
    for network, mode, seed in zip(first["network"], first["upsampling"], first["seed"], strict=True):
        networks.setdefault(network, {})[mode] = Pair(**read_logits(folder / f"{network}-{mode}-{seed}"))
    return checkerboard_sheet(networks)


def measure_encoders(
    statistics: DatasetStatistics, proposed_plan: ProposedPlan, classes: list[str], article: ArticleClaimsParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the costs of smp's U-Net with each encoder, and time it."""
    from unet_segmentation.experiments.article_claims.encoder_benchmark import encoder_points
    from unet_segmentation.experiments.article_claims.training_grid import CostMeasurement

    options, points = article.encoders, encoder_points(article.encoders.names)
    measurement = CostMeasurement(
        classes, statistics, proposed_plan.values, options.size, options.batch_size, options.seconds
    )
    return measurement.count(points), measurement.time(points)


def train_encoders(
    *,
    samples: pd.DataFrame,
    packed: PackedSamples,
    statistics: DatasetStatistics,
    recipe: AugmentationRecipe,
    proposed_plan: ProposedPlan,
    training: TrainingParameters,
    predictor_params: PredictorParameters,
    evaluation: EvaluationParameters,
    classes: list[str],
    speeds: pd.DataFrame,
    article: ArticleClaimsParameters,
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train smp's U-Net with each encoder and seed, from scratch, on the same data and for as many epochs."""
    from unet_segmentation.experiments.article_claims.encoder_benchmark import encoder_points
    from unet_segmentation.experiments.article_claims.training_grid import (
        GridData,
        expected_seconds,
        shared_training_parameters,
        train_all,
    )

    preset = article.chosen_preset
    data = GridData(samples, packed, statistics, recipe, proposed_plan.values, classes, evaluation.split)
    points = encoder_points(article.encoders.names, preset.encoder_seeds)
    shared = shared_training_parameters(training, preset, preset.encoder_steps, data)
    _log_expected_time(len(points), expected_seconds(points, shared, data, speeds, article.encoders.size))
    result = train_all(points, shared, data, predictor_params, folder)
    return result.runs, result.confusion, result.soft_overlap_sums


def rank_encoders(
    *,
    runs: pd.DataFrame,
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    costs: pd.DataFrame,
    samples: pd.DataFrame,
    classes: list[str],
    release: ReleaseParameters,
    bootstrap: BootstrapParameters,
) -> pd.DataFrame:
    """Rank the encoders, and compare each with the best."""
    from unet_segmentation.experiments.article_claims import encoder_benchmark
    from unet_segmentation.experiments.article_claims.training_grid import split_sums
    from unet_segmentation.metrics.bootstrap import Resampling

    sums = split_sums(confusion, soft_overlap_sums, encoder_benchmark.KEY, samples, classes)
    resampling = Resampling(**bootstrap.model_dump())
    return encoder_benchmark.rank_encoders(runs, sums, costs, release.score, release.noninferiority_margin, resampling)


def plot_encoders(scores: pd.DataFrame, article: ArticleClaimsParameters, release: ReleaseParameters) -> Any:  # noqa: ANN401 - a PIL image
    """Draw the score of every encoder against its cost."""
    from unet_segmentation.experiments.article_claims.charts import encoder_chart

    return encoder_chart(scores, release.score, article.encoders.size)


def run_metric_experiment(
    article: ArticleClaimsParameters, bootstrap: BootstrapParameters, folder: Path
) -> pd.DataFrame:
    """Score trained networks and trivial predictions by every metric and share of foreground."""
    from unet_segmentation.experiments.article_claims.metric_benchmark import run_experiment
    from unet_segmentation.metrics.bootstrap import Resampling

    resampling = Resampling(**bootstrap.model_dump())
    return run_experiment(article.metrics, article.chosen_preset.metric_epochs, folder, resampling)


def plot_metric_trust(experiment: pd.DataFrame) -> tuple[Any, pd.DataFrame]:
    """Draw every metric against the share of the foreground, and judge whether it is reliable."""
    from unet_segmentation.experiments.article_claims.charts import trust_chart
    from unet_segmentation.experiments.article_claims.metric_benchmark import METRICS, metric_verdicts

    verdicts = metric_verdicts(experiment)
    return trust_chart(experiment, verdicts, METRICS), verdicts


def judge_claims(
    *,
    problem: str,
    samples: pd.DataFrame,
    upsampling: pd.DataFrame,
    costs: pd.DataFrame,
    encoders: pd.DataFrame,
    judgments: pd.DataFrame,
    article: ArticleClaimsParameters,
    release: ReleaseParameters,
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, str]:
    """Judge every claim of the article: a row per claim (see `claims.Claim`), and the same as a page."""
    from unet_segmentation.data.statistics import labeled_ids_by_split
    from unet_segmentation.experiments.article_claims import claims
    from unet_segmentation.experiments.article_claims.report_page import claims_page

    reference = article.upsampling.reference
    tables = claims.ClaimTables(
        upsampling, costs, encoders, judgments, reference, release.score, release.noninferiority_margin
    )
    judged = claims.judge_claims(tables)
    for claim in judged:
        logger.info("%s: %s", claim.claim, claim.verdict)
    images = {split: len(ids) for split, ids in labeled_ids_by_split(samples).items()}
    page = claims_page(judged, tables, article, problem=problem, images=images, evaluated=evaluation.split)
    return pd.DataFrame(judged), page


def write_speeds(encoders: pd.DataFrame, upsampling: pd.DataFrame, article: ArticleClaimsParameters) -> str:
    """Render what was measured in seconds on this machine as a page."""
    from unet_segmentation.experiments.article_claims.report_page import speeds_page
    from unet_segmentation.utils.machine import machine

    return speeds_page(encoders, upsampling, machine(), article)


def _log_expected_time(runs: int, seconds: float) -> None:
    from unet_segmentation.training.callbacks.progress import duration

    logger.info("%d training runs: about %s of steps, plus evaluation", runs, duration(seconds))
