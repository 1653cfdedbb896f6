"""From the results of a sweep to its tables: a row per run, the costs, and the leaderboard of the variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.experiments.sweep.variants import Variant
from unet_segmentation.metrics.bootstrap import Resampling, bootstrap
from unet_segmentation.metrics.multi_seed import MultiSeedSums
from unet_segmentation.metrics.paired_comparison import compare_sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums

if TYPE_CHECKING:
    from unet_segmentation.experiments.sweep.run_variant import Result

BEST, FAILED = "best", "failed"
RUN_COLUMNS = (
    "variant", "seed", "status", "reason", "fingerprint", "epochs", "best_epoch", "parameters", "multiply_adds",
    "memory_bytes", "folder",
)  # fmt: skip
LEADERBOARD_COLUMNS = (
    "variant", "seeds", "failed", "value", "spread", "low", "high", "difference", "difference_low", "difference_high",
    "p_value", "verdict", "units", "epochs", "parameters", "multiply_adds", "memory_bytes",
)  # fmt: skip
COUNTS = ("parameters", "multiply_adds", "memory_bytes")  # of a network and its batch, whatever the machine
COSTS = {  # name to whether a smaller one is better
    "training_seconds": True,
    "evaluation_seconds": True,
    "training_images_per_second": False,
    "prediction_images_per_second": False,
    "peak_memory_mib": True,
}


def runs_table(results: Iterable[tuple[Variant, Result]]) -> pd.DataFrame:
    """Write what does not differ from one time to the next: a row per variant and seed.

    Returns:
        `RUN_COLUMNS`, then the scores of the whole split (none of single classes), NaN where one is undefined or the
        run failed.
    """
    rows = []
    for variant, result in results:
        known = {name: getattr(result, name) for name in RUN_COLUMNS if hasattr(result, name)}
        scores = {name: value for name, value in result.scores.items() if "/class/" not in name}
        rows.append({"variant": variant.name, "seed": variant.seed, **known, **scores})
    table = pd.DataFrame(rows)
    table = table[[*RUN_COLUMNS, *(name for name in table if name not in RUN_COLUMNS)]]
    whole = ["epochs", "best_epoch", *COUNTS]
    return table.astype(dict.fromkeys(whole, "Int64"))


def costs_table(results: Iterable[tuple[Variant, Result]]) -> pd.DataFrame:
    """Write what was measured in seconds and bytes: variant, seed, seconds (in all), and those of `COSTS`."""
    rows = [
        {"variant": variant.name, "seed": variant.seed} | {name: result.costs.get(name) for name in ("seconds", *COSTS)}
        for variant, result in results
    ]
    return pd.DataFrame(rows).astype(dict.fromkeys(("seconds", *COSTS), float))


def leaderboard(
    runs: pd.DataFrame, sums: Mapping[tuple[str, int], UnitSums], score: str, margin: float, resampling: Resampling
) -> pd.DataFrame:
    """Put the variants in order of their mean over the seeds, each compared with the best.

    Args:
        runs: what `runs_table` returned.
        sums: of every finished run, by variant and seed; over the same images.
        score: decides the order.
        margin: a difference within it, both ways, is equivalent.
        resampling: of the intervals and of the test.

    Returns:
        `LEADERBOARD_COLUMNS`, a row per variant: seeds and failed (numbers of runs), value (mean over the seeds),
        spread (their sample standard deviation; NaN for one), low and high (interval over the images), difference (to
        the best, over the seeds that both have finished) with its interval, p-value and verdict (`best`: the first row;
        `failed`: no run finished), units (images or groups), and what the network has. Then the means of other scores.
    """
    order = list(dict.fromkeys(runs["variant"]))
    kept = {name: {seed: part for (variant, seed), part in sums.items() if variant == name} for name in order}
    rows = [_row(runs[runs["variant"] == name], list(kept[name].values()), score, resampling) for name in order]
    table = pd.DataFrame(rows).sort_values("value", ascending=False, kind="stable", na_position="last")
    best = str(table["variant"].iloc[0])
    compared = [_compared(kept[name], kept[best], score, margin, resampling, name == best) for name in table["variant"]]
    table = table.reset_index(drop=True).join(pd.DataFrame(compared))
    others = [name for name in table if "/" in str(name) and name != score]
    whole = dict.fromkeys(COUNTS, "Int64")
    return table[[*LEADERBOARD_COLUMNS, *others]].astype(whole)


def _row(runs: pd.DataFrame, finished: list[UnitSums], score: str, resampling: Resampling) -> dict[str, object]:
    """Sum up the runs of one variant."""
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
    table = bootstrap(MultiSeedSums.of(finished), resampling)
    intervals: dict[Any, Any] = table[table["score"] == score].iloc[0].to_dict()
    row |= {"value": intervals["value"], "low": intervals["low"], "high": intervals["high"]}
    return row | {"spread": done[score].astype(float).std(ddof=1), "units": int(intervals["units"])}


def _only(values: pd.Series) -> object:
    return values.iloc[0] if len(values) else pd.NA


def _compared(
    ours: Mapping[int, UnitSums],
    best: Mapping[int, UnitSums],
    score: str,
    margin: float,
    resampling: Resampling,
    same: bool,
) -> dict[str, object]:
    """Hold a variant against the best one, over the seeds that both have finished."""
    nothing = dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), np.nan)
    seeds = [seed for seed in ours if seed in best]
    if same or not seeds:
        return nothing | {"verdict": FAILED if not ours else BEST if same else "undefined"}
    mine, theirs = (MultiSeedSums.of([sums[seed] for seed in seeds]) for sums in (ours, best))
    row = compare_sums(mine, theirs, resampling, margin=margin).set_index("score").loc[score]
    return {
        "difference": row["difference"],
        "difference_low": row["low"],
        "difference_high": row["high"],
        "p_value": row["p_value"],
        "verdict": row["verdict"],
    }


def mean_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Return the mean costs of every variant over its seeds: variant as index, `COSTS` as columns."""
    return costs.groupby("variant", sort=False)[list(COSTS)].mean()


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> NDArray[np.bool_]:
    """Say who is on the Pareto frontier: nobody else is at least as good in both and better in one.

    Args:
        costs: the smaller, the better; NaN is on no frontier.
        scores: the larger, the better; likewise.

    >>> frontier([1, 2, 3], [0.5, 0.4, 0.6]).tolist()
    [True, False, True]
    """
    cost, score = np.asarray(costs, float), np.asarray(scores, float)
    as_good = (cost[None] <= cost[:, None]) & (score[None] >= score[:, None])
    better = (cost[None] < cost[:, None]) | (score[None] > score[:, None])
    found: NDArray[np.bool_] = ~(as_good & better).any(axis=1) & ~np.isnan(cost) & ~np.isnan(score)
    return found
