"""Download models that were logged in MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from unet_segmentation.errors import ConfigurationError, ReleaseError, TrackingError
from unet_segmentation.tracking import active_tracking_uri
from unet_segmentation.tracking.model_registry import CHAMPION, Registry, find_model
from unet_segmentation.tracking.run_queries import find_run, finished_runs
from unet_segmentation.tracking.settings import first_line
from unet_segmentation.utils.atomic_io import atomic_write

WEIGHTS, INFERENCE = "best.safetensors", "inference.json"  # as `package_model` names them


class LoggedModel(NamedTuple):
    """A logged model on this machine."""

    file: Path  # safetensors
    inference: dict[str, Any]  # the predictor's parameters that it was evaluated with
    title: str  # in messages
    run_id: str


def named_model(name: str, problem: str, cache: Path, *, asked_by: str) -> LoggedModel:
    """Download a model by its name, from the MLflow store of the active run.

    The name is `champion`, or a run: its id, a prefix of it, or its name; `asked_by` is the parameter that holds it.
    The cache gets a directory for each model.

    Raises:
        ConfigurationError: tracking is off.
        ReleaseError: there is no champion yet, or the run has logged no model.
        TrackingError: there is no such run, or its files cannot be downloaded.
    """
    uri = active_tracking_uri()
    if uri is None:
        raise ConfigurationError(
            f"{asked_by}: {name} would be looked for in MLflow, and tracking is off. Name a model file "
            "(.safetensors), or set enabled: true in mlflow.yml."
        )
    if name != CHAMPION:
        run = find_run(uri, name, problem)
        return _download(uri, find_model(uri, run.run_id), f"the model of run {run}", run.run_id, cache)
    if (champion := champion_model(uri, problem, cache)) is None:
        raise ReleaseError(
            f"No model of {problem} was released yet. Release one: kedro release --env {problem}. Or name a run, or a "
            "model file."
        )
    return champion


def champion_model(uri: str, problem: str, cache: Path) -> LoggedModel | None:
    """Download the released model of a problem; None where there is none."""
    version = Registry(uri, problem).champion()
    if version is None:
        return None
    title = f"the champion, {version} (run {version.run_id[:8]})"
    model_id = version.model_id or find_model(uri, version.run_id)
    return _download(uri, model_id, title, version.run_id, cache)


def newest_model(uri: str, problem: str, cache: Path) -> LoggedModel | None:
    """Download the model of the newest finished run that has one; None where none has."""
    for run in finished_runs(uri, problem):
        try:
            model_id = find_model(uri, run.run_id)
        except ReleaseError:  # a run without a model: of preparation, or of another prediction
            continue
        return _download(uri, model_id, f"the model of the newest finished run, {run}", run.run_id, cache)
    return None


def _download(uri: str, model_id: str, title: str, run_id: str, cache: Path) -> LoggedModel:
    folder = cache / model_id
    if not folder.is_dir():
        import mlflow

        mlflow.set_tracking_uri(uri)
        with atomic_write(folder) as temporary:
            temporary.mkdir(parents=True)
            try:
                location = mlflow.MlflowClient(uri).get_logged_model(model_id).artifact_location
                mlflow.artifacts.download_artifacts(f"{location}/artifacts", dst_path=str(temporary))
            except Exception as error:  # each kind of store has its own
                raise TrackingError(
                    f"The files of {title} ({model_id}) cannot be downloaded from {uri}: {first_line(error)}"
                ) from error
    files = {file.name: file for file in folder.rglob("*") if file.is_file()}
    if WEIGHTS not in files:
        raise TrackingError(f"{title} ({model_id}) holds no {WEIGHTS}: it was not logged by this project.")
    inference = json.loads(files[INFERENCE].read_text(encoding="utf-8")) if INFERENCE in files else {}
    return LoggedModel(files[WEIGHTS], inference, title, run_id)
