"""Reproduce a run, and compare the two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from unet_segmentation.experiments.reproduce.run_diff import RunDiff, diff_runs
from unet_segmentation.experiments.reproduce.run_snapshot import load_snapshot
from unet_segmentation.experiments.reproduce.sandbox_project import run_kedro, temporary_project
from unet_segmentation.tracking.run_queries import RunRecord, fetch, finished_runs


def reproduce(uri: str, run: RunRecord, root: Path, echo: Callable[[str], None]) -> RunDiff:
    """Reproduce a run with its code, its parameters and its data, and compare the two; `echo` prints the progress.

    Nothing of this project changes, and nothing of the second run remains.

    Raises:
        TrackingError: MLflow does not hold all that is needed.
        ConfigurationError: the code is not available.
        ProjectError: the run failed.
    """
    snapshot = load_snapshot(uri, run)
    echo(f"Reproducing {run} of {run.when}: commit {snapshot.commit[:12]}")
    with temporary_project(root, snapshot) as project:
        run_kedro(project, run.problem, lambda line: echo(f"  {line}"))
        store = f"sqlite:///{(project / 'mlflow.db').as_posix()}"
        second = finished_runs(store, run.problem)[0]
        plan = json.loads(fetch(store, second.run_id, "training/plan.json", project / "fetched").read_text("utf-8"))
    return diff_runs(snapshot, second, plan)
