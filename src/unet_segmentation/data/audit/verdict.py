"""The verdict on a data set: errors stop the run with one message that says what to declare."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.suggested_config import (
    Proposal,
    colour_name,
    propose_joining,
    propose_labels,
    propose_range,
    propose_values,
)
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.parameters.data import InspectionParameters, MaskParameters

LISTED_FILES = 5
LISTED_VALUES = 16
LONGEST_LINE = 400  # characters of one file's line: names can be thousands long
TALLIED_VALUES = 4096  # values or colours that are added up over all findings
VALUE_KINDS = {
    "undeclared_values",
    "undeclared_colours",
    "ghost_values",
    "coloured_mask",
    "no_palette",
    "absent_class",
}  # the values in the masks say what to declare
DATA_SET_KINDS = {
    "no_samples",
    "mixed_depths",
    "mixed_channels",
    "absent_class",
    "too_few_samples",
    "absent_in_training",
}  # no single sample is to blame
ALLOWED_KINDS = ("identical_across_splits", "absent_class", "absent_in_training")
"""Errors that may be allowed: the samples can be trained on all the same. Others leave nothing to train on."""
MOST_SET_ASIDE = 0.5  # share of the samples; more are no few bad ones but a wrong declaration
NO_CLASSES = "So many values are no classes: save the masks without loss (PNG, not JPEG), one value per class."
_HELD_OUT = {"validation": 1, "test": 2}  # what is least for training stays where two are identical


def audit_result(
    inspected: pd.DataFrame,
    findings: pd.DataFrame,
    classes: Sequence[str],
    masks: MaskParameters,
    inspection: InspectionParameters,
) -> dict[str, Any]:
    """Return whether the data can be trained on, and without which samples.

    Args:
        inspected: a row per sample: `sample_id`, and `split` where there is an official one.
        findings: of inspection and split (see `samples.findings.Finding`).
        classes: names, in the order of their ids.
        masks: how masks are declared.
        inspection: what is allowed, and whether samples with errors are set aside.

    Returns:
        What fits into JSON: `status` (`passed`, `passed with warnings`, `failed`); `samples` (how many were
        inspected); `set_aside` (ids of samples not to be used); `allowed` (what of `inspection.allow` was found);
        `counts` by severity and `kinds` (count by kind), both as settled by leave and quarantine; `messages` (one per
        kind of warning or note); `values` (share of the pixels by mask value, where known); `proposals` (`kinds` they
        are for, `text`: a line of YAML, `remark`); `message`: why it failed, else empty.

    Raises:
        ConfigurationError: `inspection.allow` names no kind of finding, or one that cannot be allowed.
    """
    findings = findings.reset_index(drop=True)
    leave = check_allowed(inspection.allow)
    allowed = _is_allowed(findings, leave)
    errors = findings[(findings["severity"] == "error") & ~allowed]
    aside = _to_set_aside(errors, inspected) if inspection.on_error == "quarantine" else set()
    objection = _objection(aside, inspected)
    verdict: dict[str, Any] = {
        "status": "failed",
        "samples": len(inspected),
        "set_aside": [] if objection else sorted(aside),
        "allowed": _needed(inspection.allow, findings[allowed]),
    }
    settled = apply_allow_list(findings, verdict)
    errors = settled[settled["severity"] == "error"]
    values = _all_values(findings)
    total = max(1, sum(values.values()))
    proposals = _propose(errors, values, classes, masks)
    warnings, notes = (settled[settled["severity"] == name] for name in ("warning", "note"))
    verdict |= {
        "status": "failed" if len(errors) else "passed with warnings" if len(warnings) else "passed",
        "counts": {name: int((settled["severity"] == name).sum()) for name in ("error", "warning", "note")},
        "kinds": {kind: len(rows) for kind, rows in by_kind(settled)},
        "messages": [
            *_leave_without_need(inspection.allow, verdict["allowed"]),
            *_lost_for_testing(verdict["set_aside"], inspected),
            *("warning: " + _in_one_line(kind, rows) for kind, rows in by_kind(warnings)),
            *("note: " + _in_one_line(kind, rows) for kind, rows in by_kind(notes)),
        ],
        "values": {value: count / total for value, count in list(values.items())[:LISTED_VALUES]},
        "proposals": [
            {"kinds": kinds, "text": proposal.text, "remark": proposal.remark}
            for kinds, found in proposals
            for proposal in found
        ],
    }
    text = _error_message(errors, objection, verdict, values, proposals, classes) if len(errors) else ""
    return verdict | {"message": text}


def raise_if_failed(verdict: Mapping[str, Any]) -> None:
    """Stop the run where the data cannot be trained on.

    Args:
        verdict: what `audit_verdict` gave.

    Raises:
        DataError: the verdict is `failed`. The message groups the errors by kind, lists files and values, and gives
            the YAML that would declare what was found.
    """
    if verdict["status"] == "failed":
        raise DataError(verdict["message"])


def check_allowed(entries: Iterable[str]) -> dict[str, set[str]]:
    """Read `inspection.allow`: by kind, the samples for which it is allowed; the empty id stands for all.

    Args:
        entries: `KIND` or `KIND:SAMPLE_ID`.

    Raises:
        ConfigurationError: there is no such kind, or it cannot be allowed.
    """
    leave: dict[str, set[str]] = {}
    for entry in entries:
        kind, _, sample_id = entry.partition(":")
        if kind not in KINDS:
            close = difflib.get_close_matches(kind, KINDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise ConfigurationError(f"inspection.allow: there is no kind of finding {kind!r}{hint} {_MAY_BE_ALLOWED}")
        if KINDS[kind].severity != "error":
            raise ConfigurationError(
                f"inspection.allow: {kind} is a {KINDS[kind].severity}, which stops no run and needs no leave: remove "
                f"the entry. {_MAY_BE_ALLOWED}"
            )
        if kind not in ALLOWED_KINDS:
            raise ConfigurationError(
                f"inspection.allow: {kind} cannot be allowed, because such samples cannot be trained on. "
                f"{KINDS[kind].way_out or 'Declare what is in the masks.'} Or set them aside: "
                f"inspection: {{on_error: quarantine}}. {_MAY_BE_ALLOWED}"
            )
        leave.setdefault(kind, set()).add(sample_id)
    return leave


_MAY_BE_ALLOWED = f"What may be allowed: {', '.join(ALLOWED_KINDS)}."


def apply_allow_list(findings: pd.DataFrame, verdict: Mapping[str, Any]) -> pd.DataFrame:
    """Return findings the severity that they have after leave and quarantine.

    Args:
        findings: as found.
        verdict: `allowed` and `set_aside` count.

    Returns:
        The findings, numbered from 0: allowed errors are warnings; errors of samples that were set aside are notes,
        and a warning `set_aside` is added for each of these samples, with the first of its errors.
    """
    settled = findings.reset_index(drop=True)
    if "other" not in settled:
        settled["other"] = ""
    settled["other"] = settled["other"].fillna("")
    settled.loc[_is_allowed(settled, check_allowed(verdict["allowed"])), "severity"] = "warning"
    errors = settled[settled["severity"] == "error"]
    errors = errors[~errors["kind"].isin(DATA_SET_KINDS)]
    aside = set(verdict["set_aside"])
    told = pd.concat([errors.assign(who=errors["sample_id"]), errors.assign(who=errors["other"])])
    told = told[told["who"].isin(aside)].sort_index(kind="stable")
    settled.loc[told.index.unique(), "severity"] = "note"
    reasons = told.drop_duplicates("who")
    reasons = reasons.assign(
        severity="warning",
        kind="set_aside",
        sample_id=reasons["who"],
        message=reasons["message"] + " (" + reasons["kind"] + ")",
    )
    return pd.concat([settled, reasons[settled.columns]], ignore_index=True) if len(reasons) else settled


def by_kind(findings: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Return kind and findings, in the order in which kinds are told."""
    rank = {kind: place for place, kind in enumerate(KINDS)}
    groups = {str(kind): rows for kind, rows in findings.groupby("kind", sort=False)}
    for kind in sorted(groups, key=lambda kind: rank.get(kind, len(rank))):
        yield kind, groups[kind]


def _is_allowed(findings: pd.DataFrame, leave: Mapping[str, set[str]]) -> pd.Series:
    """Say of each finding whether it is an error that is allowed."""
    allowed = pd.Series(False, index=findings.index)
    for kind, samples in leave.items():
        named = findings["sample_id"].isin(samples) | (
            findings["other"].isin(samples) if "other" in findings else False
        )
        allowed |= (findings["kind"] == kind) & (named | ("" in samples))
    return allowed & (findings["severity"] == "error")


def _needed(entries: Sequence[str], allowed: pd.DataFrame) -> list[str]:
    """Choose what of `inspection.allow` was needed."""
    needed = set(allowed["kind"]) | set(allowed["kind"] + ":" + allowed["sample_id"])
    if "other" in allowed:
        needed |= set(allowed["kind"] + ":" + allowed["other"])
    return [entry for entry in entries if entry in needed]


def _to_set_aside(errors: pd.DataFrame, inspected: pd.DataFrame) -> set[str]:
    """Choose the samples that are to blame for errors."""
    blamed = errors[(errors["sample_id"] != "") & ~errors["kind"].isin(DATA_SET_KINDS)]
    pairs = blamed["kind"] == "identical_across_splits"
    return set(blamed.loc[~pairs, "sample_id"]) | _less_held_out(blamed[pairs], inspected)


def _less_held_out(pairs: pd.DataFrame, inspected: pd.DataFrame) -> set[str]:
    """Of images that are identical, choose all but those of the split that is most for testing."""
    if pairs.empty or "other" not in pairs:
        return set(pairs["sample_id"])
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes, names = pd.factorize(np.concatenate([pairs["sample_id"], pairs["other"]]))
    ends = codes.reshape(2, -1)
    links = coo_array((np.ones(len(pairs), np.int8), (ends[0], ends[1])), shape=(len(names), len(names)))
    _, same = connected_components(links, directed=False)
    splits = inspected.drop_duplicates("sample_id").set_index("sample_id")["split"].reindex(names)
    ranks = splits.map(_HELD_OUT).fillna(0).to_numpy()
    best = np.zeros(len(names))
    np.maximum.at(best, same, ranks)
    return set(names[ranks < best[same]])


def _objection(aside: set[str], inspected: pd.DataFrame) -> str:
    """Say why so many samples must not be set aside; empty where they may."""
    if len(aside) > MOST_SET_ASIDE * len(inspected):
        return (
            f"Errors in {len(aside)} of {len(inspected)} samples: these are not a few bad samples to set aside, "
            "but more likely a wrong declaration."
        )
    official = inspected["split"] if "split" in inspected else pd.Series(None, index=inspected.index)
    left = set(official[~inspected["sample_id"].isin(aside)].dropna())
    lost = [name for name in sorted(set(official.dropna())) if name not in left]
    return f"Nothing would be left of the official {lost[0]} split: every sample in it has an error." if lost else ""


def _lost_for_testing(set_aside: Sequence[str], inspected: pd.DataFrame) -> list[str]:
    if not set_aside or "split" not in inspected:
        return []
    lost = int((inspected["sample_id"].isin(set_aside) & (inspected["split"] == "test")).sum())
    return [f"warning: {lost} of the samples set aside are officially for testing: scores leave them out"] * bool(lost)


def _leave_without_need(entries: Sequence[str], allowed: Sequence[str]) -> list[str]:
    unused = [entry for entry in entries if entry not in allowed]
    return [f"note: inspection.allow: nothing was found that needs {_cut(entry)}" for entry in unused[:LISTED_FILES]]


def _propose(
    errors: pd.DataFrame, values: Mapping[str, int], classes: Sequence[str], masks: MaskParameters
) -> list[tuple[list[str], list[Proposal]]]:
    """Propose declarations for what stopped the run, with the kinds that they would settle."""
    kinds = set(errors["kind"])
    found: list[tuple[list[str], list[Proposal]]] = []
    if kinds & VALUE_KINDS:
        declared = masks.model_copy(update={"encoding": "index"}) if "no_palette" in kinds else masks
        found.append(
            ([kind for kind in KINDS if kind in kinds & VALUE_KINDS], propose_values(values, classes, declared))
        )
    if "undeclared_labels" in kinds:
        labels = _summed(errors.loc[errors["kind"] == "undeclared_labels", "values"])
        found.append((["undeclared_labels"], propose_labels(labels, classes, masks)))
    if "several_masks" in kinds:
        found.append((["several_masks"], propose_joining(classes, masks)))
    if "no_range" in kinds and (limits := _limits(errors.loc[errors["kind"] == "no_range", "message"])):
        found.append((["no_range"], [propose_range(*limits)]))
    return found


_NUMBER = r"(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"


def _limits(messages: pd.Series) -> tuple[float, float] | None:
    """Find the least and the greatest value in messages such as `holds float32 from -0.5 to 3.25`."""
    found = messages.str.extract(rf"{_NUMBER} to {_NUMBER}", flags=re.ASCII).dropna().astype(float)
    return (found[0].min(), found[1].max()) if len(found) else None


def _all_values(findings: pd.DataFrame) -> dict[str, int]:
    """Pixels by value: over all masks that could be decoded, and those of the masks that could not."""
    total = _summed(findings.loc[findings["kind"].isin({"mask_values", "coloured_mask", "no_palette"}), "values"])
    if any("," in value for value in total):  # grey files among coloured ones are written as colours, too
        total = {value if "," in value else ",".join([value] * 3): count for value, count in total.items()}
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _summed(texts: Iterable[str]) -> dict[str, int]:
    total: dict[str, int] = {}
    for text in filter(None, texts):
        for value, count in json.loads(text).items():
            if value in total or len(total) < TALLIED_VALUES:
                total[value] = total.get(value, 0) + count
    return total


def _error_message(
    errors: pd.DataFrame,
    objection: str,
    verdict: Mapping[str, Any],
    values: Mapping[str, int],
    proposals: Sequence[tuple[list[str], list[Proposal]]],
    classes: Sequence[str],
) -> str:
    parts = [f"The data cannot be trained on ({verdict['samples']} samples inspected). Nothing was trained."]
    if objection:
        parts.append(objection)
    elif verdict["set_aside"]:
        count = len(verdict["set_aside"])
        parts.append(f"{count} sample{'s' * (count != 1)} could be set aside, but these errors would stay:")
    for kind, rows in by_kind(errors):
        lines = [_line(row) for row in rows.head(LISTED_FILES).to_dict("records")]
        if len(rows) > LISTED_FILES:
            lines.append(f"... and {len(rows) - LISTED_FILES} more")
        lines += [KINDS[kind].way_out] if kind in KINDS and KINDS[kind].way_out else []
        parts.append(f"{_heading(kind)}: {len(rows)}\n" + "\n".join(f"  {line}" for line in lines))
    for kinds, found in proposals:
        about_values = bool(VALUE_KINDS & set(kinds))
        lines = _values_found(values, classes) if about_values else []
        for place, proposal in enumerate(found):
            remark = _sentence(proposal.remark, place, "" if about_values else _heading(kinds[0]))
            lines += [*[""] * bool(place), remark, "", f"    {proposal.text}"]
        if about_values and not found and len(values) > LISTED_VALUES:
            lines.append(NO_CLASSES)
        parts += ["\n".join(lines)] if lines else []
    return "\n\n".join(parts)


def _sentence(remark: str, place: int, heading: str) -> str:
    if place:
        return f"Or, {remark}:"
    subject = f"For {heading}, declare" if heading else "Declare them"
    return f"{subject} in the problem's parameters.yml ({remark}):"


def _values_found(values: Mapping[str, int], classes: Sequence[str]) -> list[str]:
    total = max(1, sum(values.values()))
    listed = ", ".join(
        f"{value_name(value)} ({count / total:.1%})" for value, count in list(values.items())[:LISTED_VALUES]
    )
    more = f" and {len(values) - LISTED_VALUES} other values" if len(values) > LISTED_VALUES else ""
    return [f"The masks hold: {listed or 'nothing'}{more}", f"Declared classes: {', '.join(classes)}"]


def value_name(value: str) -> str:
    """Write a mask value for people: `128`; `64,0,128 purple` for a colour."""
    parts = value.split(",")
    if len(parts) == 3 and all(part.strip().isdecimal() for part in parts):
        return f"{value} {colour_name([int(part) for part in parts])}"
    return value


def _heading(kind: str) -> str:
    return KINDS[kind].heading if kind in KINDS else kind


def _line(row: Mapping[Any, Any]) -> str:
    return _cut(f"{row['file']}: {row['message']}" if row["file"] else str(row["message"]))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 60]} ... {text[-50:]}"


def _in_one_line(kind: str, rows: pd.DataFrame) -> str:
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{_heading(kind)}: {_line(rows.iloc[0].to_dict())}{more}"
