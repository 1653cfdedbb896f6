"""Two networks on the same images: paired differences, with intervals and a permutation test.

Images differ far more from each other than two networks do on one image. Both are therefore compared image by image:
a resample draws the same images for both, a permutation exchanges the two networks on some images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.bootstrap import ENTRIES, Resampling, confidence_limits, left_out, resampled_sums
from unet_segmentation.metrics.confusion_matrix import class_counts
from unet_segmentation.metrics.definitions import Values
from unet_segmentation.metrics.multi_seed import MultiSeedSums
from unet_segmentation.metrics.sufficient_statistics import UnitSums

SHOWN = 3  # samples that a message names

Verdict = Literal["better", "worse", "equivalent", "inconclusive", "undefined"]


class EvaluationCounts(NamedTuple):
    """What a run's evaluation has left, per image.

    Attributes:
        confusion: sparse counts: sample_id, truth, prediction, count.
        soft: the article's sums: sample_id, intersection, truth, prediction. It names all images.
    """

    confusion: pd.DataFrame
    soft: pd.DataFrame


def compare(
    challenger: EvaluationCounts,
    champion: EvaluationCounts,
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
        challenger: what is compared.
        champion: with what.
        classes: names of the classes, of both.
        margin: the difference that does not matter. It should not be smaller than the spread over seeds.
        groups: sample id to group, where images belong together; then groups are drawn and exchanged.
        confidence: of the intervals.
        resamples: of the bootstrap, and permutations of the test.
        seed: of both.

    Returns:
        A row per score: score, champion, challenger, difference (challenger - champion), low, high (its interval, BCa),
        p_value (two-sided, of the hypothesis that the two networks might as well be exchanged), p_adjusted (by Holm
        1979 over the classes of a score; for others the same), and a verdict: `equivalent`, the interval lies within
        the margin; else `better` or `worse`, it lies on one side of 0; else `inconclusive`. `undefined` where a score
        is.

    Raises:
        DataError: the two were not tested on the same samples.
    """
    champion = _matched(challenger, champion, len(classes))
    ours, theirs = (UnitSums.of(*scored, classes, groups) for scored in (challenger, champion))
    return compare_sums(ours, theirs, Resampling("bca", confidence, resamples, seed), margin=margin)


def compare_sums(
    ours: UnitSums | MultiSeedSums, theirs: UnitSums | MultiSeedSums, resampling: Resampling, *, margin: float
) -> pd.DataFrame:
    """Compare two networks, or the means of two groups of networks, by every score.

    Args:
        ours: sums of the challenger.
        theirs: of the champion, over the same units in the same order.
        resampling: of the intervals and of the test.
        margin: the difference that does not matter.

    Returns:
        What `compare` returns.
    """
    values = ours.scores(ours.total), theirs.scores(theirs.total)
    difference = values[0] - values[1]
    both = np.concatenate([ours.table, theirs.table], axis=1)

    def differences(sums: Values) -> Values:
        width = ours.table.shape[-1]
        found: Values = ours.scores(sums[..., :width]) - theirs.scores(sums[..., width:])
        return found

    drawn = np.concatenate([differences(sums) for sums in resampled_sums(both, resampling)])
    low, high = confidence_limits(difference, drawn, differences(left_out(both)), resampling)
    table = pd.DataFrame(
        {
            "score": ours.names,
            "champion": values[1],
            "challenger": values[0],
            "difference": difference,
            "low": low,
            "high": high,
            "p_value": permutation_test(ours, theirs, resampling),
        }
    )
    table["p_adjusted"] = _adjusted(table)
    table["verdict"] = [verdict(*row, margin) for row in zip(low, high, strict=True)]
    return table


def verdict(low: float, high: float, margin: float) -> Verdict:
    """Judge a difference by its interval.

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


def permutation_test(
    ours: UnitSums | MultiSeedSums, theirs: UnitSums | MultiSeedSums, resampling: Resampling
) -> Values:
    """Test whether two networks differ: exchange them on a random half of the units, and see how often that matters.

    Two-sided; p = (1 + exchanges with a difference at least as large) / (1 + exchanges) (Phipson and Smyth 2010).

    Args:
        ours: sums of one network.
        theirs: of the other, over the same units.
        resampling: how often, and the seed.

    Returns:
        (scores,), NaN where a difference is undefined.
    """
    units, names = len(ours.table), len(ours.names)
    observed = np.abs(ours.scores(ours.total) - theirs.scores(theirs.total))
    apart = theirs.table - ours.table
    generator = np.random.default_rng([resampling.seed, units])
    as_large, rows = np.zeros(names, np.int64), max(1, ENTRIES // units)
    for start in range(0, resampling.resamples, rows):
        some = min(rows, resampling.resamples - start)
        moved = generator.integers(0, 2, (some, units), dtype=np.int8).astype(np.float64) @ apart
        exchanged = np.abs(ours.scores(ours.total + moved) - theirs.scores(theirs.total - moved))
        as_large += (exchanged >= observed - 1e-12).sum(axis=0)  # equal but for rounding is as large
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


def _matched(challenger: EvaluationCounts, champion: EvaluationCounts, classes: int) -> EvaluationCounts:
    """Put the champion's images into the challenger's order.

    Raises:
        DataError: they are not the same, or their masks are not.
    """
    ids, others = (scored.soft["sample_id"].astype(str).tolist() for scored in (challenger, champion))
    alone = sorted(set(ids) ^ set(others))
    if alone:
        raise DataError(
            f"The two runs were not tested on the same samples: {len(alone)} are in one of them alone, such as "
            f"{', '.join(alone[:SHOWN])}. Evaluate both on one split."
        )
    truth, other = (class_counts(scored.confusion, classes, ids).truth for scored in (challenger, champion))
    changed = [name for name, same in zip(ids, (truth == other).all(axis=1), strict=True) if not same]
    if changed:
        raise DataError(
            f"The two runs were not tested on the same masks: those of {len(changed)} samples differ, such as "
            f"{', '.join(changed[:SHOWN])}. Evaluate both on the same data."
        )
    soft = champion.soft.set_index(champion.soft["sample_id"].astype(str)).loc[ids].reset_index(drop=True)
    return champion._replace(soft=soft)
