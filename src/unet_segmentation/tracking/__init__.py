"""What a run logs to MLflow.

A node asks for the run with `active_run()` and logs to it; where tracking is off, or no run is open, that run keeps
nothing. Whatever is logged is first appended to a journal on the disk, which a thread sends to MLflow: logging takes
microseconds, needs no server and never raises. Nothing here imports MLflow before a run is opened.
"""

from __future__ import annotations

from unet_segmentation.tracking.base import Run
from unet_segmentation.tracking.settings import REQUEST_TIMEOUT, configure_mlflow

__all__ = ["Run", "active_run", "active_tracking_uri", "set_active_run"]

_active = Run()


def active_run() -> Run:
    """Return the open run of this process, else one that keeps nothing."""
    return _active


def set_active_run(run: Run | None) -> None:
    """Make a run the one that `active_run()` returns; None for no run."""
    global _active  # noqa: PLW0603 - one run per process, whatever the thread
    _active = run or Run()


def active_tracking_uri() -> str | None:
    """Return the MLflow tracking URI of the open run, for nodes that read runs and models; None: tracking is off."""
    if _active.uri is not None:
        configure_mlflow(REQUEST_TIMEOUT)
    return _active.uri
