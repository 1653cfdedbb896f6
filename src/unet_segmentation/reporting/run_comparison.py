"""The comparison of two runs, as lines of a table, a sentence, and a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from unet_segmentation.reporting.html import render

HEADER = ("SCORE", "REFERENCE", "OTHER", "DIFFERENCE", "INTERVAL", "P", "VERDICT")
TONES = {"better": "good", "worse": "bad", "equivalent": "", "inconclusive": "warn", "undefined": ""}


def format_lines(table: pd.DataFrame, score: str) -> list[tuple[str, ...]]:
    """Write a comparison as the lines of a table: scores of the whole first, then every class.

    Of the classes, the measure of the deciding score is shown (Dice, where it has none of classes).
    """
    by_class = table["score"].str.contains("/class/")
    measure = score.partition("/")[0]
    chosen = table["score"].str.startswith(f"{measure}/class/")
    if not chosen.any():
        chosen = table["score"].str.startswith("dice/class/")
    return [
        (
            str(row["score"]),
            format_number(row["champion"]),
            format_number(row["challenger"]),
            format_number(row["difference"], "+"),
            interval(row["low"], row["high"], "+"),
            p_value(row["p_adjusted"]),
            str(row["verdict"]),
        )
        for row in pd.concat([table[~by_class], table[by_class & chosen]]).to_dict("records")
    ]


def sentence(table: pd.DataFrame, score: str, reference: str, other: str, margin: float) -> str:
    """Describe how two runs compare by the deciding score."""
    row = table[table["score"] == score].iloc[0]
    difference, inside = format_number(row["difference"], "+"), f"interval {interval(row['low'], row['high'], '+')}"
    figures = f"{difference}, {inside}, p {p_value(row['p_value'])}"
    return {
        "better": f"By {score}, {other} is better than {reference}: {figures}.",
        "worse": f"By {score}, {other} is worse than {reference}: {figures}.",
        "equivalent": f"By {score}, {other} and {reference} are equivalent: the difference ({figures}) lies "
        f"within ±{margin:g}.",
        "inconclusive": f"By {score}, the comparison of {other} with {reference} is inconclusive: the difference "
        f"({figures}) is "
        f"neither clear of zero nor within ±{margin:g}.",
        "undefined": f"{score} is not defined for both of {other} and {reference}.",
    }[str(row["verdict"])]


def comparison_page(
    problem: str,
    reference: tuple[str, str],
    compared: Sequence[tuple[str, str, pd.DataFrame]],
    score: str,
    margin: float,
    remark: str | None = None,
) -> str:
    """Write comparisons as one page that opens without a network.

    `reference`: its name, and when it began; `compared`: the same of each other run, and its comparison.
    """
    parts = [
        {
            "name": name,
            "when": when,
            "sentence": sentence(table, score, reference[0], name, margin),
            "tone": TONES[str(table.loc[table["score"] == score, "verdict"].iloc[0])],
            "lines": format_lines(table, score),
        }
        for name, when, table in compared
    ]
    titles = [title.capitalize() for title in HEADER]
    return render(
        "comparison.html",
        **{
            "problem": problem,
            "reference": reference,
            "parts": parts,
            "titles": titles,
            "tones": TONES,
            "remark": remark,
        },
    )


def format_number(value: float, sign: str = "") -> str:
    """Write a score, or with the sign `+` a difference; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:{sign}.4f}"


def interval(low: float, high: float, sign: str = "") -> str:
    """Write an interval; a dash where there is none."""
    return "-" if low is None or math.isnan(low) else f"{format_number(low, sign)} to {format_number(high, sign)}"


def p_value(value: float) -> str:
    """Write a p-value; a small one with the digit that counts."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"
