"""The article's claims as pages that can be cited: verdicts, figures, and the commands that reproduce them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from unet_segmentation.experiments.article_claims.claims import Claim, ClaimTables, Experiment
from unet_segmentation.experiments.article_claims.metric_benchmark import METRICS
from unet_segmentation.metrics.bootstrap import FEWEST
from unet_segmentation.parameters.article_claims import ArticleClaimsParameters, PresetParameters

TITLES: dict[Experiment, str] = {
    "encoders": "Encoders",
    "upsampling": "Upsampling modes",
    "metrics": "Metric reliability under class imbalance",
}
LAST_NODES: dict[Experiment, str] = {
    "encoders": "rank_encoders", "upsampling": "compare_upsampling", "metrics": "plot_metric_trust",
}  # fmt: skip
PICTURES: dict[Experiment, dict[str, str]] = {  # file to what it shows
    "encoders": {"encoders.png": "score of every encoder against its multiply-adds"},
    "upsampling": {
        "upsampling.png": "score and checkerboards of every upsampling mode",
        "checkerboards.png": "logits and spectra of every upsampling mode, before and after training",
    },
    "metrics": {"metric_trust.png": "every metric against the share of foreground"},
}
ARTICLE = 'Syed Nauyan Rashid, "Semantic Segmentation: U-Net", Red Buffer on Medium, 5 November 2021'
SPLITS = ("train", "validation", "test")
MILLION, BILLION, MEBIBYTE = 1e6, 1e9, 2**20

Row = Mapping[Hashable, Any]
Column = Callable[[Row], str]


def claims_page(
    claims: Sequence[Claim],
    tables: ClaimTables,
    article: ArticleClaimsParameters,
    *,
    problem: str,
    images: Mapping[str, int],
    evaluated: str,
) -> str:
    """Render the claims as a page (Markdown); its pictures lie in the same folder.

    `images` counts the images with a mask by split; the scores are of the split `evaluated`.
    """
    preset = article.chosen_preset
    counts = ", ".join(f"{split} {images[split]}" for split in SPLITS if split in images)
    lines = [
        f"# Claims of an article on U-Net, tested on `{problem}`",
        "",
        f"The article: {ARTICLE}.",
        "",
        f"Written by `{_make(problem, article)}`, figures and pictures included. Images: {counts}. Preset "
        f"`{article.preset}`, from scratch: upsampling modes {preset.steps} steps, {_seeds(preset.seeds)}; encoders "
        f"{preset.encoder_steps} steps, {_seeds(preset.encoder_seeds)}{_patches(preset)}; metric experiment "
        f"{preset.metric_epochs} epochs, seed {article.metrics.seed}. Scores are means over the seeds, on the "
        f"{evaluated} split; intervals are over its images, and say nothing of other seeds."
        f"{_warning(images[evaluated])}",
        "",
        "| claim | verdict |",
        "|---|---|",
        *(f"| {claim.claim} | **{claim.verdict}** |" for claim in claims),
    ]
    for experiment, title in TITLES.items():
        lines += ["", f"## {title}", "", f"`{_command(problem, article, LAST_NODES[experiment])}`"]
        for claim in (claim for claim in claims if claim.experiment == experiment):
            lines += ["", f"### {claim.claim}: {claim.verdict}", "", claim.evidence, ""]
            lines += [f"What would change the answer: {claim.change}."]
        for file, words in PICTURES[experiment].items():
            lines += ["", f"![{words}]({file})"]
        for table in _TABLES[experiment](tables):
            lines += ["", *table]
    return "\n".join(lines) + "\n"


def _warning(images: int) -> str:
    if images >= FEWEST:
        return ""
    return f" **{images} images show too little of the spread that there is: these intervals come out too narrow.**"


def _make(problem: str, article: ArticleClaimsParameters) -> str:
    option = "" if article.preset == "short" else f" PRESET={article.preset}"
    return f"make article-claims ENV={problem}{option}"


def _command(problem: str, article: ArticleClaimsParameters, node: str) -> str:
    option = "" if article.preset == "short" else f" --params article_claims.preset={article.preset}"
    return f"kedro run --env {problem} --pipelines article_claims --to-nodes article_claims.{node}{option}"


def _seeds(values: Sequence[int]) -> str:
    return f"seed{'s' if len(values) > 1 else ''} {', '.join(map(str, values))}"


def _patches(preset: PresetParameters) -> str:
    batch = f" of {preset.batch_size} patches" if preset.batch_size else ""
    return f"; steps{batch} of {preset.patch_size} px" if preset.patch_size else ""


def _encoder_tables(tables: ClaimTables) -> list[list[str]]:
    columns: dict[str, Column] = {
        "encoder": lambda row: str(row["encoder"]),
        **_score_columns(tables.score),
        **_difference_columns("to the best"),
        "parameters": _in("parameters", MILLION, " M"),
        "multiply-adds": _in("multiply_adds", BILLION, " G"),
        "on the frontier": lambda row: "yes" if row["frontier"] else "no",
    }
    return [_table(tables.encoders, columns)]


def _upsampling_tables(tables: ClaimTables) -> list[list[str]]:
    names: dict[str, Column] = {
        "network": lambda row: str(row["network"]), "upsampling": lambda row: str(row["upsampling"]),
    }  # fmt: skip
    scored = names | _score_columns(tables.score) | _difference_columns(f"to {tables.reference}")
    scored |= {"seed by seed": _interval("difference_least", "difference_most", "+")}
    boards = {
        f"period {period}, {words}": _share(f"checkerboard/{moment}/{period}")
        for moment, words in (("initial", "untrained"), ("trained", "trained"))
        for period in (2, 4, 8)
    }
    costs: dict[str, Column] = {
        "parameters": _in("parameters", MILLION, " M"),
        "multiply-adds": _in("multiply_adds", BILLION, " G"),
        "activations": _in("activation_bytes", MEBIBYTE, " MiB"),
        "a step of one image": _in("training_bytes", MEBIBYTE, " MiB"),
    }
    return [
        _table(tables.upsampling, scored),
        ["Share of the logits' energy that repeats with a period (pixels), mean over the seeds:"],
        _table(tables.upsampling, names | boards),
        ["Counted costs, `..._whole` for the networks at their full size:"],
        _table(tables.costs, names | costs),
    ]


def _metric_tables(tables: ClaimTables) -> list[list[str]]:
    columns: dict[str, Column] = {
        "metric": lambda row: METRICS[row["metric"]],
        "trivial prediction": _number("trivial"),
        "the network": _number("network"),
        "its interval": _interval("network_low", "network_high"),
        "reliable": lambda row: str(row["judgement"]),
    }
    words = (
        "Where foreground is rarest (the problems are drawn by the generator of `cells`, whatever the problem here):"
    )
    return [[words], _table(tables.judgements, columns)]


_TABLES: dict[Experiment, Callable[[ClaimTables], list[list[str]]]] = {
    "encoders": _encoder_tables,
    "upsampling": _upsampling_tables,
    "metrics": _metric_tables,
}


def _score_columns(score: str) -> dict[str, Column]:
    return {
        score: _number("value"), "interval": _interval("low", "high"), "spread over seeds": _number("spread"),
    }  # fmt: skip


def _difference_columns(words: str) -> dict[str, Column]:
    return {
        words: _number("difference", "+"),
        "its interval": _interval("difference_low", "difference_high", "+"),
        "p": _number("p_value"),
        "verdict": lambda row: str(row["verdict"]),
    }


def _number(name: str, sign: str = "") -> Column:
    return lambda row: "" if pd.isna(row[name]) else f"{row[name]:{sign}.4f}"


def _interval(low: str, high: str, sign: str = "") -> Column:
    return lambda row: "" if pd.isna(row[low]) else f"[{row[low]:{sign}.4f}, {row[high]:{sign}.4f}]"


def _in(name: str, unit: float, words: str) -> Column:
    return lambda row: f"{row[name] / unit:.3g}{words}"


def _share(name: str) -> Column:
    return lambda row: f"{row[name]:.1e}" if row[name] < 5e-4 else f"{row[name]:.2%}"


def _table(table: pd.DataFrame, columns: Mapping[str, Column]) -> list[str]:
    """Render a table in Markdown, a column for each name."""
    rows = [[column(row) for column in columns.values()] for row in table.to_dict("records")]
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(cells) + " |" for cells in rows),
    ]


def speeds_page(
    encoders: pd.DataFrame, upsampling: pd.DataFrame, machine: Mapping[str, str], article: ArticleClaimsParameters
) -> str:
    """Render what `CostMeasurement.time` measured on this machine as a page of its own (Markdown)."""
    names: dict[str, Column] = {
        "training, images/s": _rate("training_images_per_second"),
        "prediction, images/s": _rate("prediction_images_per_second"),
        "peak memory of a step": lambda row: (
            "" if pd.isna(row.get("peak_training_bytes")) else f"{row['peak_training_bytes'] / MEBIBYTE:.0f} MiB"
        ),
    }
    modes: dict[str, Column] = {
        "network": lambda row: str(row["network"]), "upsampling": lambda row: str(row["upsampling"]),
    }  # fmt: skip
    facts = "; ".join(
        f"{name.removeprefix('machine.')}: {value}" for name, value in machine.items() if name != "machine.system"
    )
    lines = ["# Speeds", "", f"Float32, noise for images; loading not included. {facts}.", ""]
    lines += [f"Encoders, images of {article.encoders.size} x {article.encoders.size}:", ""]
    lines += [*_table(encoders, {"encoder": lambda row: str(row["encoder"])} | names), ""]
    lines += [f"Upsampling modes, images of {article.upsampling.speed_size} x {article.upsampling.speed_size}:", ""]
    lines += _table(upsampling, modes | names)
    return "\n".join(lines) + "\n"


def _rate(name: str) -> Column:
    return lambda row: f"{row[name]:.3g}"
