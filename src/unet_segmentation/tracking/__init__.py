"""What a run tells MLflow. Nothing here imports MLflow: a process beside the run does.

A node asks for the run with `current()` and logs to it; where tracking is off, or no run is open, the answer is a
null object and nothing happens. Whatever is logged is first appended to a spool on the disk, so logging is a matter of
microseconds, needs no server, never raises, and may come from any thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unet_segmentation.parameters import PredictorParameters

SPOOL_VARIABLE = "UNET_TRACKING_SPOOL"
ANSWER_SECONDS = 10.0  # for one answer of a server


class Run(Protocol):
    """A run that can be logged to."""

    @property
    def enabled(self) -> bool:
        """Whether anything is tracked."""

    @property
    def uri(self) -> str | None:
        """The MLflow store that the run is told to; None where nothing is tracked."""

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; waits for it. None where there is none, or the store does not answer.

        Whoever asks before the training node has spoken (see `resumes`) settles that an unfinished run is taken up.
        """

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment, like `run_id`."""

    def resumes(self, yes: bool) -> None:
        """Return whether this run's training goes on with the unfinished one of the same configuration.

        The training node says it as soon as it knows; only the first word counts, and without one it goes on.

        Args:
            yes: it goes on, or the unfinished run had not begun to train. False: it starts anew, with other data, and
                gets an MLflow run of its own.
        """

    def log_metrics(self, values: Mapping[str, float], step: int = 0, time: float | None = None) -> None:
        """Log numbers under `group/name`.

        Args:
            values: name to number. NaN is kept.
            step: the epoch, or 0 for what has none.
            time: seconds since 1970; now, if None. The same name, step, time and value twice is one point.
        """

    def log_params(self, flat: Mapping[str, object]) -> None:
        """Log parameters: dotted key to value. A key cannot be logged again with another value."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; the last value counts."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all in it, as it is now; it may be changed or removed afterwards."""

    def log_figure_html(self, figure: Path, folder: str | None = None) -> None:
        """Log a Plotly figure, given as its JSON file, as an HTML page that opens without a network."""

    def log_dataset(self, samples: pd.DataFrame, name: str, source: str) -> None:
        """Log the samples table as the run's inputs, one per split."""

    def child(self, name: str, note: Path, tags: Mapping[str, object], started: float | None = None) -> Child:
        """Open a run within this one: nested below it in MLflow, and told of through the same spool and sender.

        Args:
            name: for people.
            note: a file that remembers which MLflow run it is: where it is there, that run is opened again, and
                belongs to this one from now on.
            tags: of the child.
            started: seconds since 1970; now, if None. Only for a child that is new.
        """

    def log_model(
        self, model: Path, inference: PredictorParameters, metrics: Mapping[str, Any], step: int, example: np.ndarray
    ) -> dict[str, Any]:
        """Log the trained network as an MLflow model that takes images and returns class ids.

        Args:
            model: `best.safetensors`.
            inference: the predictor's parameters; they travel with the model.
            metrics: the test scores, linked to the model under `test/...`; None is skipped.
            step: the epoch the weights are from.
            example: one image, uint8 (height, width, channels), or a batch of them.

        Returns:
            What can be saved as JSON: `model_uri` (None where nothing was logged, or not yet), `model_id`, `run_id`,
            `experiment_id`, `tracking_uri` and `status` (`logged`, `pending`, or why there is no model).
        """


class Child(Run, Protocol):
    """A run within a run; whoever opened it says how it ended."""

    def close(self, status: str, reason: str | None = None, time: float | None = None) -> None:
        """Close it. Where nobody does, it ends as the run around it does.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
            reason: why, where it did not finish.
            time: seconds since 1970; now, if None.
        """


class NullRun:
    """No run: everything may be said to it, nothing is kept."""

    enabled = False
    uri: str | None = None
    run_id: str | None = None
    experiment_id: str | None = None

    def resumes(self, yes: bool) -> None:
        """Keep nothing."""

    def log_metrics(self, values: Mapping[str, float], step: int = 0, time: float | None = None) -> None:
        """Keep nothing."""

    def log_params(self, flat: Mapping[str, object]) -> None:
        """Keep nothing."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Keep nothing."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep nothing."""

    def log_figure_html(self, figure: Path, folder: str | None = None) -> None:
        """Keep nothing."""

    def log_dataset(self, samples: pd.DataFrame, name: str, source: str) -> None:
        """Keep nothing."""

    def child(self, name: str, note: Path, tags: Mapping[str, object], started: float | None = None) -> Child:
        """Return a child that keeps nothing."""
        return NullRun()

    def close(self, status: str, reason: str | None = None, time: float | None = None) -> None:
        """Keep nothing."""

    def log_model(
        self, model: Path, inference: PredictorParameters, metrics: Mapping[str, Any], step: int, example: np.ndarray
    ) -> dict[str, Any]:
        """Log no model."""
        return {
            "model_uri": None,
            "model_id": None,
            "run_id": None,
            "experiment_id": None,
            "tracking_uri": None,
            "status": "tracking is off",
        }


_current: Run = NullRun()


def current() -> Run:
    """Return the open run of this process (or of the one that started it), else a null object."""
    if not _current.enabled and (spool := os.environ.get(SPOOL_VARIABLE)):
        from unet_segmentation.tracking.run import SpooledRun

        set_current(SpooledRun(Path(spool)))
    return _current


def set_current(run: Run | None) -> None:
    """Make a run the one that `current()` gives; None for no run."""
    global _current  # noqa: PLW0603 - one run per process, whatever the thread
    _current = run or NullRun()


def readable_store() -> str | None:
    """Return the MLflow store of the open run, for nodes that read runs and models; None where tracking is off."""
    from unet_segmentation.tracking.sender import prepare_environment

    run = current()
    if run.run_id is None or run.uri is None:  # asking for the id waits until the store is there
        return None
    prepare_environment(ANSWER_SECONDS)
    return run.uri
