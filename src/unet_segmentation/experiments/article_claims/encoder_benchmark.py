"""Encoders on equal terms: what each scores over the same images and seeds compared with the best, and its costs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

from unet_segmentation.experiments.article_claims.training_grid import GridPoint
from unet_segmentation.experiments.sweep.leaderboard import leaderboard, pareto_front
from unet_segmentation.metrics.bootstrap import Resampling
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.parameters import ModelParameters

KEY = ["encoder", "seed"]
COST = "multiply_adds"  # the score is plotted against it
COLUMNS = [
    "variant", "seeds", "value", "spread", "low", "high", "difference", "difference_low", "difference_high", "p_value",
    "verdict", "parameters", "multiply_adds", "memory_bytes",
]  # fmt: skip


def encoder_points(names: Sequence[str], seeds: Sequence[int] | None = None) -> list[GridPoint]:
    """List smp's U-Net with every encoder, and with every seed where it is trained."""
    keys = [{"seed": seed} for seed in seeds] if seeds is not None else [{}]
    return [GridPoint({"encoder": name, **key}, ModelParameters(encoder=name)) for name in names for key in keys]


def rank_encoders(
    runs: pd.DataFrame,
    sums: Mapping[tuple[Hashable, ...], UnitSums],
    costs: pd.DataFrame,
    score: str,
    margin: float,
    resampling: Resampling,
) -> pd.DataFrame:
    """Rank encoders by their mean over the seeds, and compare each with the best.

    `runs` has a row per encoder and seed, with the scores; `sums` are of each of them, over the same images; `costs`
    are as `CostMeasurement.count` returns them; a difference within `margin` is equivalent.

    Returns:
        A row per encoder, the best first: `COLUMNS` of `leaderboard.leaderboard` (variant as encoder, memory_bytes as
        training_bytes), and frontier: whether no other scores as much for fewer multiply-adds.
    """
    names = {"encoder": "variant", "training_bytes": "memory_bytes"}
    table = runs.assign(status="finished", epochs=runs["best_epoch"]).merge(costs, on="encoder").rename(columns=names)
    by_variant = {(str(name), int(str(seed))): run_sums for (name, seed), run_sums in sums.items()}
    ranked = leaderboard(table, by_variant, score, margin, resampling)[COLUMNS]
    ranked = ranked.rename(columns={new: old for old, new in names.items()})
    return ranked.assign(frontier=pareto_front(ranked[COST].tolist(), ranked["value"].tolist()))
