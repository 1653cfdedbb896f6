"""The verdict on a data set: errors stop the run with one message that says what to declare.

The message lists errors by kind, the values in the masks, and the YAML that would declare them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from unet_segmentation.data.audit.findings import KINDS, add_values
from unet_segmentation.data.audit.resolution import ResolvedFindings, by_kind
from unet_segmentation.data.audit.result import AuditResult, SuggestedLine
from unet_segmentation.data.audit.suggested_config import (
    LISTED_VALUES,
    Proposal,
    color_name,
    propose_joining,
    propose_labels,
    propose_range,
    propose_values,
)
from unet_segmentation.parameters.data import InspectionParameters, MaskParameters

LISTED_ENTRIES = 5  # of `inspection.allow` that nothing needed
LISTED_FILES = 5
TALLIED_VALUES = 4096  # values or colors that are summed over all findings
MAX_LINE = 400  # characters of one file's line: names can be thousands long
VALUE_KINDS = {
    "undeclared_values",
    "undeclared_colors",
    "ghost_values",
    "colored_mask",
    "no_palette",
    "absent_class",
}  # the values in the masks say what to declare
TOO_MANY_VALUES = (
    f"More than {LISTED_VALUES} values cannot be classes: save the masks without loss (PNG, not JPEG), one value per "
    "class."
)
_NUMBER = r"(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"

Suggestions = dict[tuple[str, ...], list[Proposal]]
"""By kinds of findings, the declarations of which each would resolve them."""


def audit_result(
    findings: ResolvedFindings,
    inspected: pd.DataFrame,
    classes: Sequence[str],
    masks: MaskParameters,
    inspection: InspectionParameters,
) -> AuditResult:
    """Decide whether the data can be trained on, and suggest what to declare where they cannot."""
    table = findings.table
    errors, warnings, notes = (table[table["severity"] == severity] for severity in ("error", "warning", "note"))
    values = _sum_values(table)
    total = max(1, sum(values.values()))
    suggestions = _suggest(errors, values, classes, masks)
    result = AuditResult(
        status="failed" if len(errors) else "passed with warnings" if len(warnings) else "passed",
        samples=len(inspected),
        set_aside=findings.set_aside,
        allowed=findings.allowed,
        counts={"error": len(errors), "warning": len(warnings), "note": len(notes)},
        kinds={kind: len(rows) for kind, rows in by_kind(table)},
        messages=(
            *_setting_messages(findings, inspected, inspection.allow),
            *("warning: " + _format_findings(kind, rows) for kind, rows in by_kind(warnings)),
            *("note: " + _format_findings(kind, rows) for kind, rows in by_kind(notes)),
        ),
        values={value: count / total for value, count in list(values.items())[:LISTED_VALUES]},
        proposals=tuple(
            SuggestedLine(kinds=kinds, text=proposal.text, remark=proposal.remark)
            for kinds, proposals in suggestions.items()
            for proposal in proposals
        ),
    )
    if not len(errors):
        return result
    message = _error_message(errors, findings, result, values, suggestions, classes)
    return result.model_copy(update={"message": message})


def _setting_messages(findings: ResolvedFindings, inspected: pd.DataFrame, allow: Sequence[str]) -> list[str]:
    """Explain which entries of `inspection.allow` no finding needs, and how many samples for testing are set aside."""
    unused = [entry for entry in allow if entry not in findings.allowed][:LISTED_ENTRIES]
    messages = [f"note: inspection.allow: no finding needs {_shortened(entry)}" for entry in unused]
    if "split" in inspected:
        lost = int((inspected["sample_id"].isin(findings.set_aside) & (inspected["split"] == "test")).sum())
        text = f"warning: {lost} of the samples set aside are officially for testing: scores leave them out"
        messages += [text] * bool(lost)
    return messages


def _suggest(
    errors: pd.DataFrame, values: Mapping[str, int], classes: Sequence[str], masks: MaskParameters
) -> Suggestions:
    """Suggest declarations for what stopped the run, with the kinds that they would resolve."""
    kinds = set(errors["kind"])
    suggestions: Suggestions = {}
    if value_kinds := tuple(kind for kind in KINDS if kind in kinds & VALUE_KINDS):
        declared = masks.model_copy(update={"encoding": "index"}) if "no_palette" in kinds else masks
        suggestions[value_kinds] = propose_values(values, classes, declared)
    if "undeclared_labels" in kinds:
        labels = _sum_json(errors.loc[errors["kind"] == "undeclared_labels", "values"])
        suggestions["undeclared_labels",] = propose_labels(labels, classes, masks)
    if "several_masks" in kinds:
        suggestions["several_masks",] = propose_joining(classes, masks)
    if "no_range" in kinds:  # messages such as `holds float32 from -0.5 to 3.25`
        messages = errors.loc[errors["kind"] == "no_range", "message"]
        limits = messages.str.extract(rf"{_NUMBER} to {_NUMBER}", flags=re.ASCII).dropna().astype(float)
        if len(limits):
            suggestions["no_range",] = [propose_range(limits[0].min(), limits[1].max())]
    return suggestions


def _sum_values(table: pd.DataFrame) -> dict[str, int]:
    """Sum pixels by value: of all masks that could be decoded, and of the masks that could not."""
    total = _sum_json(table.loc[table["kind"].isin({"mask_values", "colored_mask", "no_palette"}), "values"])
    if any("," in value for value in total):  # gray files among colored ones are written as colors, too
        total = {value if "," in value else ",".join([value] * 3): count for value, count in total.items()}
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _sum_json(texts: Iterable[str]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for text in filter(None, texts):
        add_values(total, json.loads(text), TALLIED_VALUES)
    return total


# --- the message ---


def _error_message(
    errors: pd.DataFrame,
    findings: ResolvedFindings,
    result: AuditResult,
    values: Mapping[str, int],
    suggestions: Suggestions,
    classes: Sequence[str],
) -> str:
    parts = [f"The data cannot be trained on ({result.samples} samples inspected). Nothing was trained."]
    if findings.objection:
        parts.append(findings.objection)
    elif count := len(result.set_aside):
        parts.append(f"{count} sample{'s' * (count != 1)} could be set aside, but these errors would stay:")
    parts += [_kind_paragraph(kind, rows) for kind, rows in by_kind(errors)]
    for kinds, proposals in suggestions.items():
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
    subject = "Declare them" if about_values else f"For {_heading(kinds[0])}, declare"
    for position, proposal in enumerate(proposals):
        if position:
            lines += ["", f"Or, {proposal.remark}:"]
        else:
            lines.append(f"{subject} in the problem's parameters.yml ({proposal.remark}):")
        lines += ["", f"    {proposal.text}"]
    if about_values and not proposals and len(values) > LISTED_VALUES:
        lines.append(TOO_MANY_VALUES)
    return lines


def _values_line(values: Mapping[str, int]) -> str:
    total = max(1, sum(values.values()))
    listed = ", ".join(
        f"{value_name(value)} ({count / total:.1%})" for value, count in list(values.items())[:LISTED_VALUES]
    )
    more = f" and {len(values) - LISTED_VALUES} other values" if len(values) > LISTED_VALUES else ""
    return f"The masks hold: {listed or 'nothing'}{more}"


def value_name(value: str) -> str:
    """Format a mask value: `128`, or `64,0,128 purple` for a color."""
    parts = value.split(",")
    if len(parts) == 3 and all(part.strip().isdecimal() for part in parts):
        return f"{value} {color_name([int(part) for part in parts])}"
    return value


def _format_findings(kind: str, rows: pd.DataFrame) -> str:
    """Format the findings of a kind in one line: its heading, the first of them, and the number of the others."""
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{_heading(kind)}: {_file_line(rows.iloc[0].to_dict())}{more}"


def _shortened(text: str) -> str:
    """Cut a line that is too long in its middle."""
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 60]} ... {text[-50:]}"


def _heading(kind: str) -> str:
    return KINDS[kind].heading if kind in KINDS else kind


def _file_line(row: Mapping[object, object]) -> str:
    return _shortened(f"{row['file']}: {row['message']}" if row["file"] else str(row["message"]))
