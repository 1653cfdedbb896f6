"""The article's claims, one by one: whether each held here, and by how much, from the tables of the experiments alone.

The article: Syed Nauyan Rashid, "Semantic Segmentation: U-Net", Red Buffer on Medium, 5 November 2021.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from unet_segmentation.experiments.article_claims.metric_benchmark import METRICS

Verdict = Literal["held", "partly", "not held", "inconclusive"]
Experiment = Literal["encoders", "upsampling", "metrics"]

PATTERN_RATIO = 2.0  # times the reference's checkerboards: from here on there is a pattern
CHECKERBOARD_CHANGES = {
    "initial": "another initialization: with ICNR (`subpixel`) there are next to none",
    "trained": "longer training, which weakens them; another initialization; data with soft borders",
}
LAST_STAGE = "2"  # pixels: the period of the decoder's last stage
TRANSPOSED = ("transposed", "transposed_k4")
HIGHER_COST_RATIO = 1.005  # times the reference's cost: from here on it is higher, and below its inverse lower
FAMILIES = {"VGG16": "vgg16", "ResNet": "resnet", "EfficientNet": "efficientnet"}  # prefix of their encoders' names


@dataclass(frozen=True)
class ClaimTables:
    """The results of the experiments."""

    upsampling: pd.DataFrame  # see `compare_modes`
    costs: pd.DataFrame  # of the upsampling modes, counted; also of models that are only counted
    encoders: pd.DataFrame  # see `rank_encoders`
    judgments: pd.DataFrame  # see `metric_verdicts`
    reference: str  # the upsampling mode that others are compared with
    score: str  # that was compared
    margin: float  # a difference within it is equivalent


@dataclass(frozen=True)
class Claim:
    """A claim of the article with its verdict."""

    experiment: Experiment  # that tests it
    claim: str
    verdict: Verdict
    evidence: str  # the figures, in a sentence or two
    change: str  # what would change the answer


def judge_claims(tables: ClaimTables) -> list[Claim]:
    """Judge every claim."""
    return [
        _judge_encoders(tables),
        _judge_checkerboards(tables, "initial", "before training"),
        _judge_checkerboards(tables, "trained", "after training"),
        _judge_parameters(tables),
        _judge_memory(tables),
        _judge_interpolation(tables),
        _judge_accuracy(tables),
        _judge_overlaps(
            tables,
            "IoU and Dice do not mislead",
            [name for name in METRICS if name.startswith(("dice/", "iou/"))],
            "leaving the background out of the mean: then it holds",
        ),
        _judge_overlaps(
            tables,
            "IoU and Dice may be computed with smooth = 1",
            [name for name in METRICS if "smooth1" in name],
            "summing over all images before dividing, of the foreground alone: then the 1 is lost among the pixels",
        ),
    ]


def _judge_encoders(tables: ClaimTables) -> Claim:
    """Compare the best encoder of each family with the best of all."""
    best = {}
    for family, start in FAMILIES.items():
        rows = tables.encoders[tables.encoders["encoder"].str.startswith(start)]
        if len(rows):
            best[family] = rows.sort_values("value").to_dict("records")[-1]
    verdicts = [row["verdict"] for row in best.values()]
    behind = verdicts.count("worse")
    if behind:
        verdict: Verdict = "partly" if len(verdicts) - behind > 1 else "not held"
    else:
        verdict = "held" if verdicts and "inconclusive" not in verdicts else "inconclusive"
    figures = "; ".join(
        f"{family} {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}] ({row['encoder']}, {row['verdict']})"
        for family, row in best.items()
    )
    return Claim(
        "encoders",
        "VGG16, ResNet and EfficientNet all serve as encoders",
        verdict,
        f"{tables.score} of the best of each family, compared with the best of all (margin {tables.margin}): "
        f"{figures}.",
        "pretrained weights, more epochs, larger images: here all are trained from scratch for the same number of "
        "epochs, which favors encoders that learn fast",
    )


def _judge_checkerboards(tables: ClaimTables, moment: str, words: str) -> Claim:
    """Find a pattern where the least of all seeds is well above the most of the reference."""
    column = f"checkerboard/{moment}/{LAST_STAGE}"
    rows = _transposed_rows(tables.upsampling, [column, f"{column}/least", f"{column}/most"], tables.reference)
    held = [least > PATTERN_RATIO * reference[2] for _, (_, least, _), reference in rows]
    figures = "; ".join(
        f"{name} {mean:.4f} [{least:.4f}, {most:.4f}] against {reference[0]:.4f}"
        for name, (mean, least, most), reference in rows
    )
    return Claim(
        "upsampling",
        f"Transposed convolutions leave checkerboards ({words})",
        _judge_all(held),
        f"Share of the logits' energy that repeats every {LAST_STAGE} pixels, {words}, with its range over the seeds, "
        f"against {tables.reference}: {figures}.",
        CHECKERBOARD_CHANGES[moment],
    )


def _judge_parameters(tables: ClaimTables) -> Claim:
    ratios, figures = _cost_ratios(tables, "parameters")
    return Claim(
        "upsampling",
        "Transposed convolutions have parameters to learn",
        _judge_costs(ratios),
        f"Parameters, against {tables.reference}: {figures}.",
        "nothing: it is counting. They are no more where interpolation is followed by a convolution of its own, as in "
        "the original U-Net. A sub-pixel convolution has them, too",
    )


def _judge_memory(tables: ClaimTables) -> Claim:
    activation_ratios, activations = _cost_ratios(tables, "activation_bytes")
    step_ratios, steps = _cost_ratios(tables, "training_bytes")
    return Claim(
        "upsampling",
        "Transposed convolutions cost memory",
        _judge_costs(activation_ratios + step_ratios),
        f"Against {tables.reference}, activations kept for a step: {activations}. With weights, gradients and the "
        f"optimizer's moments, for one image: {steps}.",
        "the decoder around it: a layer keeps its inputs for the backward pass, and these are small before upsampling. "
        "Weights count the more, the smaller the images and the batch",
    )


def _judge_interpolation(tables: ClaimTables) -> Claim:
    """Count a transposed convolution as better where it is so over the images and with every seed."""
    rows = tables.upsampling[tables.upsampling["upsampling"].isin(TRANSPOSED)]
    figures = "; ".join(
        f"{row['network']} {row['upsampling']} {row['difference']:+.4f} [{row['difference_low']:+.4f}, "
        f"{row['difference_high']:+.4f}], {row['verdict']}, seed by seed {row['difference_least']:+.4f} to "
        f"{row['difference_most']:+.4f}"
        for row in rows.to_dict("records")
    )
    better = rows["verdict"] == "better"
    lost = better & (rows["difference_least"] > 0)
    open_ = (rows["verdict"] == "inconclusive") | (better & ~lost)
    verdict: Verdict = (
        "not held" if lost.all() else "partly" if lost.any() else "inconclusive" if open_.any() else "held"
    )
    difference = f"{tables.score} of transposed convolutions less that of {tables.reference}"
    return Claim(
        "upsampling",
        f"Up-sampling by interpolation ({tables.reference}) replaces transposed convolutions without loss",
        verdict,
        f"{difference} (margin {tables.margin}): {figures}.",
        "more epochs, wider networks, other data: where training is short, the mode that learns faster is ahead",
    )


def _judge_accuracy(tables: ClaimTables) -> Claim:
    row = tables.judgments[tables.judgments["metric"] == "accuracy/pixel"].iloc[0].to_dict()
    return Claim(
        "metrics",
        "Pixel accuracy misleads under class imbalance",
        "held" if row["judgment"] == "no" else "partly" if row["judgment"] == "partly" else "not held",
        f"Where foreground is rarest, a trivial prediction has {_compare_with_network(row)}.",
        "classes that are equally frequent",
    )


def _judge_overlaps(tables: ClaimTables, claim: str, names: list[str], change: str) -> Claim:
    rows = tables.judgments.set_index("metric").loc[names].reset_index()
    figures = "; ".join(f"{METRICS[row['metric']]} {_compare_with_network(row)}" for row in rows.to_dict("records"))
    evidence = f"What a trivial prediction gets where foreground is rarest: {figures}."
    return Claim("metrics", claim, _judge_all(rows["judgment"] == "yes"), evidence, change)


def _compare_with_network(row: Mapping[Hashable, Any]) -> str:
    interval = f"[{row['network_low']:.4f}, {row['network_high']:.4f}]"
    return f"{row['trivial']:.4f} (the network: {row['network']:.4f} {interval})"


def _transposed_rows(
    table: pd.DataFrame, columns: list[str], reference: str
) -> list[tuple[str, tuple[float, ...], tuple[float, ...]]]:
    """Return name, values and the reference's values of every transposed convolution in a network."""
    values = table.set_index(["network", "upsampling"])[columns].astype(float)
    rows = {key: tuple(row) for key, row in zip(values.index, values.to_numpy(), strict=True)}
    return [
        (f"{network} {mode}", row, rows[network, reference])
        for (network, mode), row in rows.items()
        if mode in TRANSPOSED
    ]


def _cost_ratios(tables: ClaimTables, column: str) -> tuple[list[float], str]:
    """Return the costs of every transposed convolution, as multiples of the reference's and in words."""
    rows = _transposed_rows(tables.costs, [column], tables.reference)
    ratios = [value / reference for _, (value,), (reference,) in rows]
    words = (f"{name} {100 * (ratio - 1):+.1f} %" for (name, _, _), ratio in zip(rows, ratios, strict=True))
    return ratios, "; ".join(words)


def _judge_all(held: Iterable[object]) -> Verdict:
    each = [bool(one) for one in held]
    return "held" if each and all(each) else "partly" if any(each) else "not held"


def _judge_costs(ratios: list[float]) -> Verdict:
    """Judge whether something costs more: never less and somewhere more; more here and less there; nowhere more."""
    more = any(ratio >= HIGHER_COST_RATIO for ratio in ratios)
    less = any(ratio <= 1 / HIGHER_COST_RATIO for ratio in ratios)
    return "not held" if not more else "partly" if less else "held"
