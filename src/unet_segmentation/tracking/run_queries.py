"""Queries: read runs and their artifacts from MLflow.

Each raises a TrackingError where the store does not answer, or where there is no such run or artifact.
"""

from __future__ import annotations

import difflib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.settings import REQUEST_TIMEOUT, configure_mlflow, first_line, is_local, run_url

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from unet_segmentation.metrics.evaluation_tables import EvaluationTables

PARAMETERS = "code/parameters.yml"
TABLES = "evaluation/tables"  # a Parquet file per table of counts
MAX_SHOWN = 5  # runs that a message names
SHORT_ID = 8  # digits of an id in messages

T = TypeVar("T")


@dataclass(frozen=True)
class RunRecord:
    """A run as MLflow holds it."""

    run_id: str
    name: str  # several runs may have the same
    problem: str
    status: str  # FINISHED, FAILED, KILLED or RUNNING
    started: float  # seconds since 1970
    parameters: dict[str, str]  # flat (`training.epochs`); long lists may be truncated (exact: `load_parameters`)
    metrics: dict[str, float]  # the last value of each, such as `test/dice/mean`
    tags: dict[str, str]  # such as `git.commit`, `data.sha256` and `weights.sha256`
    link: str  # address of its page in MLflow's UI

    def __str__(self) -> str:
        return f"{self.name} ({self.run_id[:SHORT_ID]})"

    @property
    def when(self) -> str:
        """Return when it started: `2026-11-24 13:30`."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.started))

    @property
    def parent_run_id(self) -> str | None:
        """Return the id of the run that this one is nested in: that of the sweep, for a variant."""
        return self.tags.get("mlflow.parentRunId")


class Evaluation(NamedTuple):
    """The counts per image of a run's evaluation."""

    tables: EvaluationTables  # of the confusion and of the soft overlap
    samples: pd.DataFrame  # all of the problem; columns sample_id, group and split
    classes: list[str]
    split: str  # that was evaluated


def find_run(uri: str, text: str, problem: str | None = None) -> RunRecord:
    """Find one run by its id, a unique prefix of its id, or its name; of one problem, or of all.

    An error names the candidates.
    """
    runs = _search_runs(uri, problem)
    for matches in (
        [run for run in runs if run.run_id == text],
        [run for run in runs if run.name == text],
        [run for run in runs if text and run.run_id.startswith(text.lower())],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise TrackingError(f"{text!r} may be {len(matches)} runs. Give more of the id:\n{_format(matches)}")
    of = f" of {problem}" if problem else ""
    if not runs:
        raise TrackingError(f"There is no run{of} in {uri} yet. Make one with: kedro run")
    names = {run.name for run in runs} | {run.run_id[:SHORT_ID] for run in runs}
    near = difflib.get_close_matches(text, names, n=MAX_SHOWN, cutoff=0.6)
    similar = [run for run in runs if run.name in near or run.run_id[:SHORT_ID] in near]
    hint = f"Near it:\n{_format(similar)}" if similar else f"The newest:\n{_format(runs)}"
    raise TrackingError(f"There is no run{of} called {text!r}. {hint}")


def finished_runs(uri: str, problem: str) -> list[RunRecord]:
    """Return all finished runs of a problem, the newest first."""
    return _search_runs(uri, problem, "FINISHED")


def champion_of(uri: str, problem: str) -> RunRecord | None:
    """Return the run that made the released model of a problem; None where nothing was released."""
    client = _client(uri)
    from mlflow.exceptions import MlflowException

    from unet_segmentation.tracking.model_registry import Registry

    try:
        version = Registry(uri, problem).champion()
    except MlflowException as error:
        raise _unreadable(uri, error) from error
    if version is None:
        return None
    run_id = version.run_id or (client.get_logged_model(version.model_id).source_run_id if version.model_id else None)
    if not run_id:
        raise TrackingError(f"The champion of {problem}, version {version.number}, does not say which run made it.")
    return find_run(uri, run_id)


def fetch(uri: str, run_id: str, artifact: str, folder: Path) -> Path:
    """Download an artifact of a run, such as `evaluation/intervals.csv`; below the folder it keeps its path."""
    from unet_segmentation.tracking.mlflow_client import is_transient

    client = _client(uri)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    except Exception as error:  # each kind of store has its own
        if is_transient(error):
            raise _unreadable(uri, error) from error
        raise TrackingError(
            f"The run {run_id[:SHORT_ID]} has no artifact {artifact}: it was made by other pipelines, by an earlier "
            "version of the project, or its files were moved or deleted."
        ) from error


def load_parameters(uri: str, run_id: str) -> dict[str, Any]:
    """Load all parameters of a run, nested and exact."""
    import yaml

    return yaml.safe_load(_load(uri, run_id, PARAMETERS, Path.read_bytes))


def load_evaluation(uri: str, run_id: str, parent_run_id: str | None = None) -> Evaluation:
    """Load the counts per image of a run; its parent run, if any, has logged samples and classes."""
    import pandas as pd

    tables = load_tables(uri, run_id)
    samples = _load(uri, parent_run_id or run_id, "data/samples.parquet", pd.read_parquet)
    parameters = load_parameters(uri, parent_run_id or run_id)
    return Evaluation(tables, samples, parameters["classes"], parameters["evaluation"]["split"])


def load_tables(uri: str, run_id: str) -> EvaluationTables:
    """Load the counts per image that runs are compared by: confusion and soft overlap."""
    import pandas as pd

    from unet_segmentation.metrics.evaluation_tables import EvaluationTables

    names = ("confusion", "soft")
    return EvaluationTables({name: _load(uri, run_id, f"{TABLES}/{name}.parquet", pd.read_parquet) for name in names})


def _load(uri: str, run_id: str, artifact: str, read: Callable[[Path], T]) -> T:
    with tempfile.TemporaryDirectory() as folder:
        return read(fetch(uri, run_id, artifact, Path(folder)))


def _client(uri: str) -> MlflowClient:
    """Open a store; raise TrackingError for a database that does not exist."""
    configure_mlflow(REQUEST_TIMEOUT)
    import mlflow

    database = Path(uri.removeprefix("sqlite:///"))
    if is_local(uri) and not (database.is_file() and database.stat().st_size):
        raise TrackingError(f"There are no runs yet: {database} does not exist. Make one with: kedro run")
    mlflow.set_tracking_uri(uri)  # artifacts of http stores still ask for the global one
    return mlflow.MlflowClient(uri)


def _search_runs(uri: str, problem: str | None, status: str | None = None) -> list[RunRecord]:
    """Return the runs of a problem, or of all, the newest first."""
    conditions = [f"tags.problem = {json.dumps(problem)}"] if problem else []
    conditions += [f"attributes.status = '{status}'"] if status else []
    _client(uri)
    import mlflow

    try:
        runs = mlflow.search_runs(
            filter_string=" and ".join(conditions),
            output_format="list",
            order_by=["attributes.start_time DESC"],
            search_all_experiments=True,
        )
    except Exception as error:
        raise _unreadable(uri, error) from error
    return [_record(uri, run) for run in runs]


def _record(uri: str, run: Run) -> RunRecord:
    tags = run.data.tags
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        problem=tags.get("problem", ""),
        status=run.info.status,
        started=run.info.start_time / 1000,
        parameters=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(tags),
        link=run_url(uri, run.info.experiment_id, run.info.run_id),
    )


def _unreadable(uri: str, error: Exception) -> TrackingError:
    return TrackingError(f"The MLflow store {uri} cannot be read: {first_line(error)}")


def _format(runs: list[RunRecord]) -> str:
    lines = [f"  {run.run_id[:12]}  {run.when}  {run.status:8}  {run.name}" for run in runs[:MAX_SHOWN]]
    return "\n".join(lines + ([f"  and {len(runs) - MAX_SHOWN} more"] if len(runs) > MAX_SHOWN else []))
