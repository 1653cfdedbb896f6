"""Compare runs on the same test samples: two of them, or all of a problem as a leaderboard."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.errors import ConfigurationError, DataError, TrackingError
from unet_segmentation.experiments.sweep.leaderboard import BEST, comparison_columns
from unet_segmentation.metrics.bootstrap import FEWEST
from unet_segmentation.metrics.paired_comparison import compare
from unet_segmentation.metrics.sufficient_statistics import groups_of
from unet_segmentation.models.architectures import ARCHITECTURES
from unet_segmentation.parameters import BootstrapParameters
from unet_segmentation.tracking.run_queries import Evaluation, RunRecord, fetch, finished_runs, load_evaluation

BOOTSTRAP = BootstrapParameters()
SCORE, MARGIN = "dice/mean", 0.015
OTHER_SAMPLES, NO_COUNTS = "other samples", "no counts"  # verdicts of a leaderboard in addition to compare's
COLUMNS = (
    "run", "run_id", "started", "value", "low", "high", "difference", "difference_low", "difference_high", "p_value",
    "verdict", "units", "encoder", "epochs", "seed", "data", "split", "link",
)  # fmt: skip


def compare_evaluations(
    reference: Evaluation,
    other: Evaluation,
    margin: float = MARGIN,
    bootstrap: BootstrapParameters = BOOTSTRAP,
) -> pd.DataFrame:
    """Compare two runs image by image, as `metrics.paired_comparison.compare` does; the reference is the champion.

    Raises:
        DataError: the two were tested on different classes, splits or samples.
    """
    if reference.classes != other.classes:
        raise DataError(f"the classes differ: {', '.join(reference.classes)} and {', '.join(other.classes)}")
    if reference.split != other.split:
        raise DataError(f"one was tested on the {reference.split} split, the other on the {other.split} split")
    return compare(
        other.tables,
        reference.tables,
        reference.classes,
        margin=margin,
        groups=groups_of(reference.samples),
        confidence=bootstrap.confidence,
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
    )


def count_units(evaluation: Evaluation) -> int:
    """Count the units of the bootstrap: the images, those of a group as one."""
    groups = groups_of(evaluation.samples)
    return len({groups.get(name, name) for name in evaluation.tables.sample_ids})


def small_sample_warning(units: int) -> str | None:
    """Return a warning that intervals over few images are unreliable; None where there are enough."""
    if units >= FEWEST:
        return None
    return (
        f"Not to be trusted: {units} test images or groups; intervals over fewer than {FEWEST} come out too "
        "narrow, and verdicts too bold."
    )


def find_score_row(table: pd.DataFrame, score: str) -> dict[str, Any]:
    """Return the row of one score of a comparison; ConfigurationError with the nearest name where there is none."""
    rows = table[table["score"] == score]
    if rows.empty:
        raise unknown_score_error(score, table["score"].tolist())
    return dict(rows.iloc[0])


def unknown_score_error(score: str, names: Sequence[str]) -> ConfigurationError:
    """Return the error for a score that does not exist; it names the nearest one."""
    near = difflib.get_close_matches(score, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return ConfigurationError(f"--score: there is no score {score!r} to compare. {hint}Known: {', '.join(names)}.")


def leaderboard(
    uri: str,
    problem: str,
    score: str = SCORE,
    margin: float = MARGIN,
    bootstrap: BootstrapParameters = BOOTSTRAP,
) -> pd.DataFrame:
    """Rank all finished runs of a problem, and compare each with the best, image by image.

    The best is the best of those that were tested on the same samples: those of most runs (of the newer ones in a tie).
    Runs tested on other samples, and those without counts per image, are listed below and not compared.

    Returns:
        A row per run with the columns `COLUMNS`: `value` of the score with its interval (`low`, `high`; empty where the
        run has none), the `difference` to the best with its interval, the number of `units` (images or groups), and the
        `verdict`: `best`, `equivalent`, `worse`, `inconclusive`, `better`, `undefined`, `other samples` or `no counts`.

    Raises:
        TrackingError: the store does not answer, or no run has such a score.
        ConfigurationError: the score cannot be compared.
    """
    tested = [run for run in finished_runs(uri, problem) if f"test/{score}" in run.metrics]
    if not tested:
        raise _without_score(uri, problem, score)
    evaluations = {run.run_id: each for run in tested if (each := _evaluation(uri, run)) is not None}
    sets = {run_id: test_set_fingerprint(evaluation) for run_id, evaluation in evaluations.items()}
    common = Counter(sets.values()).most_common(1)[0][0] if sets else None  # in a tie the first, of the newest run
    tested.sort(key=lambda run: -run.metrics[f"test/{score}"])
    comparable = [run for run in tested if common is not None and sets.get(run.run_id) == common]
    rows = []
    for run in [*comparable, *(run for run in tested if run not in comparable)]:
        row = _row(uri, run, score)
        row["units"] = count_units(evaluations[run.run_id]) if run.run_id in evaluations else 0
        if run not in comparable:
            row["verdict"] = OTHER_SAMPLES if run.run_id in evaluations else NO_COUNTS
        elif run is comparable[0]:
            row["verdict"] = BEST
        else:
            best, other = evaluations[comparable[0].run_id], evaluations[run.run_id]
            row |= comparison_columns(find_score_row(compare_evaluations(best, other, margin, bootstrap), score))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_set_fingerprint(evaluation: Evaluation) -> str:
    """Hash the test set of a run: the classes, the split, and the pixels of each class in each image."""
    pixels = evaluation.tables.confusion.groupby(["sample_id", "truth"], sort=True)["count"].sum().reset_index()
    images = sorted(evaluation.tables.sample_ids)
    return hashlib.sha256(repr([evaluation.classes, evaluation.split, images, pixels.to_csv()]).encode()).hexdigest()


def _evaluation(uri: str, run: RunRecord) -> Evaluation | None:
    """Load the counts per image of a run; None where a table is missing."""
    try:
        return load_evaluation(uri, run.run_id, run.parent_run_id)
    except TrackingError:
        return None


def _row(uri: str, run: RunRecord, score: str) -> dict[str, Any]:
    plan = _read_artifact(uri, run, "training/plan.json")
    intervals = _read_artifact(uri, run, "evaluation/intervals.csv")
    bounds = pd.read_csv(io.StringIO(intervals or "score,low,high")).set_index("score").reindex([score])
    parameter = run.parameters.get
    network = parameter("model.architecture", "")
    return {
        "run": run.name,
        "run_id": run.run_id,
        "started": run.when,
        "value": run.metrics[f"test/{score}"],
        "low": float(bounds["low"].iloc[0]),
        "high": float(bounds["high"].iloc[0]),
        "encoder": network if network in ARCHITECTURES.module_names() else parameter("model.encoder", ""),
        "epochs": str(json.loads(plan)["epochs"]) if plan else parameter("training.epochs", ""),
        "seed": parameter("training.seed", ""),
        "data": run.tags.get("data.sha256", "")[:12],
        "split": parameter("evaluation.split", ""),
        "link": run.link,
    }


def _read_artifact(uri: str, run: RunRecord, artifact: str) -> str | None:
    """Read a file that a run has logged; None where there is none."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            return fetch(uri, run.run_id, artifact, Path(folder)).read_text(encoding="utf-8")
    except TrackingError:
        return None


def _without_score(uri: str, problem: str, score: str) -> Exception:
    runs = finished_runs(uri, problem)
    names = sorted({name.removeprefix("test/") for run in runs for name in run.metrics if name.startswith("test/")})
    if names:
        return unknown_score_error(score, names)
    return TrackingError(f"No finished run of {problem} in {uri} has test scores yet: kedro run --env {problem}")
