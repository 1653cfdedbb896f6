"""Everything that is said to MLflow is said here, with explicit ids: its active run belongs to one thread only."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import requests
import sqlalchemy
from mlflow.entities import DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.settings import is_local

Operation = Mapping[str, Any]
SYSTEM = "system/"  # metrics of the machine; their steps are counted on in a run that is taken up
LONGEST_VALUE = 6000  # characters; what MLflow takes
AT_ONCE = {"metrics": 1000, "params": 100, "tags": 100}  # entries of one request; what MLflow takes


def is_passing(error: BaseException) -> bool:
    """Whether it may go well if tried again: the server is away or busy, the database locked."""
    if isinstance(error, MlflowException):
        return error.get_http_status_code() >= 500 or error.get_http_status_code() == 429
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500
    return isinstance(error, requests.RequestException | sqlalchemy.exc.DBAPIError | ConnectionError | TimeoutError)


def make_database(path: Path) -> None:
    """Make the database of a new store, whole or not at all: one whose tables are half made is never usable again."""
    if path.exists() and path.stat().st_size:
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        SqlAlchemyStore(f"sqlite:///{temporary}", (path.parent / "mlartifacts").as_uri()).engine.dispose()
        if path.exists() and not path.stat().st_size:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike a rename, it leaves what another run has made meanwhile
    except FileExistsError:
        pass
    finally:
        for left in path.parent.glob(f"{temporary.name}*"):
            left.unlink()


class Store:
    """One run in an MLflow store.

    Attributes:
        run_id: empty until the run is open.
        experiment_id: likewise.
        taken_up: whether it is the run of an earlier process. What that one has logged is then not logged again.
    """

    def __init__(self, uri: str, run_id: str = "", experiment_id: str = "", taken_up: bool = False) -> None:
        if is_local(uri):
            make_database(Path(uri.removeprefix("sqlite:///")))
        mlflow.set_tracking_uri(uri)  # models and artifacts of http stores still ask for the global one
        self._uri, self._client = uri, mlflow.MlflowClient(uri)
        self.run_id, self.experiment_id, self.taken_up = run_id, experiment_id, taken_up
        self._points: dict[str, dict[int, Metric]] = {}  # of a run that is taken up: metric to step to last point

    @property
    def known(self) -> dict[str, Any]:
        """What it takes to make this object again."""
        return {
            "uri": self._uri,
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "taken_up": self.taken_up,
        }

    def open(self, header: Mapping[str, Any]) -> None:
        """Find or make the experiment, and start the run in it."""
        self.experiment_id = self._experiment(header["experiment"])
        run = self._client.create_run(
            self.experiment_id,
            start_time=int(header["started"] * 1000),
            run_name=header["run_name"],
            tags=header["tags"],
        )
        self.run_id = run.info.run_id

    def take_up(self, run_id: str, extra_epochs: str | None) -> bool:
        """Open an earlier run again, whatever its status; False where it was deleted.

        Args:
            run_id: of the earlier run.
            extra_epochs: that are added to a finished training; noted in a tag.
        """
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        if run.info.lifecycle_stage != "active":
            return False
        tags = run.data.tags
        self._client.update_run(run_id, status="RUNNING")
        if extra_epochs is not None:
            added = ", ".join(filter(None, [tags.get("training.extra_epochs"), extra_epochs]))
            self._client.set_tag(run_id, "training.extra_epochs", added)
        if "failure" in tags:
            self._client.delete_tag(run_id, "failure")
            if "mlflow.note.content" in tags:
                self._client.delete_tag(run_id, "mlflow.note.content")
        self.run_id, self.experiment_id, self.taken_up = run_id, run.info.experiment_id, True
        return True

    def close_lost(self, run_id: str) -> None:
        """Close an earlier run whose process is gone, if nobody did."""
        if self._client.get_run(run_id).info.status == "RUNNING":
            self._client.set_terminated(run_id, "KILLED")

    def next_step(self, name: str) -> int:
        """Return the first step at which a metric has no point yet."""
        return 1 + max(self._known_points(name), default=-1) if self.taken_up else 0

    def _known_points(self, name: str) -> Mapping[int, Metric]:
        """Return the last point at each step that a run that is taken up has of a metric, as it was found."""
        if name not in self._points:
            history = sorted(self._client.get_metric_history(self.run_id, name), key=lambda point: point.timestamp)
            self._points[name] = {point.step: point for point in history}
        return self._points[name]

    def _known_point(self, name: str, step: int, value: float) -> Metric | None:
        """Find the point of a run that is taken up that says the same, whatever its time."""
        if not self.taken_up or name.startswith(SYSTEM):
            return None
        point = self._known_points(name).get(step)
        same = point is not None and (point.value == value or (math.isnan(point.value) and math.isnan(value)))
        return point if same else None

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            database = Path(self._uri.removeprefix("sqlite:///"))
            location = (database.parent / "mlartifacts").as_uri() if is_local(self._uri) else None
            try:
                return self._client.create_experiment(name, artifact_location=location)
            except MlflowException:  # another run made it meanwhile
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"MLflow's experiment {name!r} was deleted and cannot take runs. Restore it (mlflow "
                f"experiments restore --experiment-id {found.experiment_id}), or set experiment in mlflow.yml."
            )
        return found.experiment_id

    def answers(self) -> bool:
        """Whether the store can be asked for the run at the moment."""
        try:
            self._client.get_run(self.run_id)
        except Exception:
            return False
        return True

    # -- operations

    def log_values(self, operations: Iterable[Operation]) -> None:
        """Send metrics, parameters and tags, many at once."""
        metrics: list[Metric] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for operation in operations:
            values: Mapping[str, Any] = operation["values"]
            if operation["op"] == "metrics":
                stamp = int(operation["time"] * 1000)
                step = operation["step"]
                metrics += [
                    Metric(key, value, stamp, step)
                    for key, value in values.items()
                    if self._known_point(key, step, value) is None
                ]
            elif operation["op"] == "params":
                params |= {_allowed(key): str(value)[:LONGEST_VALUE] for key, value in values.items()}
            else:
                tags |= {key: str(value) for key, value in values.items()}
        if params and self.taken_up:
            there = self._client.get_run(self.run_id).data.params
            params = {key: value for key, value in params.items() if key not in there}
        for part in _parts(metrics, AT_ONCE["metrics"]):
            self._client.log_batch(self.run_id, metrics=part)
        for part in _parts([Param(*item) for item in params.items()], AT_ONCE["params"]):
            self._client.log_batch(self.run_id, params=part)
        for part in _parts([RunTag(*item) for item in tags.items()], AT_ONCE["tags"]):
            self._client.log_batch(self.run_id, tags=part)

    def log_artifact(self, path: Path, folder: str | None) -> None:
        """Send a file or a folder."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), "/".join(filter(None, (folder, path.name))))
        else:
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_figure(self, path: Path, folder: str | None) -> None:
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

        samples = pd.read_parquet(path)
        inputs = []
        for split, table in samples.groupby("split", sort=False):
            dataset = from_pandas(table, source=HTTPDatasetSource(source), name=f"{name} {split}")
            inputs.append(
                DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", str(split))]),
            )
        self._client.log_inputs(self.run_id, inputs)

    def create_model(self, operation: Operation) -> str:
        """Make the entry of a model, and give its id; or that of one that was begun for the same epoch before."""
        run = self._client.get_run(self.run_id)
        if self.taken_up and (begun := self._begun_model(run, operation["step"])):
            return begun
        model = self._client.create_logged_model(
            self.experiment_id,
            name=operation["name"],
            source_run_id=self.run_id,
            params=run.data.params,
            tags={"problem": operation["problem"]},
            model_type="segmentation",
        )
        return model.model_id

    def _begun_model(self, run: Run, step: int) -> str | None:
        begun = self._client.search_logged_models(
            [self.experiment_id], filter_string=f"source_run_id = '{self.run_id}'"
        )
        steps = _models_of(run)
        return next((model.model_id for model in begun if steps.get(model.model_id, step) == step), None)

    def log_model(self, model_id: str, path: Path, operation: Operation) -> None:
        """Build the model's folder, send it, and link it to the run and to the metrics of its epoch and of the test."""
        from unet_segmentation.tracking.pyfunc_builder import build_model

        folder = path / "mlflow"
        shutil.rmtree(folder, ignore_errors=True)
        location = self._client.get_logged_model(model_id).artifact_location
        build_model(path, folder, model_id=model_id, run_id=self.run_id, location=location)
        self._client.log_model_artifacts(model_id, str(folder))
        self._client.finalize_logged_model(model_id, "READY")
        if model_id not in _models_of(self._client.get_run(self.run_id)):
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step=operation["step"])])
        self._link_metrics(model_id, operation)

    def _link_metrics(self, model_id: str, operation: Operation) -> None:
        linked = []
        for name, (value, stamp) in operation["metrics"].items():
            known = self._known_point(name, 0, value)
            linked.append(Metric(name, value, known.timestamp if known else int(stamp * 1000), 0, model_id=model_id))
        for name in self._client.get_run(self.run_id).data.metrics:
            if name.startswith(("train/", "validation/")):
                linked += [
                    Metric(name, point.value, point.timestamp, point.step, model_id=model_id)
                    for point in self._client.get_metric_history(self.run_id, name)
                    if point.step == operation["step"]
                ]
        for part in _parts(linked, AT_ONCE["metrics"]):
            self._client.log_batch(self.run_id, metrics=part)

    def end(self, operation: Operation) -> None:
        """Close the run, with the reason where it did not finish."""
        if reason := operation.get("reason"):
            note = f"**{operation['status']}**: {reason}"
            for key, value in {"failure": reason, "mlflow.note.content": note}.items():
                self._client.set_tag(self.run_id, key, value[:LONGEST_VALUE])
        self._client.set_terminated(self.run_id, operation["status"], int(operation["time"] * 1000))


def _allowed(key: str) -> str:
    """Replace what MLflow takes in no name: a key may hold what a person has called a variant."""
    return re.sub(r"[^\w/.\- :]", "_", key)


def _models_of(run: Run) -> dict[str, int]:
    """Return the models that a run has as outputs: id to step."""
    return {output.model_id: output.step for output in run.outputs.model_outputs} if run.outputs else {}


def _parts(entries: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))
