"""Whether a run and its reproduction are the same, in sentences."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from unet_segmentation.experiments.reproduce.run_snapshot import RunSnapshot
from unet_segmentation.tracking.run_queries import RunRecord

Value = TypeVar("Value", float, str)

MAX_SHOWN = 5  # differences that a line names
PLAN_KEYS = {  # that may change the weights, by section of the plan
    "hardware": ("accelerator", "devices", "num_nodes", "precision", "num_threads"),
    "parameters": ("compile", "accumulate_grad_batches", "seed"),
    "": ("batch_size", "patch_size", "cycles", "steps_per_epoch", "foreground", "class_weights", "samples"),
}


@dataclass(frozen=True)
class RunDiff:
    """The comparison of two runs."""

    same: bool  # whether scores and weights are the same, to the last bit
    lines: list[tuple[str, str]]  # a title and a sentence each


def diff_runs(snapshot: RunSnapshot, second: RunRecord, plan: Mapping[str, Any]) -> RunDiff:
    """Compare a run with its reproduction, and the plan of that."""
    first = snapshot.run
    scores, scores_line = _scores(first.metrics, second.metrics)
    weights, weights_line = _hashes("weights.sha256", first.tags, second.tags)
    _, data_line = _hashes("data.sha256", *(_with_data(*pair) for pair in ((first, snapshot.plan), (second, plan))))
    lines = [
        ("Scores", scores_line),
        ("Weights", weights_line),
        ("Data", data_line),
        ("Plan", _plan(snapshot.plan, plan)),
        ("Code", _code(snapshot)),
        ("Lock file", _lock_file(snapshot.lock)),
        ("Versions", _tags("version.", first.tags, second.tags)),
        ("Machine", _tags("machine.", first.tags, second.tags)),
    ]
    return RunDiff(scores and weights, lines)


def _select_changed(
    prefix: str, first: Mapping[str, Value], second: Mapping[str, Value]
) -> tuple[dict[str, Value], dict[str, Value], list[str]]:
    """Return the values of two runs whose names begin with a prefix, and the names of those that differ."""
    before, after = ({name: value for name, value in run.items() if name.startswith(prefix)} for run in (first, second))
    return before, after, [name for name in sorted({**before, **after}) if before.get(name) != after.get(name)]


def _scores(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[bool, str]:
    before, after, changed = _select_changed("test/", first, second)
    if not before:
        return False, "The run has no test scores to compare."
    if not changed:
        return True, f"The same: all {len(before)} test scores agree to the last digit."
    changed.sort(key=lambda name: -_distance(before.get(name), after.get(name)))
    words = [f"{name} {_number(before.get(name))} -> {_number(after.get(name))}" for name in changed]
    return False, f"Not the same: {len(changed)} of {len(before)} test scores differ: {_join(words)}."


def _distance(before: float | None, after: float | None) -> float:
    return math.inf if before is None or after is None else abs(after - before)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.10g}"


def _hashes(tag: str, first: Mapping[str, str], second: Mapping[str, str]) -> tuple[bool, str]:
    before, after = first.get(tag), second.get(tag)
    if before is None or after is None:
        return False, f"Unknown: {'the run' if before is None else 'its code'} logged no {tag}."
    if before == after:
        return True, f"The same (sha256 {before[:12]})."
    return False, f"Not the same: sha256 {before[:12]} -> {after[:12]}."


def _with_data(run: RunRecord, plan: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's tags; a run that did not prepare its data itself has the hash only in its plan."""
    digest = plan.get("inputs", {}).get("data")
    return {**({"data.sha256": digest} if digest else {}), **run.tags}


def _plan(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    words = []
    for section, names in PLAN_KEYS.items():
        first, second = (plan.get(section, {}) if section else plan for plan in (before, after))
        for name in names:
            if name in first and name in second and first[name] != second[name]:
                words.append(name if len(str(first[name])) > 40 else f"{name} {first[name]} -> {second[name]}")
    return f"Not the same: {_join(words)}." if words else "The same, also in what was auto."


def _code(snapshot: RunSnapshot) -> str:
    words = f"Commit {snapshot.commit[:12]}"
    words += " with what was not committed." if snapshot.difference else "; nothing was uncommitted."
    if snapshot.lost_files:
        words += f" New files that MLflow does not hold were left out: {_join(snapshot.lost_files)}."
    return words


def _lock_file(lock: bytes | None) -> str:
    if lock is None:
        return "Unknown: the run logged none."
    pinned = pins(lock.decode(errors="replace"))
    words = [
        f"{name} {installed or 'not installed'} (locked: {version})"
        for name, version, installed in _different_versions(pinned)
    ]
    if words:
        return f"This environment is not what it pins: {len(words)} of {len(pinned)} packages differ: {_join(words)}."
    return f"This environment is what it pins: all {len(pinned)} packages."


def pins(lock: str) -> dict[str, str]:
    """Read the versions that a lock file pins for this platform and this Python: package to version."""
    versions: dict[str, str] = {}
    for line in lock.splitlines():
        if not line or line[0] in " #-\t":
            continue
        try:
            requirement = Requirement(line.rstrip(" \\"))
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        pinned = [part.version for part in requirement.specifier if part.operator == "=="]
        if applies and pinned:
            versions[canonicalize_name(requirement.name)] = pinned[0]
    return versions


def _different_versions(pinned: Mapping[str, str]) -> list[tuple[str, str, str | None]]:
    installed: dict[str, str] = {
        canonicalize_name(part.metadata["Name"]): part.version for part in metadata.distributions()
    }
    return [
        (name, version, installed.get(name))
        for name, version in pinned.items()
        if (installed.get(name) or "").partition("+")[0] != version.partition("+")[0]  # a local build's `+cpu`
    ]


def _tags(prefix: str, first: Mapping[str, str], second: Mapping[str, str]) -> str:
    before, after, changed = _select_changed(prefix, first, second)
    if not before:
        return "Unknown: the run did not log it."
    words = [f"{name.removeprefix(prefix)} {before.get(name, 'none')} -> {after.get(name, 'none')}" for name in changed]
    kind = f" ({platform.python_implementation()} {first['version.python']})" if prefix == "version." else ""
    return f"Not the same: {_join(words)}." if words else f"The same{kind}."


def _join(words: list[str]) -> str:
    more = f", and {len(words) - MAX_SHOWN} more" if len(words) > MAX_SHOWN else ""
    return ", ".join(words[:MAX_SHOWN]) + more
