"""Whether a run and the one that was made after it are the same, in sentences."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from unet_segmentation.experiments.reproduce.run_snapshot import RunSnapshot
from unet_segmentation.tracking.run_queries import RunRecord

SHOWN = 5  # things that a line names
TEST = "test/"
OF_THE_PLAN = {  # what may make a difference to the weights, by section of the plan
    "hardware": ("accelerator", "devices", "num_nodes", "precision", "num_threads"),
    "parameters": ("compile", "accumulate_grad_batches", "seed"),
    "": ("batch_size", "patch_size", "cycles", "steps_per_epoch", "foreground", "class_weights", "samples"),
}


@dataclass(frozen=True)
class Verdict:
    """What the comparison says.

    Attributes:
        same: whether scores and weights are the same, to the last bit.
        lines: a title and a sentence each.
    """

    same: bool
    lines: list[tuple[str, str]]


def judge(recipe: RunSnapshot, again: RunRecord, plan: Mapping[str, Any]) -> Verdict:
    """Compare a run with the one that was made after it.

    Args:
        recipe: of the run.
        again: the run that was made after it.
        plan: of that one.
    """
    first = recipe.run
    scores, scores_word = _scores(first.metrics, again.metrics)
    weights, weights_word = _hashes("weights.sha256", first.tags, again.tags)
    _, data_word = _hashes("data.sha256", *(_with_data(*pair) for pair in ((first, recipe.plan), (again, plan))))
    lines = [
        ("Scores", scores_word),
        ("Weights", weights_word),
        ("Data", data_word),
        ("Plan", _plan(recipe.plan, plan)),
        ("Code", _code(recipe)),
        ("Lock file", _lock_file(recipe.lock)),
        ("Versions", _tags("version.", first.tags, again.tags)),
        ("Machine", _tags("machine.", first.tags, again.tags)),
    ]
    return Verdict(scores and weights, lines)


def _scores(first: Mapping[str, float], again: Mapping[str, float]) -> tuple[bool, str]:
    before, after = ({name: value for name, value in run.items() if name.startswith(TEST)} for run in (first, again))
    if not before:
        return False, "The run has no test scores to compare."
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if not changed:
        return True, f"The same: all {len(before)} test scores agree to the last digit."
    changed.sort(key=lambda name: -_distance(before.get(name), after.get(name)))
    words = [f"{name} {_number(before.get(name))} -> {_number(after.get(name))}" for name in changed]
    return False, f"Not the same: {len(changed)} of {len(before)} test scores differ: {_some(words)}."


def _distance(before: float | None, after: float | None) -> float:
    return math.inf if before is None or after is None else abs(after - before)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.10g}"


def _hashes(tag: str, first: Mapping[str, str], again: Mapping[str, str]) -> tuple[bool, str]:
    before, after = first.get(tag), again.get(tag)
    if before is None or after is None:
        return False, f"Not known: {'the run' if before is None else 'its code'} logged no {tag}."
    if before == after:
        return True, f"The same (sha256 {before[:12]})."
    return False, f"Not the same: sha256 {before[:12]} -> {after[:12]}."


def _with_data(run: RunRecord, plan: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's tags; a run that did not prepare its data itself has the hash in its plan alone."""
    known = plan.get("inputs", {}).get("data")
    return {**({"data.sha256": known} if known else {}), **run.tags}


def _plan(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    words = []
    for section, names in OF_THE_PLAN.items():
        first, second = (plan.get(section, {}) if section else plan for plan in (before, after))
        for name in names:
            if name in first and name in second and first[name] != second[name]:
                words.append(name if len(str(first[name])) > 40 else f"{name} {first[name]} -> {second[name]}")
    return f"Not the same: {_some(words)}." if words else "The same, also in what was auto."


def _code(recipe: RunSnapshot) -> str:
    words = f"Commit {recipe.commit[:12]}"
    words += " with what was not committed." if recipe.difference else "; nothing was uncommitted."
    if recipe.not_kept:
        words += f" New files that MLflow does not hold were left out: {_some(recipe.not_kept)}."
    return words


def _lock_file(lock: bytes | None) -> str:
    if lock is None:
        return "Not known: the run logged none."
    pinned = pins(lock.decode(errors="replace"))
    words = [f"{name} {found or 'not installed'} (locked: {version})" for name, version, found in _other(pinned)]
    if words:
        return f"This environment is not what it pins: {len(words)} of {len(pinned)} packages differ: {_some(words)}."
    return f"This environment is what it pins: all {len(pinned)} packages."


def pins(lock: str) -> dict[str, str]:
    """Read the versions that a lock file pins for this platform and this Python: package to version."""
    found: dict[str, str] = {}
    for line in lock.splitlines():
        if not line or line[0] in " #-\t":
            continue
        try:
            requirement = Requirement(line.rstrip(" \\"))
        except InvalidRequirement:
            continue
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        versions = [part.version for part in requirement.specifier if part.operator == "=="]
        if wanted and versions:
            found[canonicalize_name(requirement.name)] = versions[0]
    return found


def _other(pinned: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
    installed: dict[str, str] = {
        canonicalize_name(part.metadata["Name"]): part.version for part in metadata.distributions()
    }
    return [
        (name, version, installed.get(name))
        for name, version in pinned.items()
        if (installed.get(name) or "").partition("+")[0] != version.partition("+")[0]  # a local build's `+cpu`
    ]


def _tags(prefix: str, first: Mapping[str, str], again: Mapping[str, str]) -> str:
    before, after = ({name: value for name, value in run.items() if name.startswith(prefix)} for run in (first, again))
    if not before:
        return "Not known: the run did not log it."
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    words = [f"{name.removeprefix(prefix)} {before.get(name, 'none')} -> {after.get(name, 'none')}" for name in changed]
    kind = f" ({platform.python_implementation()} {first['version.python']})" if prefix == "version." else ""
    return f"Not the same: {_some(words)}." if words else f"The same{kind}."


def _some(words: list[str]) -> str:
    more = f", and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
