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
        "---",
        "hide: [toc]",
        "---",
        "",
        "# Metrics",
        "",
        "Generated from the table in `src/unet_segmentation/metrics/definitions.py` by",
        "`python docs/make_reference.py`; a test checks that it is up to date.",
        "",
        "TP, FP and FN are the true positive, false positive and false negative pixels of a class. Ignored pixels (255",
        "in a mask) count nowhere. `<class>` stands for a class name in lower case, with `_` for other characters, and",
        f"`<size>` for one of {', '.join(f'`{size}`' for size in SIZES)} (pixels of diameter).",
        "An undefined score is `null` in `metrics.json` and left out in MLflow. Which one to trust:",
        "[evaluation and statistics](../explanation/evaluation-and-statistics.md#which-score-to-trust).",
        'Where the source is "the article", it is Syed Nauyan Rashid, "Semantic Segmentation: U-Net" (Red Buffer on',
        "Medium, 5 November 2021).",
        "",
        *_paragraph(metrics.__doc__ or ""),
        "",
        f"| Score | {' | '.join(name.capitalize() for name in list(METRICS[0].definition)[1:])} |",
        "|---|---|---|---|---|---|",
    ]
    for metric in METRICS:
        meaning, *others = metric.definition.values()
        lines.append(f"| `{metric.name}`<br>{meaning} | {' | '.join(others)} |")
    return "\n".join(lines) + "\n"


def _paragraph(docstring: str) -> list[str]:
    """Return what follows the summary of a docstring."""
    return docstring.strip().split("\n")[2:]


if __name__ == "__main__":
    PAGE.write_text(markdown(), encoding="utf-8")
