"""The cards of the report: what the data are, what the model is for and where it ends, and how to make it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.statistics import DatasetStatistics, SideLengths
from unet_segmentation.parameters.predictor import PredictorParameters
from unet_segmentation.parameters.source import SourceParameters
from unet_segmentation.reporting import html

FEW_IMAGES = 20  # with fewer, a score says little about images that were not evaluated
RARE_SHARE = 0.01  # of the training pixels; the network has seen little of such a class
NAMED_CLASSES = 30  # in one sentence
SEVERITIES = ("error", "warning", "note")
TONES = {"error": "bad", "warning": "warn"}

Rows = list[tuple[str, str]]


def data_card(source: SourceParameters, statistics: DatasetStatistics | None, audit: AuditResult | None) -> Rows:
    """Describe where the data come from, under which terms, how many they are and of what kind."""
    rows = html.provenance(source)
    if statistics is not None:
        counts = ", ".join(f"{count:,} {split}" for split, count in statistics.samples.items())
        rows.append(("Samples", counts))
    if audit is not None and audit.set_aside:
        rows.append(("Set aside", f"{html.count(len(audit.set_aside), 'sample')}, because of errors"))
    if statistics is None:
        return rows
    rows += [("Width in training", _range(statistics.width)), ("Height in training", _range(statistics.height))]
    rows.append(("Values", f"{html.count(statistics.channels, 'channel')} of {statistics.dtype}"))
    for name, values in (("Bands", statistics.images.bands), ("Range", statistics.images.range)):
        if values is not None:
            rows.append((name, html.text(list(values))))
    rows.append(("Mean in training", html.text(list(statistics.mean))))
    rows.append(("Standard deviation in training", html.text(list(statistics.std))))
    rows.append(("Ignored in training", html.percent(statistics.ignored_share)))
    return rows + _hash("Data (SHA-256)", statistics.data_sha256)


def findings_by_kind(findings: pd.DataFrame) -> list[dict[str, Any]]:
    """Count the findings of each kind, the severe ones first: severity, tone, heading, count."""
    counts = Counter(zip(findings["severity"], findings["kind"], strict=True))
    rows = [
        {
            "severity": severity,
            "tone": TONES.get(severity, ""),
            "heading": html.capitalize(KINDS[kind].heading if kind in KINDS else str(kind).replace("_", " ")),
            "count": count,
        }
        for (severity, kind), count in counts.items()
    ]
    return sorted(rows, key=lambda row: (SEVERITIES.index(row["severity"]), -row["count"]))


def model_card(
    network: Mapping[str, Any],
    plan: Mapping[str, Any],
    inference: PredictorParameters,
    model: Mapping[str, Any],
    classes: Sequence[str],
) -> Rows:
    """Describe what the network is, what goes in and out, how it was trained, and where its weights are.

    `model`: `epoch`, `file` and `sha256` of the weights.
    """
    rows = [("Architecture", network_name(network))]
    if network.get("encoder"):
        weights = network.get("encoder_weights")
        rows.append(("Encoder's weights at the start", str(weights) if weights else "none: trained from scratch"))
    if network.get("parameters"):
        rows.append(("Parameters", f"{network['parameters']:,}"))
    channels = network.get("in_channels")
    bands = html.count(channels, "channel") if channels else "as many channels as in training"
    rows.append(
        (
            "Input",
            f"images of {bands}, of any size: "
            f"up to {inference.max_pixels:,} pixels whole, larger ones in tiles of {inference.tile_size} pixels",
        )
    )
    rows.append(("Output", f"a class for every pixel: {_named(classes)}"))
    if training := _training(plan):
        rows.append(("Training", training))
    if model.get("epoch"):
        score = (plan.get("parameters") or {}).get("monitor", "the chosen score")
        rows.append(("Best epoch", f"{model['epoch']}, by {score} on validation"))
    if model.get("file"):
        rows.append(("Weights", f"{model['file']}; the run in MLflow holds the same as a model that loads by itself"))
    return rows + _hash("Weights (SHA-256)", model.get("sha256"))


def uses_and_limits(
    *,
    problem: str,
    source: SourceParameters,
    classes: Sequence[str],
    split: str,
    images: int,
    statistics: DatasetStatistics | None,
    network: Mapping[str, Any],
    per_class: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Derive from what is known what the model is for, and where nothing is known of it.

    `per_class`: rows with name, iou and pixels, of the `images` that were scored.
    """
    sentences = [f"For images like those of {problem}, to tell {_named(classes)} apart, pixel by pixel."]
    origin = html.provenance(source)[0][1]
    sentences.append(f"All data have one origin ({origin}); how it does on images from elsewhere is not known.")
    if statistics is not None:
        sides = statistics.width, statistics.height
        sizes = [f"{side.minimum:g}" + f" to {side.maximum:g}" * (side.minimum != side.maximum) for side in sides]
        sentences.append(
            f"Trained on images {sizes[0]} pixels wide and {sizes[1]} high; another resolution of the same things is "
            "another problem to the network."
        )
    shares = {} if statistics is None else statistics.class_shares
    if rare := [f"{name} ({html.percent(share)})" for name, share in shares.items() if 0 < share < RARE_SHARE]:
        sentences.append(f"Rare in training: {', '.join(rare[:NAMED_CLASSES])}. Expect most errors there.")
    if never := [name for name, share in shares.items() if share == 0]:
        sentences.append(f"Never seen in training: {', '.join(never[:NAMED_CLASSES])}.")
    scored = [row for row in per_class if row["iou"] is not None and row["pixels"]]
    if len(scored) > 1:
        weakest = min(scored, key=lambda row: row["iou"])
        sentences.append(f"Weakest class on {split}: {weakest['name']}, IoU {weakest['iou']:.3f}.")
    if images < FEW_IMAGES:
        sentences.append(f"Scored on {html.count(images, 'image')} only: too few for a figure to be relied on.")
    if network.get("encoder_weights"):
        sentences.append(
            f"Its encoder began with weights made from {network['encoder_weights']}: their terms hold, too."
        )
    sentences.append(
        f"License of the data: {source.license}. Whether it allows a use of the weights is for their user to see."
    )
    return sentences


def reproduction(
    code: Mapping[str, str], statistics: DatasetStatistics | None, plan: Mapping[str, Any], model: Mapping[str, Any]
) -> Rows:
    """Name everything that has to be the same for the same scores; `code`: commit, changed, lock_sha256, versions."""
    rows: Rows = []
    if "commit" in code:
        rows.append(("Commit", code["commit"] + code.get("changed", "")))
    rows += _hash("Data (SHA-256)", None if statistics is None else statistics.data_sha256)
    rows += _hash("requirements.lock (SHA-256)", code.get("lock_sha256"))
    parameters, hardware = plan.get("parameters", {}), plan.get("hardware")
    rows += [("Seed", str(parameters["seed"]))] if "seed" in parameters else []
    rows += [("Trained on", f"{hardware['accelerator']}, {hardware['precision']}")] if hardware else []
    rows += [("Versions", code["versions"])] if code.get("versions") else []
    return rows + _hash("Weights (SHA-256)", model.get("sha256"))


def network_name(network: Mapping[str, Any]) -> str:
    """Name a network: `unet with resnet18`."""
    parts = [str(network.get("architecture", "network")), str(network.get("encoder") or "")]
    return " with ".join(part for part in parts if part)


def _training(plan: Mapping[str, Any]) -> str:
    if not {"epochs", "steps_per_epoch", "batch_size", "patch_size"} <= set(plan):
        return ""
    return (
        f"{html.count(plan['epochs'], 'epoch')} of {html.count(plan['steps_per_epoch'], 'step')} of "
        f"{html.count(plan['batch_size'], 'patch', 'patches')} of {plan['patch_size']} pixels"
    )


def _range(sides: SideLengths) -> str:
    low, high = sides.minimum, sides.maximum
    return f"{low} pixels" if low == high else f"{low} to {high} pixels, median {sides.median:g}"


def _named(classes: Sequence[str]) -> str:
    more = len(classes) - NAMED_CLASSES
    return ", ".join(classes[:NAMED_CLASSES]) + (f" and {more} more" if more > 0 else "")


def _hash(name: str, value: Any) -> Rows:  # noqa: ANN401 - a text, or None
    return [(name, str(value))] if value else []
