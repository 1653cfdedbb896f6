"""Nodes of the comparison: thin, the work is done in ``unet_segmentation.sweeping``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ProjectError
from unet_segmentation.parameters import EvaluationParameters, ReleaseParameters, SweepParameters
from unet_segmentation.tracking.run_metadata import to_builtin

logger = logging.getLogger(__name__)

SHOWN = 5  # failures that a message names


def declare_variants(
    parameters: dict[str, Any], comparison: SweepParameters, profile: dict[str, Any]
) -> list[dict[str, Any]]:
    """List every variant with every seed, all of them checked before anything is trained.

    Returns:
        name, seed, overrides, parameters (of the sections that variants may change).
    """
    from dataclasses import asdict

    from unet_segmentation.experiments.sweep.run_variant import check_buildable
    from unet_segmentation.experiments.sweep.variants import declare_variants as declare

    variants = declare(to_builtin(parameters), comparison)
    check_buildable([variant for variant in variants if variant.seed == variants[0].seed], profile)
    logger.info(
        "%d trainings: %d variants, %d seeds",
        len(variants),
        len(variants) // len(comparison.seeds),
        len(comparison.seeds),
    )
    return [asdict(variant) for variant in variants]


def train_variants(
    variants: list[dict[str, Any]],
    parameters: dict[str, Any],
    samples: pd.DataFrame,
    packed: PackedSamples,
    profile: dict[str, Any],
    plan: dict[str, Any],
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and evaluate every variant with every seed, each as an MLflow run below this one.

    Args:
        variants: what `declare_variants` returned.
        parameters: all of the problem.
        samples: columns sample_id, split, masks.
        packed: images and masks.
        profile: statistics of the training split.
        plan: of the problem.
        folder: gets a folder for each training.

    Returns:
        A row per variant and seed: what does not differ from one time to the next; and what does.
    """
    from unet_segmentation.experiments.sweep.leaderboard import costs_table, runs_table
    from unet_segmentation.experiments.sweep.run_variant import SweepData, run_variant
    from unet_segmentation.experiments.sweep.variants import Variant

    run = tracking.current()
    run.resumes(True)  # other data make other trainings, with runs of their own below this one
    prepared = SweepData(to_builtin(parameters), samples, packed, profile, plan)
    results = []
    for number, values in enumerate(variants, 1):
        variant = Variant(**values)
        logger.info("variant %d/%d: %s", number, len(variants), variant)
        results.append((variant, run_variant(variant, prepared, folder, run)))
    return runs_table(results), costs_table(results)


def rank_variants(
    runs: pd.DataFrame,
    samples: pd.DataFrame,
    classes: list[str],
    release: ReleaseParameters,
    evaluation: EvaluationParameters,
    folder: Path,
) -> pd.DataFrame:
    """Put the variants in order, each compared with the best, image by image and seed by seed.

    Returns:
        See `sweeping.table.leaderboard`.
    """
    from unet_segmentation.experiments.sweep.leaderboard import leaderboard
    from unet_segmentation.experiments.sweep.run_variant import TABLES
    from unet_segmentation.metrics.bootstrap import Resampling
    from unet_segmentation.metrics.count_tables import groups_of
    from unet_segmentation.metrics.evaluation_tables import EvaluationTables
    from unet_segmentation.metrics.sufficient_statistics import UnitSums

    groups = groups_of(samples)
    sums = {}
    for row in runs[runs["status"] == "finished"].to_dict("records"):
        tables = EvaluationTables.load(folder / row["folder"] / TABLES)
        sums[row["variant"], row["seed"]] = UnitSums.of(tables, classes, groups)
    return leaderboard(
        runs, sums, release.score, release.noninferiority_margin, Resampling(**evaluation.intervals.model_dump())
    )


def plot_pareto_front(leaderboard: pd.DataFrame, costs: pd.DataFrame, release: ReleaseParameters) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw score against cost."""
    from unet_segmentation.experiments.sweep.report_page import frontier_chart

    return frontier_chart(leaderboard, costs, release.score)


def build_summary(
    comparison: SweepParameters,
    parameters: dict[str, Any],
    leaderboard: pd.DataFrame,
    runs: pd.DataFrame,
    costs: pd.DataFrame,
    chart: Any,  # noqa: ANN401 - a Plotly figure
    release: ReleaseParameters,
    samples: pd.DataFrame,
    profile: dict[str, Any],
) -> dict[str, Any]:
    """Put together what the page of the comparison and the report show of it."""
    from unet_segmentation.experiments.run_comparison import small_sample_warning
    from unet_segmentation.experiments.sweep.report_page import summary
    from unet_segmentation.training.plan import data_fingerprint

    known = to_builtin(parameters)
    minutes = known["training"]["max_time_minutes"] if comparison.budget == "minutes" else None
    budget = "Equal epochs." if minutes is None else f"Equal wall-clock: {minutes:g} minutes of training each."
    units = int(leaderboard["units"].iloc[0])
    parts = leaderboard, runs, costs, chart
    confidence = known["evaluation"]["intervals"]["confidence"]
    remark = small_sample_warning(units) if units else None
    data = data_fingerprint(profile, samples)
    return summary(budget, *parts, release.score, release.noninferiority_margin, confidence, remark, data)


def write_page(problem: str, summary: dict[str, Any], runs: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Put all that was found on one page."""
    from unet_segmentation.experiments.sweep.report_page import sweep_page

    return sweep_page(problem, summary, runs, costs)


def fail_if_any_variant_failed(runs: pd.DataFrame, page: str) -> None:
    """Let the run end as failed where a variant did; all is written by now.

    Raises:
        ProjectError: names the variants that failed, and why.
    """
    failed = runs[runs["status"] == "failed"]
    if failed.empty:
        return
    lines = [
        f"  {row['variant']}, seed {row['seed']}: {str(row['reason']).splitlines()[0]}"
        for row in failed.head(SHOWN).to_dict("records")
    ]
    more = [f"  and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
    raise ProjectError(
        f"{len(failed)} of {len(runs)} trainings failed; the others are finished, and compared:\n"
        + "\n".join(lines + more)
        + "\nRun it again to try these once more; what is finished is not trained again."
    )
