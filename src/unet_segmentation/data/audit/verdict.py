"""The verdict on a data set: errors stop the run with one message that says what to declare."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from unet_segmentation.data.audit.error_message import (
    LISTED_VALUES,
    VALUE_KINDS,
    Suggestions,
    error_message,
    format_findings,
    shortened,
)
from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.result import AuditResult, SuggestedLine
from unet_segmentation.data.audit.settle import SettledFindings, by_kind
from unet_segmentation.data.audit.suggested_config import propose_joining, propose_labels, propose_range, propose_values
from unet_segmentation.parameters.data import InspectionParameters, MaskParameters

LISTED_ENTRIES = 5  # of `inspection.allow` that nothing needed
TALLIED_VALUES = 4096  # values or colours that are summed over all findings
_NUMBER = r"(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"


def audit_result(
    settled: SettledFindings,
    inspected: pd.DataFrame,
    classes: Sequence[str],
    masks: MaskParameters,
    inspection: InspectionParameters,
) -> AuditResult:
    """Decide whether the data can be trained on, and suggest what to declare where they cannot.

    Args:
        settled: the findings of inspection and split.
        inspected: a row per sample: `sample_id`, and `split` where there is an official one.
        classes: names, in the order of their ids.
        masks: how masks are declared.
        inspection: what is allowed.
    """
    errors, warnings, notes = map(settled.with_severity, ("error", "warning", "note"))
    values = _sum_values(settled.table)
    total = max(1, sum(values.values()))
    suggestions = _suggest(errors, values, classes, masks)
    result = AuditResult(
        status="failed" if len(errors) else "passed with warnings" if len(warnings) else "passed",
        samples=len(inspected),
        set_aside=settled.set_aside,
        allowed=settled.allowed,
        counts={"error": len(errors), "warning": len(warnings), "note": len(notes)},
        kinds={kind: len(rows) for kind, rows in by_kind(settled.table)},
        messages=(
            *_unused_entries(inspection.allow, settled.allowed),
            *_test_samples_lost(settled.set_aside, inspected),
            *("warning: " + format_findings(kind, rows) for kind, rows in by_kind(warnings)),
            *("note: " + format_findings(kind, rows) for kind, rows in by_kind(notes)),
        ),
        values={value: count / total for value, count in list(values.items())[:LISTED_VALUES]},
        proposals=tuple(
            SuggestedLine(kinds=tuple(kinds), text=proposal.text, remark=proposal.remark)
            for kinds, proposals in suggestions
            for proposal in proposals
        ),
    )
    if not len(errors):
        return result
    message = error_message(errors, settled.objection, result, values, suggestions, classes)
    return result.model_copy(update={"message": message})


def _test_samples_lost(set_aside: Sequence[str], inspected: pd.DataFrame) -> list[str]:
    if not set_aside or "split" not in inspected:
        return []
    lost = int((inspected["sample_id"].isin(set_aside) & (inspected["split"] == "test")).sum())
    return [f"warning: {lost} of the samples set aside are officially for testing: scores leave them out"] * bool(lost)


def _unused_entries(entries: Sequence[str], applied: Sequence[str]) -> list[str]:
    unused = [entry for entry in entries if entry not in applied]
    return [f"note: inspection.allow: no finding needs {shortened(entry)}" for entry in unused[:LISTED_ENTRIES]]


def _suggest(
    errors: pd.DataFrame, values: Mapping[str, int], classes: Sequence[str], masks: MaskParameters
) -> Suggestions:
    """Suggest declarations for what stopped the run, with the kinds that they would settle."""
    kinds = set(errors["kind"])
    suggestions: Suggestions = []
    if value_kinds := [kind for kind in KINDS if kind in kinds & VALUE_KINDS]:
        declared = masks.model_copy(update={"encoding": "index"}) if "no_palette" in kinds else masks
        suggestions.append((value_kinds, propose_values(values, classes, declared)))
    if "undeclared_labels" in kinds:
        labels = _sum_json(errors.loc[errors["kind"] == "undeclared_labels", "values"])
        suggestions.append((["undeclared_labels"], propose_labels(labels, classes, masks)))
    if "several_masks" in kinds:
        suggestions.append((["several_masks"], propose_joining(classes, masks)))
    if "no_range" in kinds and (limits := _limits(errors.loc[errors["kind"] == "no_range", "message"])):
        suggestions.append((["no_range"], [propose_range(*limits)]))
    return suggestions


def _limits(messages: pd.Series[str]) -> tuple[float, float] | None:
    """Parse the least and the greatest value from messages such as `holds float32 from -0.5 to 3.25`."""
    numbers = messages.str.extract(rf"{_NUMBER} to {_NUMBER}", flags=re.ASCII).dropna().astype(float)
    return (numbers[0].min(), numbers[1].max()) if len(numbers) else None


def _sum_values(findings: pd.DataFrame) -> dict[str, int]:
    """Sum pixels by value: of all masks that could be decoded, and of the masks that could not."""
    total = _sum_json(findings.loc[findings["kind"].isin({"mask_values", "coloured_mask", "no_palette"}), "values"])
    if any("," in value for value in total):  # grey files among coloured ones are written as colours, too
        total = {value if "," in value else ",".join([value] * 3): count for value, count in total.items()}
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _sum_json(texts: Iterable[str]) -> dict[str, int]:
    total: dict[str, int] = {}
    for text in filter(None, texts):
        for value, count in json.loads(text).items():
            if value in total or len(total) < TALLIED_VALUES:
                total[value] = total.get(value, 0) + count
    return total
