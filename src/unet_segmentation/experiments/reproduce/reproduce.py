"""From a run's id to a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from unet_segmentation.experiments.reproduce.run_diff import Verdict, judge
from unet_segmentation.experiments.reproduce.run_snapshot import load_snapshot
from unet_segmentation.experiments.reproduce.sandbox_project import run_kedro, temporary_project
from unet_segmentation.tracking.run_queries import RunRecord, fetch, finished_runs


def reproduce(uri: str, run: RunRecord, root: Path, say: Callable[[str], None]) -> Verdict:
    """Make a run again, with its code, its parameters and its data, and compare the two.

    Nothing of this project changes, and nothing of the second run is left.

    Args:
        uri: MLflow's store.
        run: the run.
        root: of this project; its repository holds the run's code.
        say: is given what happens, line by line.

    Raises:
        TrackingError: MLflow does not hold what it takes.
        ConfigurationError: the code cannot be had.
        ProjectError: the run failed.
    """
    recipe = load_snapshot(uri, run)
    say(f"Making {run} of {run.when} again: commit {recipe.commit[:12]}")
    with temporary_project(root, recipe) as project:
        run_kedro(project, run.problem, lambda line: say(f"  {line}"))
        store = f"sqlite:///{(project / 'mlflow.db').as_posix()}"
        again = finished_runs(store, run.problem)[0]
        plan = json.loads(fetch(store, again.run_id, "training/plan.json", project / "fetched").read_text("utf-8"))
    return judge(recipe, again, plan)
