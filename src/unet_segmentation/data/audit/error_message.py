"""The message of a failed audit: errors by kind, the values in the masks, and the YAML that would declare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.audit.settle import by_kind
from unet_segmentation.data.audit.suggested_config import Proposal, colour_name

LISTED_FILES = 5
LISTED_VALUES = 16
MAX_LINE = 400  # characters of one file's line: names can be thousands long
VALUE_KINDS = {
    "undeclared_values",
    "undeclared_colours",
    "ghost_values",
    "coloured_mask",
    "no_palette",
    "absent_class",
}  # the values in the masks say what to declare
TOO_MANY_VALUES = (
    f"More than {LISTED_VALUES} values cannot be classes: save the masks without loss (PNG, not JPEG), one value per "
    "class."
)

Suggestions = list[tuple[list[str], list[Proposal]]]
"""Kinds of findings, and the declarations of which each would settle them."""


def error_message(
    errors: pd.DataFrame,
    objection: str,
    result: AuditResult,
    values: Mapping[str, int],
    suggestions: Suggestions,
    classes: Sequence[str],
) -> str:
    """Format the message of a failed audit.

    Args:
        errors: those that remain.
        objection: why samples were not set aside, though quarantine was asked for; else empty.
        result: without its message.
        values: pixels by mask value.
        suggestions: declarations that would settle the errors.
        classes: names, in the order of their ids.
    """
    parts = [f"The data cannot be trained on ({result.samples} samples inspected). Nothing was trained."]
    if objection:
        parts.append(objection)
    elif count := len(result.set_aside):
        parts.append(f"{count} sample{'s' * (count != 1)} could be set aside, but these errors would stay:")
    parts += [_kind_paragraph(kind, rows) for kind, rows in by_kind(errors)]
    for kinds, proposals in suggestions:
        if lines := _suggestion_lines(kinds, proposals, values, classes):
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _kind_paragraph(kind: str, rows: pd.DataFrame) -> str:
    lines = [_file_line(row) for row in rows.head(LISTED_FILES).to_dict("records")]
    if len(rows) > LISTED_FILES:
        lines.append(f"... and {len(rows) - LISTED_FILES} more")
    if kind in KINDS and KINDS[kind].fix:
        lines.append(KINDS[kind].fix)
    return f"{_heading(kind)}: {len(rows)}\n" + "\n".join(f"  {line}" for line in lines)


def _suggestion_lines(
    kinds: Sequence[str], proposals: Sequence[Proposal], values: Mapping[str, int], classes: Sequence[str]
) -> list[str]:
    about_values = not VALUE_KINDS.isdisjoint(kinds)
    lines = [_values_line(values), f"Declared classes: {', '.join(classes)}"] if about_values else []
    for position, proposal in enumerate(proposals):
        heading = "" if about_values else _heading(kinds[0])
        lines += [*[""] * bool(position), _introduction(proposal.remark, position, heading), "", f"    {proposal.text}"]
    if about_values and not proposals and len(values) > LISTED_VALUES:
        lines.append(TOO_MANY_VALUES)
    return lines


def _introduction(remark: str, position: int, heading: str) -> str:
    if position:
        return f"Or, {remark}:"
    subject = f"For {heading}, declare" if heading else "Declare them"
    return f"{subject} in the problem's parameters.yml ({remark}):"


def _values_line(values: Mapping[str, int]) -> str:
    total = max(1, sum(values.values()))
    listed = ", ".join(
        f"{value_name(value)} ({count / total:.1%})" for value, count in list(values.items())[:LISTED_VALUES]
    )
    more = f" and {len(values) - LISTED_VALUES} other values" if len(values) > LISTED_VALUES else ""
    return f"The masks hold: {listed or 'nothing'}{more}"


def value_name(value: str) -> str:
    """Format a mask value: `128`, or `64,0,128 purple` for a colour."""
    parts = value.split(",")
    if len(parts) == 3 and all(part.strip().isdecimal() for part in parts):
        return f"{value} {colour_name([int(part) for part in parts])}"
    return value


def format_findings(kind: str, rows: pd.DataFrame) -> str:
    """Format the findings of a kind in one line: its heading, the first of them, and the number of the others."""
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{_heading(kind)}: {_file_line(rows.iloc[0].to_dict())}{more}"


def shortened(text: str) -> str:
    """Cut a line that is too long in its middle."""
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 60]} ... {text[-50:]}"


def _heading(kind: str) -> str:
    return KINDS[kind].heading if kind in KINDS else kind


def _file_line(row: Mapping[object, object]) -> str:
    return shortened(f"{row['file']}: {row['message']}" if row["file"] else str(row["message"]))
