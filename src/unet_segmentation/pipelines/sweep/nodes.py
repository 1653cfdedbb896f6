"""Nodes of the sweep: thin, the work is done in ``unet_segmentation.experiments``."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ProjectError
from unet_segmentation.parameters import BootstrapParameters, ReleaseParameters, SweepParameters, validate_parameters
from unet_segmentation.parameters.serialization import to_builtin
from unet_segmentation.training.plan_rules import ProposedPlan

logger = logging.getLogger(__name__)

MAX_SHOWN = 5  # failures that a message names


def declare_variants(
    parameters: Mapping[str, object], comparison: SweepParameters, statistics: DatasetStatistics
) -> list[dict[str, object]]:
    """List every variant with every seed, and the parameters it may change; all are validated before any is trained."""
    from unet_segmentation.experiments.sweep.run_variant import check_buildable
    from unet_segmentation.experiments.variants import declare_variants as declare
    from unet_segmentation.experiments.variants import free_sections

    variants = declare(validate_parameters(to_builtin(parameters)), comparison)
    check_buildable([variant for variant in variants if variant.seed == variants[0].seed], statistics)
    seeds = len(comparison.seeds)
    logger.info("%d training runs: %d variants, %d seeds", len(variants), len(variants) // seeds, seeds)
    return [
        {
            "name": variant.name,
            "seed": variant.seed,
            "overrides": dict(variant.overrides),
            "parameters": free_sections(variant.parameters),
        }
        for variant in variants
    ]


def train_variants(
    *,
    variants: list[dict[str, Any]],
    parameters: Mapping[str, object],
    samples: pd.DataFrame,
    packed: PackedSamples,
    statistics: DatasetStatistics,
    proposed_plan: ProposedPlan,
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and evaluate every variant with every seed, each as a nested MLflow run.

    Returns:
        A row per variant and seed: what does not differ from one time to the next; and the costs, which do.
    """
    from unet_segmentation.experiments.child_training import ExperimentData
    from unet_segmentation.experiments.sweep.leaderboard import costs_table, runs_table
    from unet_segmentation.experiments.sweep.run_variant import run_variant
    from unet_segmentation.experiments.variants import Variant, override_parameters

    run = tracking.active_run()
    run.decide_resumption(True)  # other data make other training runs, nested below this one
    problem = validate_parameters(to_builtin(parameters))
    data = ExperimentData(problem, samples, packed, statistics, proposed_plan)
    outcomes = []
    for number, declared in enumerate(variants, 1):
        name, seed, overrides = declared["name"], declared["seed"], declared["overrides"]
        seeded = override_parameters(problem, overrides | {"training.seed": seed}, name)
        variant = Variant(name, seed, overrides, seeded)
        logger.info("variant %d/%d: %s", number, len(variants), variant)
        outcomes.append((variant, run_variant(variant, data, folder, run)))
    return runs_table(outcomes), costs_table(outcomes)


def rank_variants(
    runs: pd.DataFrame,
    samples: pd.DataFrame,
    classes: list[str],
    release: ReleaseParameters,
    bootstrap: BootstrapParameters,
    folder: Path,
) -> pd.DataFrame:
    """Rank the variants by the score of releases, and compare each with the best, by image and over the seeds."""
    from unet_segmentation.experiments.sweep.leaderboard import leaderboard
    from unet_segmentation.experiments.sweep.run_variant import TABLES
    from unet_segmentation.metrics.bootstrap import Resampling
    from unet_segmentation.metrics.evaluation_tables import EvaluationTables
    from unet_segmentation.metrics.sufficient_statistics import UnitSums, groups_of

    groups = groups_of(samples)
    sums = {}
    for row in runs[runs["status"] == "finished"].to_dict("records"):
        tables = EvaluationTables.load(folder / row["folder"] / TABLES)
        sums[row["variant"], row["seed"]] = UnitSums.of(tables, classes, groups)
    return leaderboard(runs, sums, release.score, release.noninferiority_margin, Resampling(**bootstrap.model_dump()))


def plot_pareto_front(leaderboard: pd.DataFrame, costs: pd.DataFrame, release: ReleaseParameters) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw score against cost."""
    from unet_segmentation.experiments.sweep.report_page import frontier_chart

    return frontier_chart(leaderboard, costs, release.score)


def build_summary(
    *,
    comparison: SweepParameters,
    parameters: Mapping[str, object],
    leaderboard: pd.DataFrame,
    runs: pd.DataFrame,
    costs: pd.DataFrame,
    chart: Any,  # noqa: ANN401 - a Plotly figure
    release: ReleaseParameters,
    samples: pd.DataFrame,
    statistics: DatasetStatistics,
) -> dict[str, Any]:
    """Build what the page of the sweep and the report show of it."""
    from unet_segmentation.data.statistics import hash_data
    from unet_segmentation.experiments.run_comparison import small_sample_warning
    from unet_segmentation.experiments.sweep.report_page import summary

    problem = validate_parameters(to_builtin(parameters))
    minutes = problem.training.max_time_minutes if comparison.budget == "minutes" else None
    units = int(leaderboard["units"].iloc[0])
    return summary(
        leaderboard,
        runs,
        costs,
        chart,
        budget="Equal epochs." if minutes is None else f"Equal wall-clock: {minutes:g} minutes of training each.",
        score=release.score,
        margin=release.noninferiority_margin,
        confidence=problem.bootstrap.confidence,
        remark=small_sample_warning(units) if units else None,
        data=hash_data(statistics, samples),
    )


def write_page(problem: str, summary: dict[str, Any], runs: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Render all results on one page."""
    from unet_segmentation.experiments.sweep.report_page import sweep_page

    return sweep_page(problem, summary, runs, costs)


def fail_if_any_variant_failed(runs: pd.DataFrame, leaderboard: pd.DataFrame, page: str) -> dict[str, object]:
    """Return the best variant; raise where one failed, after the page is written."""
    failed = runs[runs["status"] == "failed"]
    if failed.empty:
        best = leaderboard.iloc[0]
        return {"variant": best["variant"], "value": float(best["value"])}
    lines = [
        f"  {row['variant']}, seed {row['seed']}: {str(row['reason']).splitlines()[0]}"
        for row in failed.head(MAX_SHOWN).to_dict("records")
    ]
    more = [f"  and {len(failed) - MAX_SHOWN} more"] if len(failed) > MAX_SHOWN else []
    raise ProjectError(
        f"{len(failed)} of {len(runs)} training runs failed; the others are finished, and compared:\n"
        + "\n".join(lines + more)
        + "\nRun it again to retry these; what is finished is not trained again."
    )
