"""The page of metric definitions, made from the table: ``python -m unet_segmentation.scoring.documentation``."""

from __future__ import annotations

from pathlib import Path

from unet_segmentation.scoring import metrics
from unet_segmentation.scoring.metrics import METRICS

PAGE = Path("docs/metrics.md")


def markdown() -> str:
    """Write the definitions of all scores as Markdown."""
    lines = [
        "# Metric definitions",
        "",
        "Made from the table in `src/unet_segmentation/scoring/metrics.py` by",
        "`python -m unet_segmentation.scoring.documentation`; a test holds that it is up to date.",
        "",
        "TP, FP and FN are pixels of a class: right, wrongly given to it, wrongly taken from it. Ignored pixels (255",
        "in a mask) count nowhere. `<class>` stands for a class's name in lower case, other characters turned to `_`.",
        "In `metrics.json` an undefined score is `null`, in MLflow it is left out.",
        "",
        *_paragraph(metrics.__doc__ or ""),
        "",
        "| Score | Meaning | Formula | Aggregation | Range | Absent classes | Source |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in METRICS:
        cells = (metric.title, metric.formula, metric.aggregation, metric.range, metric.absent, metric.source)
        lines.append(f"| `{metric.name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _paragraph(docstring: str) -> list[str]:
    """Take what follows the summary of a docstring."""
    return docstring.strip().split("\n")[2:]


if __name__ == "__main__":
    PAGE.write_text(markdown(), encoding="utf-8")
