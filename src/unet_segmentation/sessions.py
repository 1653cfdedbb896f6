"""Kedro sessions, as the project's commands open them. Kedro imports this at every command: nothing heavy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet_segmentation.errors import ProjectError


def project_root() -> Path:
    """Return the project that the current folder lies in.

    Raises:
        ProjectError: there is none.
    """
    from kedro.utils import find_kedro_project

    root = find_kedro_project(Path.cwd())
    if root is None:
        raise ProjectError("There is no Kedro project here: change to the project's folder.")
    return root


@contextmanager
def open_session(problem: str | None, params: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """Open a Kedro session of the project.

    Args:
        problem: the environment; None: Kedro's default.
        params: what goes before the files' parameters.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    root = project_root()
    bootstrap_project(root)
    with KedroSession.create(project_path=root, env=problem, runtime_params=dict(params or {})) as session:
        yield session


def run_pipeline(session: Any, name: str) -> None:  # noqa: ANN401 - a Kedro session
    """Run a pipeline whose command, given again, goes on by itself: what Kedro says of resuming would mislead."""
    logging.getLogger("kedro.runner").setLevel(logging.ERROR)
    session.run(pipeline_names=[name])
