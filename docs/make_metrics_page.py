"""Write docs/reference/metrics.md from the table of metrics: ``python docs/make_metrics_page.py``."""

from __future__ import annotations

from pathlib import Path

from unet_segmentation.metrics import definitions as metrics
from unet_segmentation.metrics.definitions import METRICS
from unet_segmentation.metrics.object_recall import SIZES

PAGE = Path("docs/reference/metrics.md")


def markdown() -> str:
    """Return the definitions of all metrics as Markdown."""
    lines = [
        "# Metric definitions",
        "",
        "Generated from the table in `src/unet_segmentation/metrics/definitions.py` by",
        "`python docs/make_metrics_page.py`; a test checks that it is up to date.",
        "",
        "TP, FP and FN are pixels of a class: right, wrongly given to it, wrongly taken from it. Ignored pixels (255",
        "in a mask) count nowhere. `<class>` stands for a class's name in lower case, other characters turned to `_`,",
        f"`<size>` for one of {', '.join(f'`{size}`' for size in SIZES)} (pixels of diameter).",
        "In `metrics.json` an undefined score is `null`, in MLflow it is left out.",
        "",
        *_paragraph(metrics.__doc__ or ""),
        "",
        f"| Score | {' | '.join(name.capitalize() for name in METRICS[0].definition)} |",
        "|---|---|---|---|---|---|---|",
    ]
    for metric in METRICS:
        lines.append(f"| `{metric.name}` | {' | '.join(metric.definition.values())} |")
    return "\n".join(lines) + "\n"


def _paragraph(docstring: str) -> list[str]:
    """Return what follows the summary of a docstring."""
    return docstring.strip().split("\n")[2:]


if __name__ == "__main__":
    PAGE.write_text(markdown(), encoding="utf-8")
