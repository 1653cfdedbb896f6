"""One HTML page about a run: it opens without a network, on a phone, and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from unet_segmentation.figures import pages
from unet_segmentation.figures.pictures import class_colours
from unet_segmentation.parameters.source import SourceParameters
from unet_segmentation.scoring.metrics import describe, slugs

HEADLINES = ("dice/mean", "iou/mean", "iou/foreground_mean", "accuracy/pixel", "article/dice_smooth1")
FEW_IMAGES = 20  # with fewer, a score says little about images that were not looked at
WORST_IMAGES, FINDINGS = 20, 50  # rows shown
TONES = {"error": "bad", "warning": "warn"}


def render_report(
    *,
    problem: str,
    source: SourceParameters,
    classes: Sequence[str],
    split: str,
    metrics: Mapping[str, float | None],
    image_scores: pd.DataFrame,
    pixels: NDArray,
    charts: Mapping[str, go.Figure],
    pictures: Mapping[str, Path],
    verdict: Mapping[str, Any],
    findings: pd.DataFrame,
    profile: Mapping[str, Any],
    network: Mapping[str, Any],
    plan: Mapping[str, Any],
) -> str:
    """Render the page.

    Args:
        problem: its name.
        source: where the data came from.
        classes: names of the classes.
        split: the split that was scored.
        metrics: every score by name; None where undefined.
        image_scores: a row per image, the worst first.
        pixels: (classes,) counted pixels of each class in the split.
        charts: Plotly figures named curves, confusion and classes.
        pictures: PNG files named gallery and augmentation.
        verdict: what the inspection of the data came to.
        findings: columns severity, kind, sample_id, file, message.
        profile: statistics of the training split.
        network: the network's specification.
        plan: the plan of the training.

    Returns:
        HTML that fetches nothing.
    """
    from plotly.offline import get_plotlyjs

    per_class = _per_class(classes, metrics, pixels)
    shown_findings = [_finding(row) for row in findings.head(FINDINGS).to_dict("records")]
    return pages.render(
        "report.html",
        problem=problem,
        split=split,
        subtitle=_subtitle(classes, image_scores, split, network),
        verdict=_verdict(verdict, per_class, image_scores, metrics),
        cautions=_cautions(image_scores, split, per_class),
        tiles=[_tile(name, metrics) for name in HEADLINES if name in metrics],
        all_scores=[_score(name, value) for name, value in metrics.items() if "/class/" not in name],
        per_class=per_class,
        metrics=metrics,
        worst=image_scores.head(WORST_IMAGES).astype(object).where(image_scores.notna(), None).to_dict("records"),
        pictures={name: pages.data_uri(path.read_bytes(), "image/png") for name, path in pictures.items()},
        charts={name: _embedded(figure) for name, figure in charts.items()},
        plotly=get_plotlyjs().replace("</script", "<\\/script"),
        data_card=_data_card(source, profile),
        findings=shown_findings,
        messages=list(verdict.get("messages", [])),
        more_findings=max(0, len(findings) - len(shown_findings)),
        network=pages.rows(network, skipped={"classes", "mean", "std"}),
        plan=pages.rows(plan, skipped={"samples", "parameters"}),
        parameters=pages.rows(plan.get("parameters", {})),
    )


def _subtitle(classes: Sequence[str], image_scores: pd.DataFrame, split: str, network: Mapping[str, Any]) -> str:
    parts = [str(network.get("architecture", "network")), str(network.get("encoder") or "")]
    name = " with ".join(part for part in parts if part)
    return f"Semantic segmentation into {len(classes)} classes by {name}, scored on {_images(image_scores)} ({split})"


def _verdict(
    verdict: Mapping[str, Any],
    per_class: Sequence[Mapping[str, Any]],
    image_scores: pd.DataFrame,
    metrics: Mapping[str, float | None],
) -> dict[str, str]:
    """Say in two sentences how good the network is, and whether the data can be trusted."""
    counts = verdict.get("counts", {})
    tone = "bad" if counts.get("error") else "warn" if counts.get("warning") else ""
    found = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items() if count and name != "note"]
    scored = [row for row in per_class if row["iou"] is not None]
    sentence = f"Inspection of the data: {' and '.join(found) or 'nothing to object to'}."
    if scored:
        weakest = min(scored, key=lambda row: row["iou"])
        sentence += f" Weakest class: {weakest['name']} (IoU {weakest['iou']:.3f})."
    if len(image_scores) and pd.notna(image_scores["iou/image_mean"].iloc[0]):
        worst = image_scores.iloc[0]
        sentence += f" Worst image: {worst['sample_id']} (IoU {worst['iou/image_mean']:.3f})."
    dice = metrics["dice/mean"]
    headline = "No score is defined" if dice is None else f"Mean Dice {dice:.3f} on {_images(image_scores)}"
    return {"tone": tone, "headline": headline, "sentence": sentence}


def _images(image_scores: pd.DataFrame) -> str:
    return f"{len(image_scores):,} image{'s' * (len(image_scores) != 1)}"


def _cautions(image_scores: pd.DataFrame, split: str, per_class: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    if len(image_scores) < FEW_IMAGES:
        found.append(
            f"Only {_images(image_scores)} were scored: another choice of test images could give quite other figures."
        )
    if split != "test":
        found.append(f"These are scores of the {split} split, not of images that training never touched.")
    missing = [row["name"] for row in per_class if not row["pixels"]]
    if missing:
        found.append(f"Without a pixel in the {split} split, and so without a fair score: {', '.join(missing)}.")
    return found


def _tile(name: str, metrics: Mapping[str, float | None]) -> dict[str, Any]:
    metric = describe(name)
    assert metric is not None
    return {"title": metric.title, "value": metrics[name], "definition": f"{metric.formula}; {metric.aggregation}"}


def _score(name: str, value: float | None) -> dict[str, Any]:
    metric = describe(name)
    formula, aggregation = (metric.formula, metric.aggregation) if metric else ("", "")
    return {"name": name, "value": value, "formula": formula, "aggregation": aggregation}


def _per_class(classes: Sequence[str], metrics: Mapping[str, float | None], pixels: NDArray) -> list[dict[str, Any]]:
    total = max(1, int(pixels.sum()))
    colours = class_colours(len(classes))
    return [
        {
            "name": name,
            "colour": "#" + bytes(colour).hex(),
            "pixels": int(count),
            "share": int(count) / total,
            **{measure: metrics.get(f"{measure}/class/{slug}") for measure in ("dice", "iou", "precision", "recall")},
        }
        for name, slug, colour, count in zip(classes, slugs(classes), colours, pixels, strict=True)
    ]


def _finding(row: Mapping[Any, Any]) -> dict[str, str]:
    severity = str(row.get("severity", "note"))
    where = row.get("file") or row.get("sample_id") or ""
    return {
        "severity": severity,
        "tone": TONES.get(severity, ""),
        "kind": str(row.get("kind", "")).replace("_", " "),
        "where": str(where),
        "message": str(row.get("message", "")),
    }


def _data_card(source: SourceParameters, profile: Mapping[str, Any]) -> list[tuple[str, str]]:
    profile = dict(profile)
    rows = pages.provenance(source)
    if "samples" in profile:
        rows.append(("Samples", pages.text(profile.pop("samples"))))
    for key, name in (("class_shares", "Class shares in training"), ("ignored_share", "Ignored pixels in training")):
        if key in profile:
            rows.append((name, pages.percent(profile.pop(key))))
    for key in ("height", "width"):
        if isinstance(sides := profile.get(key), Mapping):
            low, high = sides["minimum"], sides["maximum"]
            median = f", median {sides['median']:g}"
            profile[key] = f"{low} pixels" if low == high else f"{low} to {high} pixels{median}"
    return rows + pages.rows(profile)


def _embedded(figure: go.Figure) -> str:
    """Write a figure as JSON that cannot end the script it stands in."""
    return str(figure.to_json()).replace("<", "\\u003c")
