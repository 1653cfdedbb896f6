"""The gate: which conditions a challenger has to meet, and the decision in words.

Everything here is a pure function of what was measured before, so that a decision can be read, and made, again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.metrics.bootstrap import FEWEST
from unet_segmentation.metrics.definitions import class_slugs
from unet_segmentation.parameters.release import ReleaseParameters

KINDS = {"iou": "IoU", "dice": "Dice"}  # of the scores of a class
Outcome = Literal["released", "forced", "refused", "unchanged"]
Found = Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """One thing that is asked of the challenger.

    Attributes:
        name: in one or two words.
        passed: whether it is met.
        sentence: what was found, with the figures.
    """

    name: str
    passed: bool
    sentence: str


def evaluate_conditions(
    audit: AuditResult,
    reproduction: Found,
    challenger: Found,
    champion: Found,
    comparison: pd.DataFrame,
    release: ReleaseParameters,
) -> list[Condition]:
    """Hold a challenger against all conditions.

    Args:
        audit: the result of the audit of the data.
        reproduction: of the scores by the model, loaded afresh: `passed`, `sentence`.
        challenger: `classes`, `split` and `units` (images, or groups, that it was tested on).
        champion: `version`, `classes`, and `reason`: why it cannot be compared, or empty. Empty where there is none;
            then the conditions that need none decide.
        comparison: of `scoring.comparison.compare`.
        release: what is asked.

    Returns:
        A condition each, those that need a comparison last; these are left out where there is none.
    """
    conditions = [_audit(audit), _split(challenger), Condition("model", *_of(reproduction, "passed", "sentence"))]
    if not champion:
        return conditions
    classes = _classes(challenger["classes"], champion)
    conditions.append(classes)
    if not classes.passed:
        return conditions
    if champion["reason"]:
        return [*conditions, Condition("test samples", False, f"No comparison with the champion: {champion['reason']}")]
    return [
        *conditions,
        _score(comparison, champion, challenger["units"], release),
        _each_class(comparison, challenger["classes"], release),
    ]


def _of(found: Found, *names: str) -> tuple[Any, ...]:
    return tuple(found[name] for name in names)


def _audit(audit: AuditResult) -> Condition:
    errors, warnings = (audit.counts.get(severity, 0) for severity in ("error", "warning"))
    if errors or audit.status == "failed":
        return Condition("audit", False, f"The audit of the data has {_count(errors, 'error', 'errors')}.")
    more = f", and {_count(warnings, 'warning', 'warnings')}" if warnings else ""
    return Condition("audit", True, f"The audit of the data has no error{more}.")


def _split(challenger: Found) -> Condition:
    split = challenger["split"]
    return Condition("test split", split == "test", f"The run was evaluated on the {split} split.")


def _classes(own: Sequence[str], champion: Found) -> Condition:
    theirs, name = champion["classes"], f"version {champion['version']}"
    lacking, new = ([each for each in one if each not in other] for one, other in ((theirs, own), (own, theirs)))
    if lacking:
        return Condition("classes", False, f"The run lacks {_listed(lacking)}, which the champion, {name}, has.")
    if new:
        return Condition(
            "classes", False, f"The run has {_listed(new)}, which the champion, {name}, lacks: they do not compare."
        )
    if list(own) != list(theirs):
        return Condition("classes", False, f"The classes are in another order than those of the champion, {name}.")
    return Condition("classes", True, f"The run has the {len(own)} classes of the champion.")


def _score(comparison: pd.DataFrame, champion: Found, units: int, release: ReleaseParameters) -> Condition:
    row = _row(comparison, release.score)
    passed = row["low"] >= -release.noninferiority_margin  # False where it is undefined
    if pd.isna(row["low"]):
        judged = "undefined"
    elif row["low"] > 0:
        judged = "better"
    elif passed:
        judged = f"not worse by more than the margin of {release.noninferiority_margin:g}"
    elif row["high"] < 0:
        judged = f"worse, and perhaps by more than the margin of {release.noninferiority_margin:g}"
    else:
        judged = f"perhaps worse by more than the margin of {release.noninferiority_margin:g}"
    doubt = (
        f" ({units} to test on: fewer than {FEWEST}, so the interval is not to be trusted)" if units < FEWEST else ""
    )
    sentence = (
        f"{release.score} {row['challenger']:.4f} against {row['champion']:.4f} of version {champion['version']}, "
        f"{_difference(row)}: {judged}{doubt}."
    )
    return Condition("score", bool(passed), sentence)


def _each_class(comparison: pd.DataFrame, classes: Sequence[str], release: ReleaseParameters) -> Condition:
    kind = "iou" if release.score.startswith("iou") else "dice"
    rows = [
        (name, _row(comparison, f"{kind}/class/{slug}"))
        for name, slug in zip(classes, class_slugs(classes), strict=True)
    ]
    # A difference is undefined where the class is in no mask, and one of the two does not predict it either: no fall.
    rows = sorted(((name, row) for name, row in rows if row["difference"] == row["difference"]), key=_fall)
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


def _fall(entry: tuple[str, Found]) -> float:
    return float(entry[1]["difference"])


def _row(comparison: pd.DataFrame, score: str) -> dict[str, Any]:
    return dict(comparison[comparison["score"] == score].iloc[0])


def _difference(row: Found) -> str:
    return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


# -- the decision


def format_decision(
    outcome: Outcome,
    conditions: Sequence[Condition],
    *,
    problem: str,
    challenger: Found,
    champion: Found,
    version: int | None,
    user: str,
    why: str | None,
    overtaken: str = "",
) -> dict[str, Any]:
    """Put a decision into words.

    Args:
        outcome: what became of the challenger.
        conditions: that it was held against.
        problem: the segmentation problem.
        challenger: `run_id`, `name`, `score` and `value`.
        champion: as it was before: `version`; empty for none.
        version: of the registered model that the challenger is; None where it is none.
        user: who asked.
        why: the reason, where it was forced.
        overtaken: why it was not registered although it met the conditions.

    Returns:
        What fits into JSON: `outcome`, `sentence`, `problem`, `version`, `before` (version of the champion before),
        `run_id`, `run`, `score`, `value`, `user`, `why` and the `conditions`.
    """
    failed = " ".join(condition.sentence for condition in conditions if not condition.passed)
    figures = _figures(conditions, challenger)
    stays = f"version {champion['version']} stays the champion" if champion else "there is no champion yet"
    name = f"version {version} of {problem}"
    sentence = {
        "released": f"Released: {name}{'' if champion else ', the first'}. {figures}",
        "forced": f"Released by force, by {user} ({why}): {name}. {figures} The gate had refused it: {failed}",
        "refused": f"Refused: {challenger['name']} is not released; {stays}. {failed or overtaken}",
        "unchanged": f"Unchanged: {name}, of this run, is the champion already.",
    }[outcome]
    return {
        "outcome": outcome,
        "sentence": sentence.strip(),
        "problem": problem,
        "version": version,
        "before": champion.get("version"),
        "run_id": challenger["run_id"],
        "run": challenger["name"],
        "score": challenger["score"],
        "value": challenger["value"],
        "user": user,
        "why": why if outcome == "forced" else None,
        "conditions": [asdict(condition) for condition in conditions],
    }


def _figures(conditions: Sequence[Condition], challenger: Found) -> str:
    """Say the figures that matter: against the champion where there was a comparison, else the score alone."""
    compared = [condition.sentence for condition in conditions if condition.name in {"score", "each class"}]
    if compared:
        return " ".join(compared) if all(condition.passed for condition in conditions) else compared[0]
    value = "undefined" if challenger["value"] is None else f"{challenger['value']:.4f}"
    return f"{challenger['score']} {value}, compared with no champion."


def page(decision: Found) -> str:
    """Write a decision as Markdown."""
    rows = [
        f"| {'met' if condition['passed'] else '**not met**'} | {condition['name']} | {_cell(condition['sentence'])} |"
        for condition in decision["conditions"]
    ]
    lines = [f"{decision['sentence']}", "", "| | condition | what was found |", "|---|---|---|", *rows, ""]
    lines.append(f"Run {decision['run']} ({decision['run_id']}), asked for by {decision['user']}.")
    if decision["outcome"] in {"released", "forced"} and decision["before"]:
        lines.append(f"\nBack to version {decision['before']}: `kedro rollback --env {decision['problem']}`")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
