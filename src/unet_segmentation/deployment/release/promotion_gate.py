"""The promotion gate: which conditions a challenger has to meet, and the decision in words.

Everything here is a pure function of what was measured before, so that a decision can be read, and made, again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.label_map import class_slugs
from unet_segmentation.deployment.release.candidate import Champion, ReleaseCandidate
from unet_segmentation.deployment.release.model_verification import ModelVerification
from unet_segmentation.metrics.bootstrap import FEWEST
from unet_segmentation.parameters.release import ReleaseParameters

KINDS = {"iou": "IoU", "dice": "Dice"}  # of the scores of a class
Outcome = Literal["released", "forced", "refused", "unchanged"]
Row = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Condition:
    """One condition of the gate."""

    name: str
    passed: bool
    sentence: str  # the result, with the figures


@dataclass(frozen=True)
class GateResult:
    """All conditions of a release."""

    conditions: list[Condition]

    @property
    def passed(self) -> bool:
        """Return whether every condition is met."""
        return all(condition.passed for condition in self.conditions)


@dataclass(frozen=True)
class Decision:
    """What became of a challenger."""

    outcome: Outcome
    sentence: str
    problem: str
    version: int | None  # of the registered model that the challenger is
    before: int | None  # version of the champion before
    run_id: str
    run: str  # the challenger's name
    score: str  # that is compared
    value: float | None  # of that score; None where it is undefined
    user: str  # who asked for the release
    reason: str | None  # of the force, where it was forced
    conditions: list[Condition]


def evaluate_conditions(
    audit: AuditResult,
    verification: ModelVerification,
    challenger: ReleaseCandidate,
    champion: Champion,
    comparison: pd.DataFrame,
    release: ReleaseParameters,
) -> GateResult:
    """Check all conditions of a release; those that need a comparison come last, and only where there is a champion.

    The comparison is that of `metrics.paired_comparison.compare`.
    """
    conditions = [
        _audit(audit),
        Condition("test split", challenger.split == "test", f"The run was evaluated on the {challenger.split} split."),
        Condition("model", verification.passed, verification.sentence),
    ]
    if champion.candidate is None:
        return GateResult(conditions)
    classes = _classes(challenger, champion.candidate)
    conditions.append(classes)
    if not classes.passed:
        return GateResult(conditions)
    if champion.incomparable:
        sentence = f"No comparison with the champion: {champion.incomparable}"
        return GateResult([*conditions, Condition("test samples", False, sentence)])
    conditions.append(_score(comparison, champion.candidate, challenger.units, release))
    conditions.append(_each_class(comparison, challenger.classes, release))
    return GateResult(conditions)


def _audit(audit: AuditResult) -> Condition:
    errors, warnings = (audit.counts.get(severity, 0) for severity in ("error", "warning"))
    if errors or audit.status == "failed":
        return Condition("audit", False, f"The audit of the data has {_count(errors, 'error', 'errors')}.")
    more = f", and {_count(warnings, 'warning', 'warnings')}" if warnings else ""
    return Condition("audit", True, f"The audit of the data has no error{more}.")


def _classes(challenger: ReleaseCandidate, champion: ReleaseCandidate) -> Condition:
    name = f"version {champion.version}"
    missing = [each for each in champion.classes if each not in challenger.classes]
    new = [each for each in challenger.classes if each not in champion.classes]
    if missing:
        sentence = f"The run lacks {_join(missing)}, which the champion, {name}, has."
    elif new:
        sentence = f"The run has {_join(new)}, which the champion, {name}, lacks: they do not compare."
    elif challenger.classes != champion.classes:
        sentence = f"The classes are in another order than those of the champion, {name}."
    else:
        return Condition("classes", True, f"The run has the {len(challenger.classes)} classes of the champion.")
    return Condition("classes", False, sentence)


def _score(comparison: pd.DataFrame, champion: ReleaseCandidate, units: int, release: ReleaseParameters) -> Condition:
    row = _row(comparison, release.score)
    passed = row["low"] >= -release.noninferiority_margin  # False where it is undefined
    if pd.isna(row["low"]):
        judgment = "undefined"
    elif row["low"] > 0:
        judgment = "better"
    elif passed:
        judgment = f"not worse by more than the margin of {release.noninferiority_margin:g}"
    elif row["high"] < 0:
        judgment = f"worse, and perhaps by more than the margin of {release.noninferiority_margin:g}"
    else:
        judgment = f"perhaps worse by more than the margin of {release.noninferiority_margin:g}"
    doubt = (
        f" ({units} to test on: fewer than {FEWEST}, so the interval is not to be trusted)" if units < FEWEST else ""
    )
    sentence = (
        f"{release.score} {row['challenger']:.4f} against {row['champion']:.4f} of version {champion.version}, "
        f"{_difference(row)}: {judgment}{doubt}."
    )
    return Condition("score", bool(passed), sentence)


def _each_class(comparison: pd.DataFrame, classes: Sequence[str], release: ReleaseParameters) -> Condition:
    kind = "iou" if release.score.startswith("iou") else "dice"
    rows = [
        (name, _row(comparison, f"{kind}/class/{slug}"))
        for name, slug in zip(classes, class_slugs(classes), strict=True)
    ]
    # A difference is undefined where the class is in no mask, and one of the two does not predict it either: no fall.
    rows = [(name, row) for name, row in rows if not pd.isna(row["difference"])]
    rows.sort(key=lambda entry: float(entry[1]["difference"]))
    fallen = [(name, row) for name, row in rows if row["difference"] < -release.class_noninferiority_margin]
    limit = f"more than {release.class_noninferiority_margin:g} in {KINDS[kind]}"
    if fallen:
        each = "; ".join(
            f"{name} {row['challenger']:.4f} against {row['champion']:.4f}, {_difference(row)}" for name, row in fallen
        )
        return Condition(
            "each class", False, f"{_count(len(fallen), 'class falls', 'classes fall')} by {limit}: {each}."
        )
    least = f"; the lowest is {rows[0][0]}, {_difference(rows[0][1])}" if rows else ""
    return Condition("each class", True, f"No class falls by {limit}{least}.")


def _row(comparison: pd.DataFrame, score: str) -> Row:
    return dict(comparison[comparison["score"] == score].iloc[0])


def _difference(row: Row) -> str:
    return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def format_decision(
    outcome: Outcome,
    result: GateResult,
    *,
    problem: str,
    challenger: ReleaseCandidate,
    champion: ReleaseCandidate | None,
    version: int | None,
    user: str,
    reason: str | None,
    overtaken: str = "",
) -> Decision:
    """Format a decision. The champion is that before it; the version is what the challenger became.

    A challenger may be overtaken: this says why it was not registered although it met the conditions.
    """
    failed = " ".join(condition.sentence for condition in result.conditions if not condition.passed)
    figures = _figures(result, challenger)
    stays = f"version {champion.version} stays the champion" if champion else "there is no champion yet"
    name = f"version {version} of {problem}"
    sentence = {
        "released": f"Released: {name}{'' if champion else ', the first'}. {figures}",
        "forced": f"Released by force, by {user} ({reason}): {name}. {figures} The gate had refused it: {failed}",
        "refused": f"Refused: {challenger.name} is not released; {stays}. {failed or overtaken}",
        "unchanged": f"Unchanged: {name}, of this run, is the champion already.",
    }[outcome]
    return Decision(
        outcome=outcome,
        sentence=sentence.strip(),
        problem=problem,
        version=version,
        before=champion.version if champion else None,
        run_id=challenger.run_id,
        run=challenger.name,
        score=challenger.score,
        value=challenger.value,
        user=user,
        reason=reason if outcome == "forced" else None,
        conditions=result.conditions,
    )


def _figures(result: GateResult, challenger: ReleaseCandidate) -> str:
    """Return the figures that matter: against the champion where there was a comparison, else the score alone."""
    compared = [condition.sentence for condition in result.conditions if condition.name in {"score", "each class"}]
    if compared:
        return " ".join(compared) if result.passed else compared[0]
    value = "undefined" if challenger.value is None else f"{challenger.value:.4f}"
    return f"{challenger.score} {value}, compared with no champion."


def page(decision: Decision) -> str:
    """Render a decision as Markdown."""
    rows = [
        f"| {'met' if condition.passed else '**not met**'} | {condition.name} | {_cell(condition.sentence)} |"
        for condition in decision.conditions
    ]
    lines = [decision.sentence, "", "| | condition | result |", "|---|---|---|", *rows, ""]
    lines.append(f"Run {decision.run} ({decision.run_id}), asked for by {decision.user}.")
    if decision.outcome in {"released", "forced"} and decision.before:
        lines.append(f"\nBack to version {decision.before}: `kedro rollback --env {decision.problem}`")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
