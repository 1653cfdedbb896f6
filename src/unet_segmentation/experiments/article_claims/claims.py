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
    judgements: pd.DataFrame  # see `metric_verdicts`
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
        _encoders_serve(tables),
        _checkerboards_at_first(tables),
        _checkerboards_stay(tables),
        _parameters(tables),
        _memory(tables),
        _bilinear_replaces(tables),
        _accuracy_misleads(tables),
        _overlaps_do_not(tables),
        _smooth_is_harmless(tables),
    ]


def _encoders_serve(tables: ClaimTables) -> Claim:
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


def _checkerboards_at_first(tables: ClaimTables) -> Claim:
    change = "another initialization: with ICNR (`subpixel`) there are next to none"
    return _checkerboards(tables, "initial", "before training", change)


def _checkerboards_stay(tables: ClaimTables) -> Claim:
    change = "longer training, which weakens them; another initialization; data with soft borders"
    return _checkerboards(tables, "trained", "after training", change)


def _checkerboards(tables: ClaimTables, moment: str, words: str, change: str) -> Claim:
    """Find a pattern where the least of all seeds is well above the most of the reference."""
    column = f"checkerboard/{moment}/{LAST_STAGE}"
    means, least, most = (_pairs(tables.upsampling, column + end, tables.reference) for end in ("", "/least", "/most"))
    figures, held = [], []
    for mean, low, high in zip(means, least, most, strict=True):
        held.append(low.value > PATTERN_RATIO * high.reference)
        figures.append(f"{mean} {mean.value:.4f} [{low.value:.4f}, {high.value:.4f}] against {mean.reference:.4f}")
    evidence = (
        f"Share of the logits' energy that repeats every {LAST_STAGE} pixels, {words}, with its range over the seeds, "
        f"against {tables.reference}: {'; '.join(figures)}."
    )
    return Claim("upsampling", f"Transposed convolutions leave checkerboards ({words})", _all(held), evidence, change)


def _parameters(tables: ClaimTables) -> Claim:
    change = (
        "nothing: it is counting. They are no more where interpolation is followed by a convolution of its own, as in "
        "the original U-Net. A sub-pixel convolution has them, too"
    )
    ratios, figures = _costs(tables, "parameters")
    evidence = f"Parameters, against {tables.reference}: {figures}."
    return Claim("upsampling", "Transposed convolutions have parameters to learn", _more(ratios), evidence, change)


def _memory(tables: ClaimTables) -> Claim:
    change = (
        "the decoder around it: a layer keeps its inputs for the backward pass, and these are small before upsampling. "
        "Weights count the more, the smaller the images and the batch"
    )
    activation_ratios, activations = _costs(tables, "activation_bytes")
    step_ratios, steps = _costs(tables, "training_bytes")
    evidence = (
        f"Against {tables.reference}, activations kept for a step: {activations}. With weights, gradients and the "
        f"optimizer's moments, for one image: {steps}."
    )
    return Claim(
        "upsampling", "Transposed convolutions cost memory", _more([*activation_ratios, *step_ratios]), evidence, change
    )


def _costs(tables: ClaimTables, column: str) -> tuple[list[float], str]:
    """Return the costs of every transposed convolution, as multiples of the reference's and in words."""
    pairs = _pairs(tables.costs, column, tables.reference)
    ratios = [pair.value / pair.reference for pair in pairs]
    return ratios, "; ".join(f"{pair} {100 * (ratio - 1):+.1f} %" for pair, ratio in zip(pairs, ratios, strict=True))


def _bilinear_replaces(tables: ClaimTables) -> Claim:
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


def _accuracy_misleads(tables: ClaimTables) -> Claim:
    row = tables.judgements[tables.judgements["metric"] == "accuracy/pixel"].iloc[0].to_dict()
    return Claim(
        "metrics",
        "Pixel accuracy misleads under class imbalance",
        "held" if row["judgement"] == "no" else "partly" if row["judgement"] == "partly" else "not held",
        f"Where foreground is rarest, a trivial prediction has {_figures(row)}.",
        "classes that are equally frequent",
    )


def _overlaps_do_not(tables: ClaimTables) -> Claim:
    names = [name for name in METRICS if name.startswith(("dice/", "iou/"))]
    return Claim(
        "metrics",
        "IoU and Dice do not mislead",
        _reliable(tables, names),
        _trivial_figures(tables, names),
        "leaving the background out of the mean: then it holds",
    )


def _smooth_is_harmless(tables: ClaimTables) -> Claim:
    names = [name for name in METRICS if "smooth1" in name]
    return Claim(
        "metrics",
        "IoU and Dice may be computed with smooth = 1",
        _reliable(tables, names),
        _trivial_figures(tables, names),
        "summing over all images before dividing, of the foreground alone: then the 1 is lost among the pixels",
    )


def _reliable(tables: ClaimTables, names: list[str]) -> Verdict:
    return _all(tables.judgements.set_index("metric").loc[names, "judgement"] == "yes")


def _trivial_figures(tables: ClaimTables, names: list[str]) -> str:
    rows = tables.judgements.set_index("metric").loc[names].reset_index().to_dict("records")
    figures = "; ".join(f"{METRICS[row['metric']]} {_figures(row)}" for row in rows)
    return f"What a trivial prediction gets where foreground is rarest: {figures}."


def _figures(row: Mapping[Hashable, Any]) -> str:
    interval = f"[{row['network_low']:.4f}, {row['network_high']:.4f}]"
    return f"{row['trivial']:.4f} (the network: {row['network']:.4f} {interval})"


@dataclass(frozen=True)
class _Pair:
    """A value of a transposed convolution in a network, and the reference's."""

    network: str
    mode: str
    value: float
    reference: float

    def __str__(self) -> str:
        return f"{self.network} {self.mode}"


def _pairs(table: pd.DataFrame, column: str, reference: str) -> list[_Pair]:
    keys = zip(table["network"].astype(str), table["upsampling"].astype(str), strict=True)
    values = dict(zip(keys, table[column].astype(float), strict=True))
    return [
        _Pair(name, mode, value, values[name, reference])
        for (name, mode), value in values.items()
        if mode in TRANSPOSED
    ]


def _all(held: Iterable[object]) -> Verdict:
    each = [bool(one) for one in held]
    return "held" if each and all(each) else "partly" if any(each) else "not held"


def _more(ratios: Iterable[float]) -> Verdict:
    """Judge whether something costs more: never less and somewhere more; more here and less there; nowhere more."""
    each = list(ratios)
    more, less = (
        any(ratio >= HIGHER_COST_RATIO for ratio in each),
        any(ratio <= 1 / HIGHER_COST_RATIO for ratio in each),
    )
    return "not held" if not more else "partly" if less else "held"
