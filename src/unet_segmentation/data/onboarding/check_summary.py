"""`kedro problem audit`: a short summary of the prepared data and of the findings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.result import AuditResult

SPLITS = ("train", "validation", "test")


def summarise(
    inspected: pd.DataFrame,
    samples: pd.DataFrame,
    findings: pd.DataFrame,
    audit: AuditResult,
    classes: Sequence[str],
) -> list[str]:
    """Summarise the data in a few lines.

    Args:
        inspected: a row per sample, with `class_pixels`.
        samples: the samples with their `split`.
        findings: as the audit settled them: what is allowed, or set aside, is no error any more.
        audit: its result.
        classes: names, in the order of their ids.
    """
    used = samples[~samples["sample_id"].isin(audit.set_aside)]
    counts = used["split"].value_counts()
    by_split = ", ".join(f"{name} {counts[name]}" for name in SPLITS if name in counts)
    lines = [f"Samples   {len(inspected)} inspected" + (f": {by_split}" if by_split else "")]
    if audit.set_aside:
        lines.append(f"          {len(audit.set_aside)} set aside, because of errors")
    lines += _class_shares(inspected, used, classes)
    lines += _finding_lines(findings, audit)
    return lines


def _class_shares(inspected: pd.DataFrame, used: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    rows = inspected[inspected["sample_id"].isin(used["sample_id"])]
    counts = [list(pixels) for pixels in rows["class_pixels"] if pixels is not None and len(pixels) == len(classes)]
    if not counts:
        return []
    totals = [int(sum(column)) for column in zip(*counts, strict=True)]
    total = max(1, sum(totals))
    lines = [f"          {name:<24} {count / total:6.1%}" for name, count in zip(classes, totals, strict=True)]
    return ["Classes   " + lines[0].lstrip(), *lines[1:]]


def _finding_lines(findings: pd.DataFrame, audit: AuditResult) -> list[str]:
    """List the kinds of findings, errors first, with their headings and how many there are."""
    lines = [f"Verdict   {audit.status}"]
    for severity in ("error", "warning", "note"):
        counts = findings.loc[findings["severity"] == severity, "kind"].value_counts()
        lines += [f"  {severity:<8}{count:>6}  {KINDS[str(kind)].heading}" for kind, count in counts.items()]
    return lines
