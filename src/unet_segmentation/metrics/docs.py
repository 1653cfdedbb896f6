"""The page of metric definitions, made from the table: ``python -m unet_segmentation.metrics.docs``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from unet_segmentation.metrics import definitions as metrics
from unet_segmentation.metrics.definitions import METRICS, Metric, describe
from unet_segmentation.metrics.object_recall import SIZES

PAGE = Path("docs/metrics.md")


def markdown() -> str:
    """Return the definitions of all metrics as Markdown."""
    lines = [
        "# Metric definitions",
        "",
        "Made from the table in `src/unet_segmentation/metrics/definitions.py` by",
        "`python -m unet_segmentation.metrics.docs`; a test holds that it is up to date.",
        "",
        "TP, FP and FN are pixels of a class: right, wrongly given to it, wrongly taken from it. Ignored pixels (255",
        "in a mask) count nowhere. `<class>` stands for a class's name in lower case, other characters turned to `_`,",
        f"`<size>` for one of {', '.join(f'`{size}`' for size in SIZES)} (pixels of diameter).",
        "In `metrics.json` an undefined score is `null`, in MLflow it is left out.",
        "",
        *_paragraph(metrics.__doc__ or ""),
        "",
        f"| Score | {' | '.join(name.capitalize() for name in definition(METRICS[0]))} |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in METRICS:
        lines.append(f"| `{metric.name}` | {' | '.join(definition(metric).values())} |")
    return "\n".join(lines) + "\n"


def definition(metric: Metric) -> dict[str, str]:
    """Return what is known of a metric, by the headings of the page."""
    return {
        "meaning": metric.title,
        "formula": metric.formula,
        "aggregation": metric.aggregation,
        "range": metric.range + ("; lower is better" if metric.better == "lower" else ""),
        "absent classes": metric.absent,
        "source": metric.source,
    }


def definitions(scores: Mapping[str, float | None]) -> pd.DataFrame:
    """Build a table of scores and their definitions, for readers without this project's pages.

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


def _paragraph(docstring: str) -> list[str]:
    """Return what follows the summary of a docstring."""
    return docstring.strip().split("\n")[2:]


if __name__ == "__main__":
    PAGE.write_text(markdown(), encoding="utf-8")
