"""Kedro sessions, as the project's commands open them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from unet_segmentation.errors import ProjectError

if TYPE_CHECKING:
    from kedro.framework.session import KedroSession

    from unet_segmentation.tracking.settings import TrackingSettings


class TrackedProblem(NamedTuple):
    """A problem and the MLflow store that its runs are in."""

    root: Path  # of the project
    uri: str  # MLflow's tracking URI
    name: str


def project_root() -> Path:
    """Return the project that the current folder lies in; raise ProjectError where there is none."""
    from kedro.utils import find_kedro_project

    root = find_kedro_project(Path.cwd())
    if root is None:
        raise ProjectError("There is no Kedro project here: change to the project's folder.")
    return root


def with_options(params: Mapping[str, Any], section: str, options: Mapping[str, object]) -> dict[str, Any]:
    """Return `--params` with a command's own options in a section; an option that is None was not used."""
    used = {name: value for name, value in options.items() if value is not None}
    return {**params, section: {**params.get(section, {}), **used}}


@contextmanager
def open_session(problem: str | None, params: Mapping[str, object] | None = None) -> Iterator[KedroSession]:
    """Open a Kedro session of the project; `params` override the parameters of the problem's files."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    root = project_root()
    bootstrap_project(root)
    with KedroSession.create(project_path=root, env=problem, runtime_params=dict(params or {})) as session:
        yield cast("KedroSession", session)


def run_pipeline(session: KedroSession, name: str) -> None:
    """Run a pipeline whose command, called again, resumes by itself: what Kedro says of resuming would mislead."""
    logging.getLogger("kedro.runner").setLevel(logging.ERROR)
    session.run(pipeline_names=[name])


def read_settings(problem: str | None) -> TrackingSettings:
    """Read the tracking settings of a problem."""
    from unet_segmentation.hooks.mlflow import read_tracking_settings

    with open_session(problem) as session:
        return read_tracking_settings(session.load_context().config_loader)


def read_parameters(problem: str | None) -> dict[str, Any]:
    """Read the parameters of a problem, as its files have them."""
    with open_session(problem) as session:
        return dict(session.load_context().config_loader["parameters"])


def open_store(problem: str | None) -> TrackedProblem:
    """Check that MLflow's store answers, for commands that read runs.

    Raises:
        TrackingError: it does not.
    """
    from kedro.framework.project import settings as project_settings

    from unet_segmentation.tracking.settings import check_store, configure_mlflow, store_uri

    root, settings = project_root(), read_settings(problem)
    uri = store_uri(settings, root)
    check_store(uri, settings.timeout_seconds)
    configure_mlflow(settings.timeout_seconds)
    name = problem or os.environ.get("KEDRO_ENV") or project_settings.CONFIG_LOADER_ARGS["default_run_env"]
    return TrackedProblem(root, uri, name)
