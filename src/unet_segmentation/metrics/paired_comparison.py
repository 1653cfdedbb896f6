"""Two models on the same images: paired differences, with intervals and a permutation test.

Images differ far more from each other than two models do on one image. Both are therefore compared image by image:
a resample draws the same images for both, a permutation exchanges the two models on some images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.bootstrap import ENTRIES, Resampling, confidence_limits, left_out, resampled_sums
from unet_segmentation.metrics.confusion_matrix import class_counts
from unet_segmentation.metrics.definitions import Values
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.multi_seed import Sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums

SHOWN = 3  # samples that a message names

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "undefined"]


def compare(
    challenger: EvaluationTables,
    champion: EvaluationTables,
    classes: Sequence[str],
    *,
    margin: float,
    groups: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two runs by every score.

    Args:
        challenger: counts per image of the run that is compared.
        champion: of the run that it is compared with.
        classes: their names, the same in both.
        margin: the difference that does not matter. It should not be smaller than the spread over seeds.
        groups: sample id to group, where images belong together; then groups are drawn and exchanged.
        confidence: of the intervals.
        resamples: of the bootstrap, and permutations of the test.
        seed: of both.

    Returns:
        A row per score: score, champion, challenger, difference (challenger - champion), low, high (its interval, BCa),
        p_value (two-sided, of the hypothesis that the two models might as well be exchanged), p_adjusted (by Holm
        1979 over the classes of a score; for others the same), and a verdict: `equivalent`, the interval lies within
        the margin; else `better` or `worse`, it lies on one side of 0; else `inconclusive`. `undefined` where a score
        is.

    Raises:
        DataError: the two were not tested on the same samples.
    """
    champion = _matched(challenger, champion, len(classes))
    challenger_sums, champion_sums = (UnitSums.of(tables, classes, groups) for tables in (challenger, champion))
    return compare_sums(challenger_sums, champion_sums, Resampling("bca", confidence, resamples, seed), margin=margin)


def compare_sums(challenger: Sums, champion: Sums, resampling: Resampling, *, margin: float) -> pd.DataFrame:
    """Compare two models, or the means of two groups of models, as `compare` does.

    Both are over the same units in the same order.
    """
    challenger_scores, champion_scores = (sums.scores(sums.total) for sums in (challenger, champion))
    difference = challenger_scores - champion_scores
    both = np.concatenate([challenger.table, champion.table], axis=1)

    def differences(sums: Values) -> Values:
        parts = np.split(sums, [challenger.table.shape[-1]], axis=-1)
        return challenger.scores(parts[0]) - champion.scores(parts[1])

    resampled = np.concatenate([differences(sums) for sums in resampled_sums(both, resampling)])
    low, high = confidence_limits(difference, resampled, differences(left_out(both)), resampling)
    table = pd.DataFrame(
        {
            "score": challenger.names,
            "champion": champion_scores,
            "challenger": challenger_scores,
            "difference": difference,
            "low": low,
            "high": high,
            "p_value": permutation_test(challenger, champion, resampling),
        }
    )
    table["p_adjusted"] = _adjusted(table)
    table["verdict"] = [verdict(*row, margin) for row in zip(low, high, strict=True)]
    return table


def verdict(low: float, high: float, margin: float) -> Verdict:
    """Return the verdict on a difference by its interval.

    >>> verdict(-0.002, 0.004, 0.01), verdict(0.002, 0.04, 0.01), verdict(-0.03, 0.02, 0.01)
    ('equivalent', 'better', 'inconclusive')
    """
    if np.isnan(low) or np.isnan(high):
        return "undefined"
    if -margin <= low and high <= margin:
        return "equivalent"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "inconclusive"


def permutation_test(first: Sums, second: Sums, resampling: Resampling) -> Values:
    """Test whether two models differ: exchange them on a random half of the units, and count how often that matters.

    Two-sided; p = (1 + exchanges with a difference at least as large) / (1 + exchanges) (Phipson and Smyth 2010).

    Returns:
        (scores,), NaN where a difference is undefined.
    """
    units = len(first.table)
    observed = np.abs(first.scores(first.total) - second.scores(second.total))
    exchanged_rows = second.table - first.table
    generator = np.random.default_rng([resampling.seed, units])
    as_large, chunk = np.zeros(len(first.names), np.int64), max(1, ENTRIES // units)
    for start in range(0, resampling.resamples, chunk):
        size = min(chunk, resampling.resamples - start)
        exchange = generator.integers(0, 2, (size, units), dtype=np.int8).astype(np.float64) @ exchanged_rows
        difference = np.abs(first.scores(first.total + exchange) - second.scores(second.total - exchange))
        as_large += (difference >= observed - 1e-12).sum(axis=0)  # equal but for rounding is as large
    return np.where(np.isnan(observed), np.nan, (1 + as_large) / (1 + resampling.resamples))


def _adjusted(table: pd.DataFrame) -> pd.Series:
    """Holm's correction over the classes of each score: one of many classes differs easily by chance."""
    adjusted = table["p_value"].copy()
    family = table["score"].str.extract(r"^(.*/class/)", expand=False)
    for _, rows in table.groupby(family):
        order = rows["p_value"].dropna().sort_values()
        factors = np.arange(len(order), 0, -1)
        adjusted[order.index] = np.minimum(1, np.maximum.accumulate(order.to_numpy() * factors))
    return adjusted


def _matched(challenger: EvaluationTables, champion: EvaluationTables, classes: int) -> EvaluationTables:
    """Bring the champion's images into the challenger's order, and check that images and masks are the same."""
    ids = challenger.sample_ids
    unmatched = sorted(set(ids) ^ set(champion.sample_ids))
    if unmatched:
        raise DataError(
            f"The two runs were not tested on the same samples: {len(unmatched)} are in one of them alone, such as "
            f"{', '.join(unmatched[:SHOWN])}. Evaluate both on one split."
        )
    supports = [class_counts(tables.confusion, classes, ids).support for tables in (challenger, champion)]
    changed = [ids[row] for row in np.flatnonzero((supports[0] != supports[1]).any(axis=1))]
    if changed:
        raise DataError(
            f"The two runs were not tested on the same masks: those of {len(changed)} samples differ, such as "
            f"{', '.join(changed[:SHOWN])}. Evaluate both on the same data."
        )
    soft = champion.soft.set_index(champion.soft["sample_id"].astype(str)).loc[ids].reset_index(drop=True)
    return EvaluationTables({**champion.tables, "soft": soft})
