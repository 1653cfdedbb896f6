"""The article's claims, one by one: held or not, by how much, from the tables of the experiments alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import pandas as pd

from unet_segmentation.article.metric_experiment import METRICS

Verdict = Literal["held", "partly", "not held", "undecided"]

PATTERN = 2.0  # times the reference's checkerboards: from here on there is a pattern
LAST_STAGE = "2"  # pixels: the period of the decoder's last stage
LEARNED = ("transposed", "transposed4")


class Tables(NamedTuple):
    """What the experiments left.

    Attributes:
        upsampling: see `upsampling.summarise`.
        costs: see `upsampling.costs_of_ways`, the counts.
        encoders: see `encoders.rank_encoders`.
        judgements: see `figures.metric_trust.judgements`.
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
        claim: what the article says.
        verdict: whether it held.
        evidence: the figures, in a sentence or two.
        change: what would change the answer.
    """

    claim: str
    verdict: Verdict
    evidence: str
    change: str


def judge_claims(tables: Tables) -> pd.DataFrame:
    """Judge every claim.

    Returns:
        A row per claim: claim, verdict, evidence, change.
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
    claim = "VGG16, ResNet and EfficientNet serve as encoders alike"
    change = "pretrained weights, more epochs, larger images: here all start from scratch and train equally long"
    table = tables.encoders
    figures = "; ".join(
        f"{row['encoder']} {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}], {row['verdict']}"
        for row in table.to_dict("records")
    )
    equal = table["verdict"].isin(["best", "tie"])
    verdict: Verdict = "held" if equal.all() else "partly" if equal.sum() > 1 else "not held"
    return Claim(claim, verdict, f"{tables.score}, each beside the best: {figures}.", change)


def _checkerboards_at_first(tables: Tables) -> Claim:
    return _checkerboards(tables, "initial", "before training", "another initialisation: with ICNR there are none")


def _checkerboards_stay(tables: Tables) -> Claim:
    return _checkerboards(tables, "trained", "after training", "longer training, and data whose borders are soft")


def _checkerboards(tables: Tables, moment: str, words: str, change: str) -> Claim:
    column, found, ratios = f"checkerboard/{moment}/{LAST_STAGE}", [], []
    for network, way, ours, theirs in _pairs(tables.upsampling, column, tables.reference):
        ratios.append(ours / theirs if theirs > 0 else float("inf"))
        found.append(f"{network} {way} {ours:.4f} beside {theirs:.4f}")
    figures = "; ".join(found)
    evidence = (
        f"Share of the logits' energy that repeats every 2 pixels, {words}, beside {tables.reference}: {figures}."
    )
    held = _all(ratio > PATTERN for ratio in ratios)
    return Claim(f"Transposed convolutions leave checkerboards ({words})", held, evidence, change)


def _parameters(tables: Tables) -> Claim:
    change = "nothing: it is counting. A sub-pixel convolution has them, too"
    return _cost(tables, "parameters", "Transposed convolutions have parameters to learn", "Parameters", change)


def _memory(tables: Tables) -> Claim:
    change = "a decoder in which interpolation is followed by a convolution of its own, as in paper_unet"
    return _cost(
        tables, "activation_bytes", "Transposed convolutions cost memory", "Activations kept for a step", change
    )


def _cost(tables: Tables, column: str, claim: str, words: str, change: str) -> Claim:
    pairs = list(_pairs(tables.costs, column, tables.reference))
    figures = "; ".join(f"{network} {way} {100 * (ours / theirs - 1):+.1f} %" for network, way, ours, theirs in pairs)
    held = _all(ours > theirs for *_, ours, theirs in pairs)
    return Claim(claim, held, f"{words}, beside {tables.reference}: {figures}.", change)


def _bilinear_replaces(tables: Tables) -> Claim:
    claim = f"Up-sampling by interpolation ({tables.reference}) replaces transposed convolutions without loss"
    rows = tables.upsampling[tables.upsampling["upsampling"].isin(LEARNED)]
    figures = "; ".join(
        f"{row['network']} {row['upsampling']} {row['difference']:+.4f} [{row['difference_low']:+.4f}, "
        f"{row['difference_high']:+.4f}], {row['verdict']}"
        for row in rows.to_dict("records")
    )
    lost, open_ = (rows["verdict"] == "better"), (rows["verdict"] == "undecided")
    verdict: Verdict = "not held" if lost.all() else "partly" if lost.any() else "undecided" if open_.any() else "held"
    beside = f"{tables.score} of transposed convolutions less that of {tables.reference}"
    evidence = f"{beside} (margin {tables.margin}): {figures}."
    return Claim(claim, verdict, evidence, "more epochs, wider networks, other data: these are short trainings")


def _accuracy_misleads(tables: Tables) -> Claim:
    blind, network = _judged(tables, "accuracy/pixel")
    evidence = (
        f"Where foreground is rarest, a prediction that looks at nothing has {blind:.4f}, the trained network "
        f"{network:.4f}."
    )
    verdict: Verdict = "held" if blind > 0.9 else "not held"
    return Claim(
        "Pixel accuracy misleads under class imbalance", verdict, evidence, "classes that are equally frequent"
    )


def _overlaps_do_not(tables: Tables) -> Claim:
    names = [name for name in METRICS if name.startswith(("dice/", "iou/"))]
    table = tables.judgements.set_index("metric").loc[names]
    figures = "; ".join(f"{METRICS[str(name)]} {blind:.4f}" for name, blind in table["blind"].items())
    return Claim(
        "IoU and Dice do not mislead",
        _all(table["judgement"] == "yes"),
        f"What a prediction that looks at nothing gets where foreground is rarest: {figures}.",
        "leaving the background out of the mean: then it holds",
    )


def _smooth_is_harmless(tables: Tables) -> Claim:
    names = [name for name in METRICS if "smooth1" in name]
    table = tables.judgements.set_index("metric").loc[names]
    rows = zip(table.index, table["blind"], table["network"], strict=True)
    figures = "; ".join(f"{METRICS[name]} {blind:.4f} (the network: {network:.4f})" for name, blind, network in rows)
    return Claim(
        "IoU and Dice may be computed with smooth = 1",
        _all(table["judgement"] == "yes"),
        f"What a prediction that looks at nothing gets where foreground is rarest: {figures}.",
        "summing over all images before dividing, of the foreground alone: then the 1 is lost among the pixels",
    )


def _judged(tables: Tables, metric: str) -> tuple[float, float]:
    row = tables.judgements[tables.judgements["metric"] == metric].iloc[0].to_dict()
    return float(row["blind"]), float(row["network"])


def _pairs(table: pd.DataFrame, column: str, reference: str) -> list[tuple[str, str, float, float]]:
    """Give network, way up, its value and the reference's, for every learned way up."""
    names = zip(table["network"], table["upsampling"], table[column].astype(float), strict=True)
    values = {(str(network), str(way)): value for network, way, value in names}
    return [(name, way, value, values[name, reference]) for (name, way), value in values.items() if way in LEARNED]


def _all(held: Iterable[object]) -> Verdict:
    found = [bool(each) for each in held]
    return "held" if found and all(found) else "partly" if any(found) else "not held"


def page(claims: pd.DataFrame, *, problem: str, command: str) -> str:
    """Write the claims as a page (Markdown).

    Args:
        claims: see `judge_claims`.
        problem: that they were tested on.
        command: that makes the page again.
    """
    lines = [f"# The article's claims on `{problem}`", "", f"Written by `{command}`.", ""]
    lines += ["| claim | verdict |", "|---|---|"]
    lines += [f"| {row.claim} | **{row.verdict}** |" for row in claims.itertuples()]
    for row in claims.itertuples():
        lines += [
            "",
            f"## {row.claim}: {row.verdict}",
            "",
            str(row.evidence),
            "",
            f"What would change it: {row.change}.",
        ]
    return "\n".join(lines) + "\n"
