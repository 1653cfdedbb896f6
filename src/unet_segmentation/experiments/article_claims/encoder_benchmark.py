"""Encoders on equal terms: what each scores over the same images and seeds, beside the best, and what it costs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

from unet_segmentation.experiments.article_claims.training_grid import GridPoint
from unet_segmentation.experiments.sweep.leaderboard import leaderboard, pareto_front
from unet_segmentation.metrics.bootstrap import Resampling
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.parameters import ModelParameters

KEY = ["encoder", "seed"]
COST = "multiply_adds"  # that a score is held against


def trainings_of(names: Sequence[str], seeds: Sequence[int]) -> list[GridPoint]:
    """List smp's U-Net with every encoder and every seed."""
    return [
        GridPoint({"encoder": name, "seed": seed}, ModelParameters(encoder=name)) for name in names for seed in seeds
    ]


def rank_encoders(
    runs: pd.DataFrame,
    sums: Mapping[tuple[Hashable, ...], UnitSums],
    costs: pd.DataFrame,
    score: str,
    margin: float,
    resampling: Resampling,
) -> pd.DataFrame:
    """Put encoders in order of their mean over the seeds, each compared with the best.

    Args:
        runs: a row per encoder and seed, with the scores.
        sums: of each of them, over the same images.
        costs: a row per encoder: what `costs.network_costs` counts.
        score: that decides.
        margin: the difference that does not matter.
        resampling: of the intervals and of the test.

    Returns:
        A row per encoder, the best first: encoder, seeds (how many), value (mean over the seeds), spread (their sample
        standard deviation), low and high (interval over the images), difference to the best with its interval
        (difference_low, difference_high), p_value and verdict (`best` for itself), the counts, and frontier: whether no
        other scores as much for fewer multiply-adds.
    """
    names = {"encoder": "variant", "training_bytes": "memory_bytes"}
    table = runs.assign(status="finished", epochs=runs["best_epoch"]).merge(costs, on="encoder").rename(columns=names)
    given = {(str(name), int(str(seed))): part for (name, seed), part in sums.items()}
    ranked = leaderboard(table, given, score, margin, resampling)
    kept = ["variant", "seeds", "value", "spread", "low", "high", "difference", "difference_low", "difference_high"]
    kept += ["p_value", "verdict", "parameters", "multiply_adds", "memory_bytes"]
    found = ranked[kept].rename(columns={new: old for old, new in names.items()})
    return found.assign(frontier=pareto_front(found[COST].tolist(), found["value"].tolist()))
