"""Reading back what runs have told MLflow."""

from __future__ import annotations

import difflib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.run import page_of
from unet_segmentation.tracking.sender import prepare_environment
from unet_segmentation.tracking.settings import is_local

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from unet_segmentation.metrics.evaluation_tables import EvaluationTables

CHAMPION = "champion"  # alias of the released version of a problem's registered model
PARAMETERS = "code/parameters.yml"
TABLES = "evaluation/tables"  # a Parquet file per table of counts
ANSWER_SECONDS = 10.0  # for one answer of a server
AT_ONCE = 500  # runs of one request
SHOWN = 5  # runs that a message names
SHORT = 8  # digits of an id that people are shown


@dataclass(frozen=True)
class RunRecord:
    """A run as MLflow holds it.

    Attributes:
        run_id: MLflow's id, 32 hexadecimal digits.
        name: for people; several runs may have the same.
        problem: the segmentation problem.
        status: `FINISHED`, `FAILED`, `KILLED` or `RUNNING`.
        started: seconds since 1970.
        parameters: flat (`training.epochs`), as text; a long list may be cut off (see `Evaluation` for exact ones).
        metrics: the last value of each, such as `test/dice/mean`.
        tags: such as `git.commit`, `data.sha256` and `weights.sha256`.
        link: address of its page in MLflow's UI.
    """

    run_id: str
    name: str
    problem: str
    status: str
    started: float
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    link: str

    def __str__(self) -> str:
        return f"{self.name} ({self.run_id[:SHORT]})"

    @property
    def when(self) -> str:
        """When it began: `2026-11-24 13:30`."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.started))

    @property
    def above(self) -> str | None:
        """Id of the run that this one lies within: that of the sweep, for a variant."""
        return self.tags.get("mlflow.parentRunId")


class Evaluation(NamedTuple):
    """What a run's evaluation left, per image.

    Attributes:
        tables: of confusion and soft overlap.
        samples: all samples of the problem, with the columns sample_id, group and split.
        classes: names of the classes.
        split: the split that was evaluated.
    """

    tables: EvaluationTables
    samples: pd.DataFrame
    classes: list[str]
    split: str


def find_run(uri: str, text: str, problem: str | None = None) -> RunRecord:
    """Find one run by its id, by the beginning of its id that no other run shares, or by its name.

    Args:
        uri: MLflow's store.
        text: id, beginning of an id, or name.
        problem: looks only among the runs of this problem; None: among all.

    Raises:
        TrackingError: there is no such run, or there are several; names those that it may be.
    """
    runs = sorted(_runs(uri, problem), key=lambda run: -run.started)
    for found in (
        [run for run in runs if run.run_id == text],
        [run for run in runs if run.name == text],
        [run for run in runs if text and run.run_id.startswith(text.lower())],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise TrackingError(f"{text!r} may be {len(found)} runs. Give more of the id:\n{_listed(found)}")
    of = f" of {problem}" if problem else ""
    if not runs:
        raise TrackingError(f"There is no run{of} in {uri} yet. Make one with: kedro run")
    names = {run.name for run in runs} | {run.run_id[:SHORT] for run in runs}
    near = difflib.get_close_matches(text, names, n=SHOWN, cutoff=0.6)
    likely = [run for run in runs if run.name in near or run.run_id[:SHORT] in near]
    hint = f"Near it:\n{_listed(likely)}" if likely else f"The newest:\n{_listed(runs)}"
    raise TrackingError(f"There is no run{of} called {text!r}. {hint}")


def finished_runs(uri: str, problem: str) -> list[RunRecord]:
    """Return all runs of a problem that came to their end, the newest first.

    Raises:
        TrackingError: the store does not answer.
    """
    return sorted(_runs(uri, problem, "FINISHED"), key=lambda run: -run.started)


def champion_of(uri: str, problem: str) -> RunRecord | None:
    """Return the run that made the released model of a problem; None where nothing was released.

    Raises:
        TrackingError: the store does not answer, or the run was deleted.
    """
    from mlflow.exceptions import MlflowException

    client = _client(uri)
    try:
        version = client.get_model_version_by_alias(problem, CHAMPION)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise _unanswered(uri, error) from error
    run_id = version.run_id or (client.get_logged_model(version.model_id).source_run_id if version.model_id else None)
    if not run_id:
        raise TrackingError(f"The champion of {problem}, version {version.version}, does not say which run made it.")
    return find_run(uri, run_id)


def fetch(uri: str, run_id: str, artifact: str, folder: Path) -> Path:
    """Bring an artifact of a run into a folder.

    Args:
        uri: MLflow's store.
        run_id: of the run.
        artifact: such as `evaluation/intervals.csv`.
        folder: to bring it to; it keeps its path below.

    Returns:
        Where it lies now.

    Raises:
        TrackingError: the run has no such artifact, or the store does not answer.
    """
    from unet_segmentation.tracking.store import is_passing

    client = _client(uri)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    except Exception as error:  # each kind of store has its own
        if is_passing(error):
            raise _unanswered(uri, error) from error
        raise TrackingError(
            f"The run {run_id[:SHORT]} has no artifact {artifact}: it was made by other pipelines, by an earlier "
            "version of the project, or its files were moved or deleted."
        ) from error


def parameters_of(uri: str, run_id: str) -> dict[str, Any]:
    """Return all parameters of a run, nested and exact.

    Raises:
        TrackingError: the run has none.
    """
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        return yaml.safe_load(fetch(uri, run_id, PARAMETERS, Path(folder)).read_text(encoding="utf-8"))


def evaluation_of(uri: str, run_id: str, above: str | None = None) -> Evaluation:
    """Return the counts per image of a run.

    Args:
        uri: of the store.
        run_id: of the run that was evaluated.
        above: of the run that it lies within, which says once for all what data and classes are.

    Raises:
        TrackingError: the run lacks one of the tables.
    """
    import pandas as pd

    from unet_segmentation.metrics.evaluation_tables import EvaluationTables

    with tempfile.TemporaryDirectory() as folder:
        confusion, soft, samples = (
            pd.read_parquet(fetch(uri, holder, name, Path(folder)))
            for holder, name in (
                (run_id, f"{TABLES}/confusion_counts.parquet"),
                (run_id, f"{TABLES}/soft.parquet"),
                (above or run_id, "data/samples.parquet"),
            )
        )
    tables = EvaluationTables({"confusion": confusion, "soft": soft})
    parameters = parameters_of(uri, above or run_id)
    return Evaluation(tables, samples, parameters["classes"], parameters["evaluation"]["split"])


# -- MLflow


def _client(uri: str) -> MlflowClient:
    """Open a store.

    Raises:
        TrackingError: it is a database that is not there.
    """
    prepare_environment(ANSWER_SECONDS)
    import mlflow

    database = Path(uri.removeprefix("sqlite:///"))
    if is_local(uri) and not (database.is_file() and database.stat().st_size):
        raise TrackingError(f"There are no runs yet: {database} is not there. Make one with: kedro run")
    mlflow.set_tracking_uri(uri)  # artifacts of http stores still ask for the global one
    return mlflow.MlflowClient(uri)


def _runs(uri: str, problem: str | None, status: str | None = None) -> Iterator[RunRecord]:
    wanted = [f"tags.problem = {json.dumps(problem)}"] if problem else []
    wanted += [f"attributes.status = '{status}'"] if status else []
    client = _client(uri)
    try:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        token = None
        while experiments:
            page = client.search_runs(experiments, " and ".join(wanted), max_results=AT_ONCE, page_token=token)
            yield from (_record(uri, run) for run in page)
            if not (token := page.token):
                break
    except Exception as error:
        raise _unanswered(uri, error) from error


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
        link=page_of(uri, run.info.experiment_id, run.info.run_id),
    )


def _unanswered(uri: str, error: Exception) -> TrackingError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return TrackingError(f"The MLflow store {uri} cannot be read: {reason}")


def _listed(runs: Iterable[RunRecord]) -> str:
    runs = list(runs)
    lines = [f"  {run.run_id[:12]}  {run.when}  {run.status:8}  {run.name}" for run in runs[:SHOWN]]
    return "\n".join(lines + ([f"  and {len(runs) - SHOWN} more"] if len(runs) > SHOWN else []))
