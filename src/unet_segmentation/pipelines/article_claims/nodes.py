"""Nodes of the article's experiments: thin, the work is done in ``unet_segmentation.article``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import (
    ArticleClaimsParameters,
    AugmentationRecipe,
    EvaluationParameters,
    ModelParameters,
    PredictorParameters,
    ReleaseParameters,
    TrainingParameters,
)

logger = logging.getLogger(__name__)

SPEED_BATCH = 4  # images of a step whose speed is measured


def measure_upsampling(
    samples: pd.DataFrame,
    packed: PackedSamples,
    profile: dict[str, Any],
    recipe: AugmentationRecipe,
    plan: dict[str, Any],
    training: TrainingParameters,
    inference: PredictorParameters,
    evaluation: EvaluationParameters,
    classes: list[str],
    speeds: pd.DataFrame,
    article: ArticleClaimsParameters,
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train every network with every way up and every seed, and look at it before and after.

    What is finished is not trained again, what was stopped goes on.

    Args:
        samples: the samples with their split.
        packed: images and masks.
        profile: statistics of the training split.
        recipe: of the augmentation.
        plan: the proposal for what the parameters leave open.
        training: the problem's; steps, patch, batch and seed are the article's.
        inference: the predictor's parameters.
        evaluation: which split is scored.
        classes: names of the classes.
        speeds: of the networks; they only say how long it will take.
        article: the networks, ways and seeds.
        folder: gets a folder for each training.

    Returns:
        A row per network, upsampling and seed, with scores and checkerboards; and their counts per image (see
        `article.trainings.Measured`).
    """
    from unet_segmentation.experiments.article_claims.training_grid import (
        Data,
        expected_seconds,
        shared_training_parameters,
        train_all,
    )
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import (
        measure_checkerboard,
        trainings_of,
        validate_upsampling_modes,
    )
    from unet_segmentation.training.plan_rules import validate_plan_values
    from unet_segmentation.training.progress import duration

    laboratory, effort = article.upsampling, article.chosen_preset
    data = Data(samples, packed, profile, recipe, validate_plan_values(plan, classes), classes, evaluation.split)
    validate_upsampling_modes(laboratory.models, laboratory.modes, classes, profile)
    trainings = trainings_of(laboratory.models, laboratory.modes, effort.seeds)
    equal = shared_training_parameters(training, effort, effort.steps, data)
    seconds = expected_seconds(trainings, equal, data, speeds, laboratory.speed_size)
    logger.info("%d trainings: about %s of steps, and scoring on top", len(trainings), duration(seconds))
    found = train_all(trainings, equal, data, inference, folder)
    boards = [
        measure_checkerboard(each, equal, data, laboratory.images, model, each.place(folder))
        for each, model in zip(trainings, found.models, strict=True)
    ]
    return found.runs.join(pd.DataFrame(boards)), found.confusion, found.soft_overlap_sums


def measure_upsampling_costs(
    profile: dict[str, Any], plan: dict[str, Any], classes: list[str], article: ArticleClaimsParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count what each network costs with each way up, and measure how fast those are that are trained.

    Returns:
        See `article_claims.upsampling.costs_of_ways`.
    """
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import upsampling_costs
    from unet_segmentation.training.plan_rules import validate_plan_values

    laboratory = article.upsampling
    return upsampling_costs(
        laboratory.models,
        laboratory.cost_only_models,
        laboratory.modes,
        classes,
        profile,
        validate_plan_values(plan, classes),
        side=laboratory.speed_size,
        batch_size=SPEED_BATCH,
        seconds=laboratory.speed_seconds,
    )


def compare_upsampling(
    runs: pd.DataFrame,
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    samples: pd.DataFrame,
    classes: list[str],
    article: ArticleClaimsParameters,
    release: ReleaseParameters,
    evaluation: EvaluationParameters,
) -> pd.DataFrame:
    """Compare the ways up of each network, image by image and seed by seed.

    Returns:
        See `article_claims.upsampling.summarise`.
    """
    from unet_segmentation.experiments.article_claims.training_grid import sums_of
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import KEY, summarise
    from unet_segmentation.metrics.bootstrap import Resampling

    sums = sums_of(confusion, soft_overlap_sums, KEY, samples, classes)
    resampling = Resampling(**evaluation.intervals.model_dump())
    return summarise(runs, sums, release.score, article.upsampling.reference, release.noninferiority_margin, resampling)


def plot_upsampling(table: pd.DataFrame, release: ReleaseParameters) -> Any:  # noqa: ANN401 - a PIL image
    """Draw scores and checkerboards of every way up."""
    from unet_segmentation.experiments.article_claims.upsampling_chart import upsampling_chart

    return upsampling_chart(table, release.score)


def draw_checkerboards(runs: pd.DataFrame, article: ArticleClaimsParameters, folder: Path) -> Any:  # noqa: ANN401 - a PIL image
    """Show logits and spectra of the first seed's networks, before and after training."""
    from unet_segmentation.experiments.article_claims.checkerboard_figures import Pair, checkerboard_sheet
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import read_logits

    first = runs[runs["seed"] == article.chosen_preset.seeds[0]]
    networks: dict[str, dict[str, Pair]] = {}
    for network, way, seed in zip(first["network"], first["upsampling"], first["seed"], strict=True):
        networks.setdefault(network, {})[way] = Pair(**read_logits(folder / f"{network}-{way}-{seed}"))
    return checkerboard_sheet(networks)


def measure_encoders(
    profile: dict[str, Any], plan: dict[str, Any], classes: list[str], article: ArticleClaimsParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count what smp's U-Net costs with each encoder, and measure how fast it is.

    Returns:
        Two tables with a row per encoder: counts (`costs.network_costs`), and speeds (`costs.measure_speed`).
    """
    from unet_segmentation.experiments.article_claims.upsampling_benchmark import costs_of
    from unet_segmentation.training.plan_rules import validate_plan_values

    values, wanted = validate_plan_values(plan, classes), article.encoders
    counts, speeds = [], []
    for name in wanted.names:
        network = ModelParameters(encoder=name)
        counted, measured = costs_of(network, classes, profile, values, wanted.size, wanted.batch_size, wanted.seconds)
        logger.info("%s: %.1f million parameters", name, counted["parameters"] / 1e6)
        counts.append({"encoder": name} | counted)
        speeds.append({"encoder": name} | measured)
    return pd.DataFrame(counts), pd.DataFrame(speeds)


def train_encoders(
    samples: pd.DataFrame,
    packed: PackedSamples,
    profile: dict[str, Any],
    recipe: AugmentationRecipe,
    plan: dict[str, Any],
    training: TrainingParameters,
    inference: PredictorParameters,
    evaluation: EvaluationParameters,
    classes: list[str],
    speeds: pd.DataFrame,
    article: ArticleClaimsParameters,
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train smp's U-Net with each encoder, from scratch, on the same data and for as many epochs.

    For the arguments see `measure_upsampling`.

    Returns:
        A row per encoder and seed, and their counts per image (see `article.trainings.Measured`).
    """
    from unet_segmentation.experiments.article_claims.encoder_benchmark import trainings_of
    from unet_segmentation.experiments.article_claims.training_grid import (
        Data,
        expected_seconds,
        shared_training_parameters,
        train_all,
    )
    from unet_segmentation.training.plan_rules import validate_plan_values
    from unet_segmentation.training.progress import duration

    effort = article.chosen_preset
    data = Data(samples, packed, profile, recipe, validate_plan_values(plan, classes), classes, evaluation.split)
    trainings = trainings_of(article.encoders.names, effort.encoder_seeds)
    equal = shared_training_parameters(training, effort, effort.encoder_steps, data)
    seconds = expected_seconds(trainings, equal, data, speeds, article.encoders.size)
    logger.info("%d trainings: about %s of steps, and scoring on top", len(trainings), duration(seconds))
    found = train_all(trainings, equal, data, inference, folder)
    return found.runs, found.confusion, found.soft_overlap_sums


def rank_encoders(
    runs: pd.DataFrame,
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    costs: pd.DataFrame,
    samples: pd.DataFrame,
    classes: list[str],
    release: ReleaseParameters,
    evaluation: EvaluationParameters,
) -> pd.DataFrame:
    """Put the encoders in order, each compared with the best, beside what they cost.

    Returns:
        See `article_claims.encoders.rank_encoders`.
    """
    from unet_segmentation.experiments.article_claims import encoder_benchmark
    from unet_segmentation.experiments.article_claims.training_grid import sums_of
    from unet_segmentation.metrics.bootstrap import Resampling

    sums = sums_of(confusion, soft_overlap_sums, encoder_benchmark.KEY, samples, classes)
    resampling = Resampling(**evaluation.intervals.model_dump())
    return encoder_benchmark.rank_encoders(runs, sums, costs, release.score, release.noninferiority_margin, resampling)


def plot_encoders(scores: pd.DataFrame, article: ArticleClaimsParameters, release: ReleaseParameters) -> Any:  # noqa: ANN401 - a PIL image
    """Draw the score of every encoder against its cost."""
    from unet_segmentation.experiments.article_claims.encoder_chart import encoder_chart

    return encoder_chart(scores, release.score, article.encoders.size)


def run_metric_experiment(
    article: ArticleClaimsParameters, evaluation: EvaluationParameters, folder: Path
) -> pd.DataFrame:
    """Score trained networks, and predictions that look at nothing, by every metric and share of foreground.

    Returns:
        See `article.metric_experiment.run_experiment`.
    """
    from unet_segmentation.experiments.article_claims.metric_benchmark import run_experiment
    from unet_segmentation.metrics.bootstrap import Resampling

    resampling = Resampling(**evaluation.intervals.model_dump())
    return run_experiment(article.metrics, article.chosen_preset.metric_epochs, folder, resampling)


def plot_metric_trust(experiment: pd.DataFrame) -> tuple[Any, pd.DataFrame]:
    """Draw every metric against the share of the foreground, and say which one may believe.

    Returns:
        A PIL image, and a row per metric, see `article.metric_experiment.judgements`.
    """
    from unet_segmentation.experiments.article_claims.metric_benchmark import METRICS, metric_verdicts
    from unet_segmentation.experiments.article_claims.metric_chart import trust_chart

    judged = metric_verdicts(experiment)
    return trust_chart(experiment, judged, METRICS), judged


def judge_claims(
    problem: str,
    samples: pd.DataFrame,
    upsampling: pd.DataFrame,
    costs: pd.DataFrame,
    encoders: pd.DataFrame,
    judgements: pd.DataFrame,
    article: ArticleClaimsParameters,
    release: ReleaseParameters,
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, str]:
    """Say of every claim of the article whether it held here.

    Returns:
        A row per claim (see `article.claims.judge_claims`), and the same as a page.
    """
    from unet_segmentation.experiments.article_claims import claims
    from unet_segmentation.experiments.article_claims.report_page import claims_page
    from unet_segmentation.training.plan import labelled_ids_by_split

    reference = article.upsampling.reference
    tables = claims.Tables(
        upsampling, costs, encoders, judgements, reference, release.score, release.noninferiority_margin
    )
    found = claims.judge_claims(tables)
    for row in found.itertuples():
        logger.info("%s: %s", row.claim, row.verdict)
    images = {split: len(ids) for split, ids in labelled_ids_by_split(samples).items()}
    return found, claims_page(found, tables, article, problem=problem, images=images, evaluated=evaluation.split)


def write_speeds(encoders: pd.DataFrame, upsampling: pd.DataFrame, article: ArticleClaimsParameters) -> str:
    """Write what was measured in seconds on this machine as a page."""
    from unet_segmentation.experiments.article_claims.report_page import speeds_page
    from unet_segmentation.tracking.run_metadata import machine

    return speeds_page(encoders, upsampling, machine(), article)
