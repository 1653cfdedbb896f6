"""The settings of `conf/base/mlflow.yml`, and which MLflow store they mean."""

from __future__ import annotations

import difflib
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from unet_segmentation.errors import ConfigurationError, TrackingError
from unet_segmentation.utils.strict_model import StrictModel

REQUEST_TIMEOUT = 10.0  # seconds
LOCAL_SERVER = "http://127.0.0.1:5000"  # where `make mlflow` listens
URI_VARIABLE = "MLFLOW_TRACKING_URI"
NETWORK_ERRORS = ("Connection refused", "Name or service not known", "Network is unreachable", "timed out")
STORE_HELP = (
    f"Start the server, correct {URI_VARIABLE} (or uri in conf/base/mlflow.yml), unset it to use a store of the "
    "project's own, or run without tracking (enabled: false in conf/local/mlflow.yml)."
)


class TrackingSettings(StrictModel):
    """The settings of mlflow.yml, which explains each."""

    enabled: bool = True
    uri: str | None = None  # null: `mlflow.db` at the project's root; the variable MLFLOW_TRACKING_URI goes before it
    experiment: str | None = None  # null: the problem's name
    run_name: str | None = None  # null: the network's name and the time
    system_metrics: bool = True
    system_metrics_seconds: float = Field(default=5.0, ge=0.5)
    timeout_seconds: float = Field(default=10.0, gt=0)  # for a server to answer one request
    upload_timeout_seconds: float = Field(default=15.0, ge=0)  # that the end of a run waits for a server


def read_settings(values: Mapping[str, Any]) -> TrackingSettings:
    """Check the settings; raise ConfigurationError that names each wrong key, and the nearest to an unknown one."""
    try:
        return TrackingSettings.model_validate(dict(values))
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(problem)}" for problem in error.errors(include_url=False))
        raise ConfigurationError(f"mlflow.yml is not valid:\n{lines}") from None


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]} (given: {problem['input']!r})"
    names = list(TrackingSettings.model_fields)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"{key}: there is no such setting; " + (f"did you mean {near[0]!r}?" if near else f"known: {names}")


def store_uri(settings: TrackingSettings, root: Path) -> str:
    """Return the MLflow store: the environment's, else the settings', else the project's own.

    A relative SQLite path is taken from the project's root, whatever the current directory.
    """
    uri = os.environ.get(URI_VARIABLE) or settings.uri or "sqlite:///mlflow.db"
    prefix = "sqlite:///"
    if uri.startswith(prefix):
        return prefix + (root / uri.removeprefix(prefix)).resolve().as_posix()
    return uri.rstrip("/")


def configure_mlflow(timeout: float) -> None:
    """Set MLflow's environment variables, some of which it reads on import: short timeouts, no output."""
    os.environ.update(
        MLFLOW_HTTP_REQUEST_TIMEOUT=str(max(1, round(timeout))),
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MLFLOW_CONFIGURE_LOGGING="false",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
        MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING="false",
    )


def is_local(uri: str) -> bool:
    """Return whether the store is a SQLite file of this machine."""
    return uri.startswith("sqlite:///")


def is_server(uri: str) -> bool:
    """Return whether the store is an MLflow server."""
    return urlsplit(uri).scheme in {"http", "https"}


def first_line(error: BaseException) -> str:
    """Return the first line of an error, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def run_url(uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run in MLflow's UI."""
    host = uri if is_server(uri) else LOCAL_SERVER
    return f"{host}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def check_store(uri: str, timeout: float) -> None:
    """Check within seconds, and without MLflow, that the store is there; raise TrackingError where it is not."""
    if is_local(uri):
        _check_database(Path(uri.removeprefix("sqlite:///")))
    elif is_server(uri):
        _check_server(uri, min(timeout, 5.0))
    elif urlsplit(uri).scheme in {"", "file"} or Path(uri).exists():
        raise TrackingError(
            f"MLflow no longer keeps runs in folders, and {uri!r} names one. Use a SQLite file "
            f"(sqlite:///mlflow.db) or a server (http://...). {STORE_HELP}"
        )


def _check_database(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        exists = path.exists()  # else it is created with the first run, atomically
        if exists:
            with closing(sqlite3.connect(path, timeout=2)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(f"The MLflow store {path} cannot be opened: {error}. {STORE_HELP}") from error
    if not os.access(path if exists else path.parent, os.W_OK):
        refused = "written to" if exists else "made"
        raise TrackingError(f"The MLflow store {path} cannot be {refused}: no permission. {STORE_HELP}")


def _check_server(uri: str, timeout: float) -> None:
    import requests

    try:
        answer = requests.get(f"{uri}/health", timeout=timeout)
    except requests.RequestException as error:
        text = str(error.__context__ or error) if isinstance(error, requests.Timeout) else str(error)
        reason = next((part.lower() for part in NETWORK_ERRORS if part in text), text)
        raise TrackingError(f"The MLflow server at {uri} cannot be reached: {reason}. {STORE_HELP}") from error
    if answer.status_code >= 500:
        raise TrackingError(f"The MLflow server at {uri} answers {answer.status_code} {answer.reason}. {STORE_HELP}")
