"""Tables of scores with their definitions."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from unet_segmentation.metrics.definitions import Metric, describe


def definition(metric: Metric) -> dict[str, str]:
    """Return the definition of a metric, under the headings of the page."""
    return {
        "meaning": metric.title,
        "formula": metric.formula,
        "aggregation": metric.aggregation,
        "range": metric.range + ("; lower is better" if metric.better == "lower" else ""),
        "absent classes": metric.absent,
        "source": metric.source,
    }


def definitions(scores: Mapping[str, float | None]) -> pd.DataFrame:
    """Build a table of scores with their definitions.

    Args:
        scores: name to value; None where undefined.

    Returns:
        Columns score, value, and those of `definition`; a row per score.
    """
    rows = [
        {"score": name, "value": value, **definition(metric)}
        for name, value in scores.items()
        if (metric := describe(name)) is not None
    ]
    return pd.DataFrame(rows)
