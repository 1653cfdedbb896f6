"""Encoders on equal terms: scores of each over the same images and seeds, beside the best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from unet_segmentation.scoring.comparison import compare_sums
from unet_segmentation.scoring.intervals import Resampling, bootstrap
from unet_segmentation.scoring.repeated import RepeatedSums
from unet_segmentation.scoring.sums import Sums


def rank_encoders(
    sums: Mapping[tuple[str, int], Sums], score: str, margin: float, resampling: Resampling
) -> pd.DataFrame:
    """Put encoders in order of their mean over the seeds, each compared with the best.

    Args:
        sums: by encoder and seed, over the same images.
        score: that decides.
        margin: the difference that does not matter.
        resampling: of the intervals and of the test.

    Returns:
        A row per encoder, the best first: encoder, seeds (how many), value (mean over the seeds), low and high
        (interval over the images), difference to the best, its interval (difference_low, difference_high), p_value and
        verdict (`best` for itself).
    """
    names = list(dict.fromkeys(name for name, _ in sums))
    repeated = {name: RepeatedSums.of([part for (each, _), part in sums.items() if each == name]) for name in names}
    tables = {name: bootstrap(repeated[name], resampling) for name in names}
    values: dict[str, dict[Any, Any]] = {
        name: table[table["score"] == score].iloc[0].to_dict() for name, table in tables.items()
    }
    names.sort(key=lambda name: -float(values[name]["value"]))
    rows = []
    for name in names:
        row = {"encoder": name, "seeds": sum(each == name for each, _ in sums)}
        row |= {key: values[name][key] for key in ("value", "low", "high")}
        row |= dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), np.nan)
        if name == names[0]:
            rows.append(row | {"verdict": "best"})
            continue
        found = (
            compare_sums(repeated[name], repeated[names[0]], resampling, margin=margin).set_index("score").loc[score]
        )
        row |= {"difference": found["difference"], "difference_low": found["low"], "difference_high": found["high"]}
        rows.append(row | {"p_value": found["p_value"], "verdict": found["verdict"]})
    return pd.DataFrame(rows)
