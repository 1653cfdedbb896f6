"""The article's claims, one by one: held or not, by how much, from the tables of the experiments alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import pandas as pd

from unet_segmentation.experiments.article_claims.metric_benchmark import METRICS

Verdict = Literal["held", "partly", "not held", "inconclusive"]
Experiment = Literal["encoders", "upsampling", "metrics"]

PATTERN = 2.0  # times the reference's checkerboards: from here on there is a pattern
LAST_STAGE = "2"  # pixels: the period of the decoder's last stage
LEARNED = ("transposed", "transposed_k4")
MORE = 1.005  # times the reference's cost: from here on it is more, and below its inverse less
FAMILIES = {"VGG16": "vgg16", "ResNet": "resnet", "EfficientNet": "efficientnet"}  # and how their names begin


class Tables(NamedTuple):
    """What the experiments left.

    Attributes:
        upsampling: see `upsampling.summarise`.
        costs: see `upsampling.costs_of_ways`, the counts; networks that were counted only are in it.
        encoders: see `encoders.rank_encoders`.
        judgements: see `metric_experiment.judgements`.
        reference: the way up that others are compared with.
        score: that was compared.
        margin: the difference that does not matter.
    """

    upsampling: pd.DataFrame
    costs: pd.DataFrame
    encoders: pd.DataFrame
    judgements: pd.DataFrame
    reference: str
    score: str
    margin: float


class Claim(NamedTuple):
    """A claim with its verdict.

    Attributes:
        experiment: that it was tested by.
        claim: what the article says.
        verdict: whether it held.
        evidence: the figures, in a sentence or two.
        change: what would change the answer.
    """

    experiment: Experiment
    claim: str
    verdict: Verdict
    evidence: str
    change: str


def judge_claims(tables: Tables) -> pd.DataFrame:
    """Judge every claim.

    Returns:
        A row per claim: experiment, claim, verdict, evidence, change.
    """
    judges: list[Callable[[Tables], Claim]] = [
        _encoders_serve,
        _checkerboards_at_first,
        _checkerboards_stay,
        _parameters,
        _memory,
        _bilinear_replaces,
        _accuracy_misleads,
        _overlaps_do_not,
        _smooth_is_harmless,
    ]
    return pd.DataFrame([judge(tables) for judge in judges])


def _encoders_serve(tables: Tables) -> Claim:
    """Each family counts by its best member, held against the best of all encoders."""
    found = {}
    for family, start in FAMILIES.items():
        rows = tables.encoders[tables.encoders["encoder"].str.startswith(start)]
        if len(rows):
            found[family] = rows.sort_values("value").to_dict("records")[-1]
    verdicts = [row["verdict"] for row in found.values()]
    behind = verdicts.count("worse")
    if behind:
        verdict: Verdict = "partly" if len(verdicts) - behind > 1 else "not held"
    else:
        verdict = "held" if verdicts and "inconclusive" not in verdicts else "inconclusive"
    figures = "; ".join(
        f"{family} {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}] ({row['encoder']}, {row['verdict']})"
        for family, row in found.items()
    )
    return Claim(
        "encoders",
        "VGG16, ResNet and EfficientNet all serve as encoders",
        verdict,
        f"{tables.score} of the best of each family, beside the best of all (margin {tables.margin}): {figures}.",
        "pretrained weights, more epochs, larger images: here all start from scratch and are trained for equally many "
        "epochs, which favours encoders that learn fast",
    )


def _checkerboards_at_first(tables: Tables) -> Claim:
    change = "another initialisation: with ICNR (`subpixel`) there are next to none"
    return _checkerboards(tables, "initial", "before training", change)


def _checkerboards_stay(tables: Tables) -> Claim:
    change = "longer training, which lessens them; another initialisation; data whose borders are soft"
    return _checkerboards(tables, "trained", "after training", change)


def _checkerboards(tables: Tables, moment: str, words: str, change: str) -> Claim:
    """There is a pattern where the least of all seeds is well above the most of the reference."""
    column = f"checkerboard/{moment}/{LAST_STAGE}"
    means, least, most = (_pairs(tables.upsampling, column + end, tables.reference) for end in ("", "/least", "/most"))
    found, held = [], []
    for (network, way, ours, theirs), low, high in zip(means, least, most, strict=True):
        held.append(low[2] > PATTERN * high[3])
        found.append(f"{network} {way} {ours:.4f} [{low[2]:.4f}, {high[2]:.4f}] beside {theirs:.4f}")
    evidence = (
        f"Share of the logits' energy that repeats every {LAST_STAGE} pixels, {words}, with its range over the seeds, "
        f"beside {tables.reference}: {'; '.join(found)}."
    )
    return Claim("upsampling", f"Transposed convolutions leave checkerboards ({words})", _all(held), evidence, change)


def _parameters(tables: Tables) -> Claim:
    change = (
        "nothing: it is counting. They are no more where interpolation is followed by a convolution of its own, as in "
        "the paper's U-Net. A sub-pixel convolution has them, too"
    )
    ratios, figures = _costs(tables, "parameters")
    evidence = f"Parameters, beside {tables.reference}: {figures}."
    return Claim("upsampling", "Transposed convolutions have parameters to learn", _more(ratios), evidence, change)


def _memory(tables: Tables) -> Claim:
    change = (
        "the decoder around it: what a layer keeps for the backward pass are its inputs, and these are small before "
        "going up. Weights count the more, the smaller the images and the batch"
    )
    kept, activations = _costs(tables, "activation_bytes")
    whole, everything = _costs(tables, "training_bytes")
    evidence = (
        f"Beside {tables.reference}, activations kept for a step: {activations}. With weights, gradients and the "
        f"optimiser's moments, for one image: {everything}."
    )
    return Claim("upsampling", "Transposed convolutions cost memory", _more([*kept, *whole]), evidence, change)


def _costs(tables: Tables, column: str) -> tuple[list[float], str]:
    """Return the costs of every learned way up, as a multiple of the reference's, and in words."""
    pairs = _pairs(tables.costs, column, tables.reference)
    figures = "; ".join(f"{network} {way} {100 * (ours / theirs - 1):+.1f} %" for network, way, ours, theirs in pairs)
    return [ours / theirs for *_, ours, theirs in pairs], figures


def _bilinear_replaces(tables: Tables) -> Claim:
    """A learned way is better where it is so over the images and with every seed."""
    rows = tables.upsampling[tables.upsampling["upsampling"].isin(LEARNED)]
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
    beside = f"{tables.score} of transposed convolutions less that of {tables.reference}"
    return Claim(
        "upsampling",
        f"Up-sampling by interpolation ({tables.reference}) replaces transposed convolutions without loss",
        verdict,
        f"{beside} (margin {tables.margin}): {figures}.",
        "more epochs, wider networks, other data: where trainings are short, the way that learns faster is ahead",
    )


def _accuracy_misleads(tables: Tables) -> Claim:
    row = tables.judgements[tables.judgements["metric"] == "accuracy/pixel"].iloc[0].to_dict()
    return Claim(
        "metrics",
        "Pixel accuracy misleads under class imbalance",
        "held" if row["judgement"] == "no" else "partly" if row["judgement"] == "partly" else "not held",
        f"Where foreground is rarest, a prediction that looks at nothing has {_beside(row)}.",
        "classes that are equally frequent",
    )


def _overlaps_do_not(tables: Tables) -> Claim:
    names = [name for name in METRICS if name.startswith(("dice/", "iou/"))]
    return Claim(
        "metrics",
        "IoU and Dice do not mislead",
        _believed(tables, names),
        _blind(tables, names),
        "leaving the background out of the mean: then it holds",
    )


def _smooth_is_harmless(tables: Tables) -> Claim:
    names = [name for name in METRICS if "smooth1" in name]
    return Claim(
        "metrics",
        "IoU and Dice may be computed with smooth = 1",
        _believed(tables, names),
        _blind(tables, names),
        "summing over all images before dividing, of the foreground alone: then the 1 is lost among the pixels",
    )


def _believed(tables: Tables, names: list[str]) -> Verdict:
    return _all(tables.judgements.set_index("metric").loc[names, "judgement"] == "yes")


def _blind(tables: Tables, names: list[str]) -> str:
    rows = tables.judgements.set_index("metric").loc[names].reset_index().to_dict("records")
    figures = "; ".join(f"{METRICS[row['metric']]} {_beside(row)}" for row in rows)
    return f"What a prediction that looks at nothing gets where foreground is rarest: {figures}."


def _beside(row: Mapping[Any, Any]) -> str:
    return (
        f"{row['blind']:.4f} (the network: {row['network']:.4f} [{row['network_low']:.4f}, {row['network_high']:.4f}])"
    )


def _pairs(table: pd.DataFrame, column: str, reference: str) -> list[tuple[str, str, float, float]]:
    """Return network, way up, its value and the reference's, for every learned way up."""
    names = zip(table["network"], table["upsampling"], table[column].astype(float), strict=True)
    values = {(str(network), str(way)): value for network, way, value in names}
    return [(name, way, value, values[name, reference]) for (name, way), value in values.items() if way in LEARNED]


def _all(held: Iterable[object]) -> Verdict:
    found = [bool(each) for each in held]
    return "held" if found and all(found) else "partly" if any(found) else "not held"


def _more(ratios: Iterable[float]) -> Verdict:
    """Return whether something costs more: never less and somewhere more; more here and less there; nowhere more."""
    found = list(ratios)
    more, less = any(ratio >= MORE for ratio in found), any(ratio <= 1 / MORE for ratio in found)
    return "not held" if not more else "partly" if less else "held"
