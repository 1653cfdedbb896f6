"""One run in MLflow: everything is sent here, with explicit ids, because MLflow's active run belongs to one thread."""

from __future__ import annotations

import math
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import mlflow
import requests
import sqlalchemy
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.journal import Operation, RunHeader, RunIds
from unet_segmentation.tracking.settings import is_local

SYSTEM = "system/"  # metrics of the machine; a resumed run counts their steps on
LONGEST_VALUE = 6000  # characters; what MLflow takes
MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100  # of one request; what MLflow takes

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Return whether it may succeed if tried again: the server is away or busy, the database locked."""
    if isinstance(error, MlflowException):
        return error.get_http_status_code() >= 500 or error.get_http_status_code() == 429
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500
    return isinstance(error, requests.RequestException | sqlalchemy.exc.DBAPIError | ConnectionError | TimeoutError)


def _connect(uri: str) -> mlflow.MlflowClient:
    if is_local(uri):
        create_database(Path(uri.removeprefix("sqlite:///")))
    mlflow.set_tracking_uri(uri)  # models and artifacts of http stores still ask for the global one
    return mlflow.MlflowClient(uri)


def _find_or_create_experiment(client: mlflow.MlflowClient, header: RunHeader) -> str:
    name = header.experiment
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        database = Path(header.uri.removeprefix("sqlite:///"))
        location = (database.parent / "mlartifacts").as_uri() if is_local(header.uri) else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another run made it meanwhile
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow's experiment {name!r} was deleted and cannot take runs. Restore it (mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}), or set experiment in mlflow.yml."
        )
    return str(experiment.experiment_id)


def create_database(path: Path) -> None:
    """Create the database of a new store atomically: one whose tables are half made is never usable again."""
    if path.exists() and path.stat().st_size:
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def skip_fsync(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")  # of some hundred commits; the file has no name yet

    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", skip_fsync)
    try:
        SqlAlchemyStore(f"sqlite:///{temporary}", (path.parent / "mlartifacts").as_uri()).engine.dispose()
        if path.exists() and not path.stat().st_size:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, it leaves what another run has made meanwhile
    except FileExistsError:
        pass
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "connect", skip_fsync)
        for leftover in path.parent.glob(f"{temporary.name}*"):
            leftover.unlink()


class MlflowRunClient:
    """An open run in an MLflow store."""

    def __init__(self, uri: str, ids: RunIds) -> None:
        self.uri, self.ids, self._client = uri, ids, _connect(uri)
        self._points: dict[str, dict[int, Metric]] = {}  # of a resumed run: metric to step to last point

    @classmethod
    def create(cls, header: RunHeader) -> MlflowRunClient:
        """Start a run, in an experiment that is created where there is none."""
        client = _connect(header.uri)
        experiment_id = _find_or_create_experiment(client, header)
        run = client.create_run(experiment_id, int(header.started * 1000), header.tags, header.run_name)
        return cls(header.uri, RunIds(run_id=run.info.run_id, experiment_id=experiment_id))

    @classmethod
    def reopen(cls, uri: str, run_id: str, extra_epochs: str | None = None) -> MlflowRunClient | None:
        """Open an earlier run again, whatever its status; None where it was deleted."""
        client = _connect(uri)
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if run.info.lifecycle_stage != "active":
            return None
        tags = run.data.tags
        client.update_run(run_id, status="RUNNING")
        if extra_epochs is not None:
            added = ", ".join(filter(None, [tags.get("training.extra_epochs"), extra_epochs]))
            client.set_tag(run_id, "training.extra_epochs", added)
        if "failure" in tags:
            for tag in tags.keys() & {"failure", "mlflow.note.content"}:
                client.delete_tag(run_id, tag)
        return cls(uri, RunIds(run_id=run_id, experiment_id=run.info.experiment_id, resumed=True))

    @property
    def run_id(self) -> str:
        """Return MLflow's id of the run."""
        return self.ids.run_id

    def mark_killed(self, run_id: str) -> None:
        """Close an earlier run whose process is gone, if nobody did."""
        if self._client.get_run(run_id).info.status == "RUNNING":
            self._client.set_terminated(run_id, "KILLED")

    def next_step(self, name: str) -> int:
        """Return the first step at which a metric has no point yet."""
        return 1 + max(self._stored_points(name), default=-1) if self.ids.resumed else 0

    def is_reachable(self) -> bool:
        """Return whether the store answers a question about the run at the moment."""
        try:
            self._client.get_run(self.run_id)
        except Exception:
            return False
        return True

    def _stored_points(self, name: str) -> Mapping[int, Metric]:
        """Return the last point at each step that a resumed run had of a metric when it was reopened."""
        if name not in self._points:
            history = sorted(self._client.get_metric_history(self.run_id, name), key=lambda point: point.timestamp)
            self._points[name] = {point.step: point for point in history}
        return self._points[name]

    def _equal_point(self, name: str, step: int, value: float) -> Metric | None:
        """Find the point of a resumed run that has the same value, whatever its time."""
        if not self.ids.resumed or name.startswith(SYSTEM):
            return None
        point = self._stored_points(name).get(step)
        same = point is not None and (point.value == value or (math.isnan(point.value) and math.isnan(value)))
        return point if same else None

    # -- operations

    def log_values(self, operations: Iterable[Operation]) -> None:
        """Send the metrics, parameters and tags of many operations at once."""
        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for operation in operations:
            arguments = operation.arguments
            if operation.name == "log_metrics":
                metrics += self._new_points(**arguments)
            elif operation.name == "log_params":
                for key, value in arguments["values"].items():  # a key may hold what a user has called a variant
                    params[re.sub(r"[^\w/.\- :]", "_", key)] = value[:LONGEST_VALUE]
            else:
                tags |= arguments["values"]
        if params and self.ids.resumed:
            stored = self._client.get_run(self.run_id).data.params
            params = {key: value for key, value in params.items() if key not in stored}
        for metric_part in _chunks(metrics, MAX_METRICS):
            self._client.log_batch(self.run_id, metrics=metric_part)
        for param_part in _chunks([Param(*item) for item in params.items()], MAX_PARAMS):
            self._client.log_batch(self.run_id, params=param_part)
        self.set_tags(tags)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for part in _chunks([RunTag(*item) for item in tags.items()], MAX_TAGS):
            self._client.log_batch(self.run_id, tags=part)

    def _new_points(self, values: Mapping[str, float], step: int, time: float) -> Iterator[Metric]:
        for name, value in values.items():
            if self._equal_point(name, step, value) is None:
                yield Metric(name, value, int(time * 1000), step)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Send a file or a folder."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), "/".join(filter(None, (folder, path.name))))
        else:
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_figure_html(self, path: Path, folder: str | None = None) -> None:
        """Send a Plotly figure as a page with all its code in it: MLflow's own way needs a network to show it."""
        import plotly.io

        page = path.with_suffix(".html")
        figure = plotly.io.from_json(path.read_text(encoding="utf-8"))
        figure.write_html(page, include_plotlyjs=True, full_html=True)
        self._client.log_artifact(self.run_id, str(page), folder)

    def log_dataset(self, path: Path, name: str, source: str) -> None:
        """Send the samples table as inputs of the run: one per split, each with its own digest."""
        import pandas as pd
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.pandas_dataset import from_pandas

        inputs = []
        for split, table in pd.read_parquet(path).groupby("split", sort=False):
            dataset = from_pandas(table, source=HTTPDatasetSource(source), name=f"{name} {split}")
            inputs.append(DatasetInput(Dataset(**dataset.to_dict()), [InputTag("mlflow.data.context", str(split))]))
        self._client.log_inputs(self.run_id, inputs)

    def create_model(self, name: str, problem: str, step: int) -> str:
        """Create the entry of a model and return its id; or that of one that was begun for the same epoch before."""
        run = self._client.get_run(self.run_id)
        if self.ids.resumed:
            begun = self._client.search_logged_models(
                [self.ids.experiment_id], filter_string=f"source_run_id = '{self.run_id}'"
            )
            steps = _steps_of_models(run)
            for candidate in begun:
                if steps.get(candidate.model_id, step) == step:
                    return str(candidate.model_id)
        model = self._client.create_logged_model(
            self.ids.experiment_id,
            name=name,
            source_run_id=self.run_id,
            params=run.data.params,
            tags={"problem": problem},
            model_type="segmentation",
        )
        return str(model.model_id)

    def log_model(self, path: Path, model_id: str, step: int, metrics: Mapping[str, tuple[float, float]]) -> None:
        """Send a model's folder, and link it to the run and to the metrics of its epoch and of the test.

        The folder is an MLflow model, built before its ids were known. The test's metrics are value and time.
        """
        model = Model.load(str(path / "MLmodel"))
        model.run_id, model.model_id, model.model_uuid = self.run_id, model_id, model_id
        model.artifact_path = self._client.get_logged_model(model_id).artifact_location
        model.save(str(path / "MLmodel"))
        self._client.log_model_artifacts(model_id, str(path))
        self._client.finalize_logged_model(model_id, "READY")
        if model_id not in _steps_of_models(self._client.get_run(self.run_id)):
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step=step)])
        self._link_metrics(model_id, step, metrics)

    def _link_metrics(self, model_id: str, step: int, metrics: Mapping[str, tuple[float, float]]) -> None:
        linked = []
        for name, (value, time) in metrics.items():
            point = self._equal_point(name, 0, value)
            timestamp = point.timestamp if point else int(time * 1000)
            linked.append(Metric(name, value, timestamp, 0, model_id=model_id))
        for name in self._client.get_run(self.run_id).data.metrics:
            if name.startswith(("train/", "validation/")):
                linked += [
                    Metric(name, point.value, point.timestamp, point.step, model_id=model_id)
                    for point in self._client.get_metric_history(self.run_id, name)
                    if point.step == step
                ]
        for part in _chunks(linked, MAX_METRICS):
            self._client.log_batch(self.run_id, metrics=part)

    def close(self, status: str, reason: str | None, time: float) -> None:
        """Close the run, with the reason where it did not finish."""
        if reason:
            for key, value in {"failure": reason, "mlflow.note.content": f"**{status}**: {reason}"}.items():
                self._client.set_tag(self.run_id, key, value[:LONGEST_VALUE])
        self._client.set_terminated(self.run_id, status, int(time * 1000))


def _steps_of_models(run: MlflowRun) -> dict[str, int]:
    """Return the models that a run has as outputs: id to step."""
    return {output.model_id: output.step for output in run.outputs.model_outputs} if run.outputs else {}


def _chunks(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))
