"""Nodes of the article's experiments: thin, the work is done in ``unet_segmentation.article``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.parameters import (
    ArticleParameters,
    EvaluationParameters,
    InferenceParameters,
    NetworkParameters,
    ReleaseParameters,
    TrainingParameters,
)
from unet_segmentation.samples.packing import PackedSamples

logger = logging.getLogger(__name__)

SPEED_BATCH = 4  # images of a step whose speed is measured


def measure_upsampling(
    samples: pd.DataFrame,
    packed: PackedSamples,
    profile: dict[str, Any],
    recipe: dict[str, Any],
    plan: dict[str, Any],
    training: TrainingParameters,
    inference: InferenceParameters,
    evaluation: EvaluationParameters,
    classes: list[str],
    article: ArticleParameters,
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
        training: the problem's; epochs and seed are the article's.
        inference: the predictor's parameters.
        evaluation: which split is scored.
        classes: names of the classes.
        article: the networks, ways and seeds.
        folder: gets a folder for each training.

    Returns:
        A row per network, upsampling and seed (see `article.upsampling.measure_way`); and their counts per image.
    """
    from unet_segmentation.article.upsampling import KEY, Data, check_ways, measure_way
    from unet_segmentation.learning.planning import checked_values

    laboratory = article.upsampling
    values = checked_values(plan, classes) | {"epochs": laboratory.epochs}
    data = Data(samples, packed, profile, recipe, values, classes, evaluation.split)
    check_ways(laboratory.networks, laboratory.ways, classes, profile)
    equal = {"epochs": laboratory.epochs, "max_minutes": None, "more_epochs": None}
    chosen = [(name, way, seed) for name in laboratory.networks for way in laboratory.ways for seed in article.seeds]
    rows, confusions, softs = [], [], []
    for number, key in enumerate(chosen, 1):
        name, way, seed = key
        network = laboratory.networks[name].model_copy(update={"upsampling": way})
        logger.info("training %d/%d: %s, %s, seed %d", number, len(chosen), *key)
        place = folder / f"{name}-{way}-{seed}"
        found = measure_way(
            network, training.model_copy(update=equal | {"seed": seed}), data, inference, laboratory.images, place
        )
        named: dict[str, Any] = dict(zip(KEY, key, strict=True))
        rows.append(named | found.row)
        confusions.append(found.confusion.assign(**named))
        softs.append(found.soft.assign(**named))
    return pd.DataFrame(rows), pd.concat(confusions, ignore_index=True), pd.concat(softs, ignore_index=True)


def measure_upsampling_costs(
    profile: dict[str, Any], plan: dict[str, Any], classes: list[str], article: ArticleParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count what each network costs with each way up, and measure how fast it is.

    Returns:
        See `article.upsampling.costs_of_ways`.
    """
    from unet_segmentation.article.upsampling import costs_of_ways
    from unet_segmentation.learning.planning import checked_values

    laboratory = article.upsampling
    return costs_of_ways(
        laboratory.networks,
        laboratory.ways,
        classes,
        profile,
        checked_values(plan, classes),
        side=laboratory.speed_size,
        batch_size=SPEED_BATCH,
        seconds=laboratory.speed_seconds,
    )


def compare_upsampling(
    runs: pd.DataFrame,
    confusion: pd.DataFrame,
    soft_counts: pd.DataFrame,
    samples: pd.DataFrame,
    classes: list[str],
    article: ArticleParameters,
    release: ReleaseParameters,
    evaluation: EvaluationParameters,
) -> pd.DataFrame:
    """Compare the ways up of each network, image by image and seed by seed.

    Returns:
        See `article.upsampling.summarise`.
    """
    from unet_segmentation.article.upsampling import KEY, summarise
    from unet_segmentation.scoring.intervals import Resampling
    from unet_segmentation.scoring.sums import Sums
    from unet_segmentation.scoring.tables import groups_of

    groups = groups_of(samples)
    counts = confusion.groupby(KEY, sort=False)
    sums = {
        key: Sums.of(counts.get_group(key), soft, classes, groups) for key, soft in soft_counts.groupby(KEY, sort=False)
    }
    resampling = Resampling(**evaluation.intervals.model_dump())
    return summarise(runs, sums, release.score, article.upsampling.reference, release.margin, resampling)


def plot_upsampling(table: pd.DataFrame, release: ReleaseParameters) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw scores and checkerboards of every way up."""
    from unet_segmentation.figures.upsampling import upsampling_chart

    return upsampling_chart(table, release.score)


def draw_checkerboards(runs: pd.DataFrame, article: ArticleParameters, folder: Path) -> Any:  # noqa: ANN401 - a PIL image
    """Show logits and spectra of the first seed's networks, before and after training."""
    from unet_segmentation.article.upsampling import read_logits
    from unet_segmentation.figures.checkerboard import Pair, checkerboard_sheet

    first = runs[runs["seed"] == article.seeds[0]]
    networks: dict[str, dict[str, Pair]] = {}
    for network, way, seed in zip(first["network"], first["upsampling"], first["seed"], strict=True):
        networks.setdefault(network, {})[way] = Pair(**read_logits(folder / f"{network}-{way}-{seed}"))
    return checkerboard_sheet(networks)


def measure_encoders(
    profile: dict[str, Any], plan: dict[str, Any], classes: list[str], article: ArticleParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count what smp's U-Net costs with each encoder, and measure how fast it is.

    Returns:
        Two tables with a row per encoder: counts (`costs.network_costs`), and speeds (`costs.measure_speed`).
    """
    from unet_segmentation.article.upsampling import costs_of
    from unet_segmentation.learning.planning import checked_values

    values, wanted = checked_values(plan, classes), article.encoders
    counts, speeds = [], []
    for name in wanted.names:
        network = NetworkParameters(encoder=name)
        counted, measured = costs_of(network, classes, profile, values, wanted.size, wanted.batch_size, wanted.seconds)
        logger.info("%s: %.1f million parameters", name, counted["parameters"] / 1e6)
        counts.append({"encoder": name} | counted)
        speeds.append({"encoder": name} | measured)
    return pd.DataFrame(counts), pd.DataFrame(speeds)


def train_encoders(
    samples: pd.DataFrame,
    packed: PackedSamples,
    profile: dict[str, Any],
    recipe: dict[str, Any],
    plan: dict[str, Any],
    training: TrainingParameters,
    inference: InferenceParameters,
    evaluation: EvaluationParameters,
    release: ReleaseParameters,
    classes: list[str],
    article: ArticleParameters,
    folder: Path,
) -> pd.DataFrame:
    """Train smp's U-Net with each encoder, from scratch, on the same data and for as many epochs.

    What is finished is not trained again, what was stopped goes on. For the arguments see `measure_upsampling`.

    Returns:
        See `article.encoders.rank_encoders`.
    """
    from unet_segmentation.article.encoders import rank_encoders
    from unet_segmentation.article.upsampling import Data, measure_way
    from unet_segmentation.learning.planning import checked_values
    from unet_segmentation.scoring.intervals import Resampling
    from unet_segmentation.scoring.sums import Sums
    from unet_segmentation.scoring.tables import groups_of

    wanted = article.encoders
    values = checked_values(plan, classes) | {"epochs": wanted.epochs}
    data = Data(samples, packed, profile, recipe, values, classes, evaluation.split)
    equal = {"epochs": wanted.epochs, "max_minutes": None, "more_epochs": None}
    chosen = [(name, seed) for name in wanted.names for seed in wanted.seeds]
    sums = {}
    for number, (name, seed) in enumerate(chosen, 1):
        logger.info("training %d/%d: %s, seed %d", number, len(chosen), name, seed)
        place = folder / f"{name}-{seed}"
        network = NetworkParameters(encoder=name)
        found = measure_way(network, training.model_copy(update=equal | {"seed": seed}), data, inference, 1, place)
        sums[name, seed] = Sums.of(found.confusion, found.soft, classes, groups_of(samples))
    resampling = Resampling(**evaluation.intervals.model_dump())
    return rank_encoders(sums, release.score, release.margin, resampling)


def run_metric_experiment(article: ArticleParameters, folder: Path) -> pd.DataFrame:
    """Score trained networks, and predictions that look at nothing, by every metric and share of foreground.

    Returns:
        See `article.metric_experiment.run_experiment`.
    """
    from unet_segmentation.article.metric_experiment import run_experiment

    return run_experiment(article.metrics, folder)


def plot_metric_trust(experiment: pd.DataFrame) -> tuple[Any, pd.DataFrame]:
    """Draw every metric against the share of the foreground, and say which one may believe.

    Returns:
        A Plotly figure, and a row per metric, see `figures.metric_trust.judgements`.
    """
    from unet_segmentation.article.metric_experiment import METRICS
    from unet_segmentation.figures.metric_trust import judgements, trust_chart

    return trust_chart(experiment, METRICS), judgements(experiment)


def judge_claims(
    problem: str,
    upsampling: pd.DataFrame,
    costs: pd.DataFrame,
    encoders: pd.DataFrame,
    judgements: pd.DataFrame,
    article: ArticleParameters,
    release: ReleaseParameters,
) -> tuple[pd.DataFrame, str]:
    """Say of every claim of the article whether it held here.

    Returns:
        A row per claim (see `article.claims.judge_claims`), and the same as a page.
    """
    from unet_segmentation.article import claims

    reference = article.upsampling.reference
    tables = claims.Tables(upsampling, costs, encoders, judgements, reference, release.score, release.margin)
    found = claims.judge_claims(tables)
    for row in found.itertuples():
        logger.info("%s: %s", row.claim, row.verdict)
    return found, claims.page(found, problem=problem, command=f"make article ENV={problem}")
