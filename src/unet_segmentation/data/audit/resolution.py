"""Resolve findings: errors that are allowed become warnings, samples to blame for the others are set aside."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.data import InspectionParameters

DATASET_KINDS = {
    "no_samples",
    "mixed_depths",
    "mixed_channels",
    "absent_class",
    "too_few_samples",
    "absent_in_training",
}  # no single sample is to blame
ALLOWED_KINDS = ("identical_across_splits", "absent_class", "absent_in_training")
"""Errors that may be allowed: the samples can be trained on all the same. Others leave nothing to train on."""
MAX_SET_ASIDE = 0.5  # share of the samples; more are not a few bad ones but a wrong declaration
_ALLOWED_HINT = f"What may be allowed: {', '.join(ALLOWED_KINDS)}."
_HELD_OUT = {"validation": 1, "test": 2}  # of identical images, the one that is least for training stays

AllowList = Mapping[str, set[str]]
"""By kind, the samples for which it is allowed; the empty id stands for all."""


@dataclass(frozen=True)
class ResolvedFindings:
    """Findings once errors are allowed and samples set aside.

    The table has the findings, numbered from 0, with the severity that they have now; a warning `set_aside` is added
    for each sample that was, with the first of its errors.
    """

    table: pd.DataFrame
    states: pd.Series[str]  # of each row its severity, or `allowed` or `set aside` where it was an error before
    allowed: tuple[str, ...]  # the entries of `inspection.allow` that applied
    set_aside: tuple[str, ...]  # ids of the samples that are not to be used
    objection: str  # why samples with errors were not set aside, though quarantine was asked for


def resolve_findings(
    findings: pd.DataFrame, inspected: pd.DataFrame, inspection: InspectionParameters
) -> ResolvedFindings:
    """Allow errors and set samples aside, as `inspection` asks; `inspected` has `sample_id` and the official `split`.

    Raises:
        ConfigurationError: `inspection.allow` names no kind of finding, or one that cannot be allowed.
    """
    table = findings.reset_index(drop=True)
    table["other"] = table["other"].fillna("") if "other" in table else ""
    is_error = table["severity"] == "error"
    is_allowed = is_error & _named_in(check_allowed(inspection.allow), table)
    errors, exempt = table[is_error & ~is_allowed], table[is_allowed]
    kinds = exempt["kind"]
    needed = {*kinds, *(kinds + ":" + exempt["sample_id"]), *(kinds + ":" + exempt["other"])}
    allowed = [entry for entry in inspection.allow if entry in needed]
    to_blame = _samples_to_blame(errors, inspected) if inspection.on_error == "quarantine" else set()
    objection = _objection(to_blame, inspected)
    set_aside = set() if objection else to_blame
    table.loc[is_allowed, "severity"] = "warning"
    table, is_moot = _with_set_aside(table, errors, set_aside)
    states = table["severity"].mask(is_allowed.reindex(table.index, fill_value=False), "allowed")
    states = states.mask(is_moot, "set aside")
    return ResolvedFindings(table, states, tuple(allowed), tuple(sorted(set_aside)), objection)


def check_allowed(entries: Iterable[str]) -> AllowList:
    """Parse `inspection.allow`: `KIND` or `KIND:SAMPLE_ID` each.

    Raises:
        ConfigurationError: there is no such kind, or it cannot be allowed.
    """
    allow_list: dict[str, set[str]] = {}
    for entry in entries:
        kind, _, sample_id = entry.partition(":")
        if kind not in KINDS:
            close = difflib.get_close_matches(kind, KINDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise ConfigurationError(f"inspection.allow: there is no kind of finding {kind!r}{hint} {_ALLOWED_HINT}")
        if KINDS[kind].severity != "error":
            raise ConfigurationError(
                f"inspection.allow: {kind} is a {KINDS[kind].severity}, which stops no run and need not be allowed: "
                f"remove the entry. {_ALLOWED_HINT}"
            )
        if kind not in ALLOWED_KINDS:
            raise ConfigurationError(
                f"inspection.allow: {kind} cannot be allowed, because such samples cannot be trained on. "
                f"{KINDS[kind].fix or 'Declare what is in the masks.'} Or set them aside: "
                f"inspection: {{on_error: quarantine}}. {_ALLOWED_HINT}"
            )
        allow_list.setdefault(kind, set()).add(sample_id)
    return allow_list


def by_kind(findings: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return kinds and their findings, in the order of `KINDS`."""
    rank = {kind: position for position, kind in enumerate(KINDS)}
    groups = [(str(kind), rows) for kind, rows in findings.groupby("kind", sort=False)]
    return sorted(groups, key=lambda group: rank.get(group[0], len(rank)))


def _named_in(allow_list: AllowList, findings: pd.DataFrame) -> pd.Series[bool]:
    named = pd.Series(False, index=findings.index)
    for kind, samples in allow_list.items():
        about_sample = findings["sample_id"].isin(samples) | findings["other"].isin(samples)
        named |= (findings["kind"] == kind) & (about_sample | ("" in samples))
    return named


def _with_set_aside(
    table: pd.DataFrame, errors: pd.DataFrame, set_aside: set[str]
) -> tuple[pd.DataFrame, pd.Series[bool]]:
    """Make the errors of samples that are set aside notes, which are returned, too; add a warning for each sample."""
    errors = errors[~errors["kind"].isin(DATASET_KINDS)]
    blamed = pd.concat([errors.assign(blamed=errors["sample_id"]), errors.assign(blamed=errors["other"])])
    blamed = blamed[blamed["blamed"].isin(set_aside)].sort_index(kind="stable")
    table.loc[blamed.index.unique(), "severity"] = "note"
    first_errors = blamed.drop_duplicates("blamed")
    warnings = first_errors.assign(
        severity="warning",
        kind="set_aside",
        sample_id=first_errors["blamed"],
        message=first_errors["message"] + " (" + first_errors["kind"] + ")",
    )
    if len(warnings):
        table = pd.concat([table, warnings[table.columns]], ignore_index=True)
    return table, pd.Series(table.index.isin(blamed.index), index=table.index)


def _samples_to_blame(errors: pd.DataFrame, inspected: pd.DataFrame) -> set[str]:
    blamed = errors[(errors["sample_id"] != "") & ~errors["kind"].isin(DATASET_KINDS)]
    pairs = blamed["kind"] == "identical_across_splits"
    return set(blamed.loc[~pairs, "sample_id"]) | _less_held_out(blamed[pairs], inspected)


def _less_held_out(pairs: pd.DataFrame, inspected: pd.DataFrame) -> set[str]:
    """Return, of images that are identical, all but those of the split that is most for testing."""
    if pairs.empty:
        return set()
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


def _objection(to_blame: set[str], inspected: pd.DataFrame) -> str:
    """Return why these samples must not be set aside; empty where they may."""
    if len(to_blame) > MAX_SET_ASIDE * len(inspected):
        return (
            f"Errors in {len(to_blame)} of {len(inspected)} samples: these are not a few bad samples to set aside, "
            "but more likely a wrong declaration."
        )
    official = inspected["split"] if "split" in inspected else pd.Series(None, index=inspected.index)
    remaining = set(official[~inspected["sample_id"].isin(to_blame)].dropna())
    emptied = [name for name in sorted(set(official.dropna())) if name not in remaining]
    if not emptied:
        return ""
    return f"Nothing would be left of the official {emptied[0]} split: every sample in it has an error."
