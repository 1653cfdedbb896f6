"""The tables of a sweep: a row per run, the costs, and the leaderboard of the variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.experiments.variants import Variant
from unet_segmentation.metrics.bootstrap import Resampling, bootstrap
from unet_segmentation.metrics.multi_seed import MultiSeedSums
from unet_segmentation.metrics.paired_comparison import compare_sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums

if TYPE_CHECKING:
    from unet_segmentation.experiments.child_training import Outcome  # which imports torch

BEST, FAILED = "best", "failed"
COUNTS = ("parameters", "multiply_adds", "memory_bytes")  # of a model and its batch, whatever the machine
RUN_COLUMNS = (
    "variant", "seed", "status", "reason", "fingerprint", "epochs", "best_epoch", *COUNTS, "folder",
)  # fmt: skip
COMPARISON_COLUMNS = ("difference", "difference_low", "difference_high", "p_value", "verdict")
LEADERBOARD_COLUMNS = (
    "variant", "seeds", "failed", "value", "spread", "low", "high", *COMPARISON_COLUMNS, "units", "epochs", *COUNTS,
)  # fmt: skip
COSTS = {  # name to whether a smaller one is better
    "training_seconds": True,
    "evaluation_seconds": True,
    "training_images_per_second": False,
    "prediction_images_per_second": False,
    "peak_memory_mib": True,
}


def runs_table(results: Iterable[tuple[Variant, Outcome]]) -> pd.DataFrame:
    """Tabulate what does not differ from one time to the next: a row per variant and seed.

    `RUN_COLUMNS`, then the scores of the whole split (none of classes), NaN where one is undefined or the run failed.
    """
    rows = []
    for variant, outcome in results:
        columns = {name: getattr(outcome, name) for name in RUN_COLUMNS if hasattr(outcome, name)}
        scores = {name: value for name, value in outcome.scores.items() if "/class/" not in name}
        rows.append({"variant": variant.name, "seed": variant.seed, **columns, **scores})
    table = pd.DataFrame(rows)
    table = table[[*RUN_COLUMNS, *(name for name in table if name not in RUN_COLUMNS)]]
    return table.astype(dict.fromkeys(["epochs", "best_epoch", *COUNTS], "Int64"))


def costs_table(results: Iterable[tuple[Variant, Outcome]]) -> pd.DataFrame:
    """Tabulate what was measured in seconds and bytes: variant, seed, seconds (in all), and those of `COSTS`."""
    rows = [
        {"variant": variant.name, "seed": variant.seed}
        | {name: outcome.costs.get(name) for name in ("seconds", *COSTS)}
        for variant, outcome in results
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(("seconds", *COSTS), float))


def leaderboard(
    runs: pd.DataFrame, sums: Mapping[tuple[str, int], UnitSums], score: str, margin: float, resampling: Resampling
) -> pd.DataFrame:
    """Rank the variants by their mean over the seeds, and compare each with the best.

    `sums` are of every finished run, by variant and seed, over the same images; a difference within `margin` is
    equivalent.

    Returns:
        `LEADERBOARD_COLUMNS`, a row per variant: seeds and failed (numbers of runs), value (mean over the seeds),
        spread (their sample standard deviation; NaN for one), low and high (interval over the images), difference (to
        the best, over the seeds that both have finished) with its interval, p-value and verdict (`best`: the first row;
        `failed`: no run finished), units (images or groups), and what the network has. Then the means of other scores.
    """
    order = list(dict.fromkeys(runs["variant"]))
    by_seed = {name: {seed: part for (variant, seed), part in sums.items() if variant == name} for name in order}
    rows = [_row(runs[runs["variant"] == name], list(by_seed[name].values()), score, resampling) for name in order]
    table = pd.DataFrame(rows).sort_values("value", ascending=False, kind="stable", na_position="last")
    best = str(table["variant"].iloc[0])
    comparisons = [
        {"verdict": BEST if by_seed[best] else FAILED}
        if name == best
        else _compare(by_seed[name], by_seed[best], score, margin, resampling)
        for name in table["variant"]
    ]
    table = table.reset_index(drop=True).join(pd.DataFrame(comparisons, columns=list(COMPARISON_COLUMNS)))
    others = [name for name in table if "/" in str(name) and name != score]
    return table[[*LEADERBOARD_COLUMNS, *others]].astype(dict.fromkeys(COUNTS, "Int64"))


def _row(runs: pd.DataFrame, finished: list[UnitSums], score: str, resampling: Resampling) -> dict[str, object]:
    """Summarize the runs of one variant."""
    done = runs[runs["status"] == "finished"]
    row: dict[str, object] = {
        "variant": runs["variant"].iloc[0], "seeds": len(done), "failed": len(runs) - len(done),
        "epochs": done["epochs"].astype(float).mean(),
        **{name: _only(done[name]) for name in COUNTS},
        "value": np.nan, "spread": np.nan, "low": np.nan, "high": np.nan, "units": 0,
    }  # fmt: skip
    if not finished:
        return row
    row |= {str(name): done[name].astype(float).mean() for name in done if "/" in str(name)}
    table = bootstrap(MultiSeedSums(finished), resampling)
    intervals: dict[Any, Any] = table[table["score"] == score].iloc[0].to_dict()
    row |= {"value": intervals["value"], "low": intervals["low"], "high": intervals["high"]}
    return row | {"spread": done[score].astype(float).std(ddof=1), "units": int(intervals["units"])}


def _only(values: pd.Series) -> object:
    return values.iloc[0] if len(values) else pd.NA


def _compare(
    variant: Mapping[int, UnitSums], best: Mapping[int, UnitSums], score: str, margin: float, resampling: Resampling
) -> dict[str, object]:
    """Compare a variant with the best one, over the seeds that both have finished."""
    seeds = [seed for seed in variant if seed in best]
    if not seeds:
        return {"verdict": "undefined" if variant else FAILED}
    sums, best_sums = (MultiSeedSums([by_seed[seed] for seed in seeds]) for by_seed in (variant, best))
    table = compare_sums(sums, best_sums, resampling, margin=margin)
    return comparison_columns(table[table["score"] == score].iloc[0])


def comparison_columns(row: Mapping[Any, Any] | pd.Series) -> dict[str, object]:
    """Return `COMPARISON_COLUMNS` from a row of `compare`."""
    columns = {name: row[name] for name in ("difference", "p_value", "verdict")}
    return columns | {"difference_low": row["low"], "difference_high": row["high"]}


def mean_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Compute the mean costs of every variant over its seeds: variant as index, `COSTS` as columns."""
    return costs.groupby("variant", sort=False)[list(COSTS)].mean()


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> NDArray[np.bool_]:
    """Mark the Pareto front: the points that no other one equals or beats in both and beats in one; NaN is not on it.

    >>> pareto_front([1, 2, 3], [0.5, 0.4, 0.6]).tolist()
    [True, False, True]
    """
    cost, score = np.asarray(costs, float), np.asarray(scores, float)
    as_good = (cost[None] <= cost[:, None]) & (score[None] >= score[:, None])
    better = (cost[None] < cost[:, None]) | (score[None] > score[:, None])
    on_front: NDArray[np.bool_] = ~(as_good & better).any(axis=1) & ~np.isnan(cost) & ~np.isnan(score)
    return on_front
