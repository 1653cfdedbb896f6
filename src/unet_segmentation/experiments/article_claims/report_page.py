"""The article's claims as pages that can be cited: verdicts, figures, and the commands that reproduce them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from string import Formatter
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
MODE_COLUMNS = {"network": "{network}", "upsampling": "{upsampling}"}
UNITS = {
    "parameters": 1e6, "multiply_adds": 1e9, "activation_bytes": 2**20, "training_bytes": 2**20,
    "peak_training_bytes": 2**20,
}  # fmt: skip


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
    columns = {
        "encoder": "{encoder}",
        **_score_columns(tables.score),
        **_difference_columns("to the best"),
        "parameters": "{parameters:.3g} M",
        "multiply-adds": "{multiply_adds:.3g} G",
        "on the frontier": "{frontier}",
    }
    table = _in_units(tables.encoders)
    return [_table(table.assign(frontier=table["frontier"].map({True: "yes", False: "no"})), columns)]


def _upsampling_tables(tables: ClaimTables) -> list[list[str]]:
    scored = MODE_COLUMNS | _score_columns(tables.score) | _difference_columns(f"to {tables.reference}")
    scored |= {"seed by seed": "[{difference_least:+.4f}, {difference_most:+.4f}]"}
    boards, shares = {}, tables.upsampling.copy()
    for moment, words in (("initial", "untrained"), ("trained", "trained")):
        for period in (2, 4, 8):
            name = f"checkerboard/{moment}/{period}"
            boards[f"period {period}, {words}"] = f"{{{name}}}"
            shares[name] = [f"{share:.1e}" if share < 5e-4 else f"{share:.2%}" for share in shares[name]]
    costs = {
        "parameters": "{parameters:.3g} M",
        "multiply-adds": "{multiply_adds:.3g} G",
        "activations": "{activation_bytes:.3g} MiB",
        "a step of one image": "{training_bytes:.3g} MiB",
    }
    return [
        _table(tables.upsampling, scored),
        ["Share of the logits' energy that repeats with a period (pixels), mean over the seeds:"],
        _table(shares, MODE_COLUMNS | boards),
        ["Counted costs, `..._whole` for the networks at their full size:"],
        _table(_in_units(tables.costs), MODE_COLUMNS | costs),
    ]


def _metric_tables(tables: ClaimTables) -> list[list[str]]:
    columns = {
        "metric": "{metric}",
        "trivial prediction": "{trivial:.4f}",
        "the network": "{network:.4f}",
        "its interval": "[{network_low:.4f}, {network_high:.4f}]",
        "reliable": "{judgment}",
    }
    words = (
        "Where foreground is rarest (the problems are drawn by the generator of `cells`, whatever the problem here):"
    )
    return [[words], _table(tables.judgments.replace({"metric": METRICS}), columns)]


_TABLES: dict[Experiment, Callable[[ClaimTables], list[list[str]]]] = {
    "encoders": _encoder_tables,
    "upsampling": _upsampling_tables,
    "metrics": _metric_tables,
}


def _score_columns(score: str) -> dict[str, str]:
    return {score: "{value:.4f}", "interval": "[{low:.4f}, {high:.4f}]", "spread over seeds": "{spread:.4f}"}


def _difference_columns(words: str) -> dict[str, str]:
    return {
        words: "{difference:+.4f}",
        "its interval": "[{difference_low:+.4f}, {difference_high:+.4f}]",
        "p": "{p_value:.4f}",
        "verdict": "{verdict}",
    }


def _in_units(table: pd.DataFrame) -> pd.DataFrame:
    """Convert counts to millions, billions and MiB."""
    return table.assign(**{name: table[name] / unit for name, unit in UNITS.items() if name in table})


def _table(table: pd.DataFrame, columns: Mapping[str, str]) -> list[str]:
    """Render a table in Markdown; `columns` has the format of each by title. A cell without a value is empty."""
    rows = [[_cell(form, row) for form in columns.values()] for row in table.to_dict("records")]
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(cells) + " |" for cells in rows),
    ]


def _cell(form: str, row: Mapping[Hashable, Any]) -> str:
    names = [name for _, name, _, _ in Formatter().parse(form) if name]
    return "" if any(pd.isna(row[name]) for name in names) else form.format_map(row)


def speeds_page(
    encoders: pd.DataFrame, upsampling: pd.DataFrame, machine: Mapping[str, str], article: ArticleClaimsParameters
) -> str:
    """Render what `CostMeasurement.time` measured on this machine as a page of its own (Markdown)."""
    speeds = {
        "training, images/s": "{training_images_per_second:.3g}",
        "prediction, images/s": "{prediction_images_per_second:.3g}",
        "peak memory of a step": "{peak_training_bytes:.0f} MiB",
    }
    encoders, upsampling = (
        _in_units(table if "peak_training_bytes" in table else table.assign(peak_training_bytes=float("nan")))
        for table in (encoders, upsampling)
    )
    facts = "; ".join(
        f"{name.removeprefix('machine.')}: {value}" for name, value in machine.items() if name != "machine.system"
    )
    lines = ["# Speeds", "", f"Float32, noise for images; loading not included. {facts}.", ""]
    lines += [f"Encoders, images of {article.encoders.size} x {article.encoders.size}:", ""]
    lines += [*_table(encoders, {"encoder": "{encoder}"} | speeds), ""]
    lines += [f"Upsampling modes, images of {article.upsampling.speed_size} x {article.upsampling.speed_size}:", ""]
    lines += _table(upsampling, MODE_COLUMNS | speeds)
    return "\n".join(lines) + "\n"
