"""The run that nodes log to: what can be logged."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

DATASET_COLUMNS = ("sample_id", "group", "split", "height", "width", "image_sha256")


class NewFile(NamedTuple):
    """A file that is made only to be logged."""

    name: str
    write: Callable[[Path], object]  # to a path


class Run:
    """A run that can be logged to, from any thread. This one keeps nothing: it stands in where tracking is off.

    Each method appends one operation, named as the method of `MlflowRunClient` that sends it.
    """

    enabled = False  # whether anything is tracked
    uri: str | None = None  # MLflow's tracking URI, where anything is tracked
    run_id: str | None = None  # MLflow's, as soon as there is one
    experiment_id: str | None = None  # MLflow's

    def _append(self, operation: str, content: Path | NewFile | None = None, **arguments: object) -> None:
        """Append an operation, with the file or folder that belongs to it."""

    def decide_resumption(self, resumed: bool) -> None:
        """Decide whether an interrupted run of the same configuration is continued, or a new one started.

        The training node decides as soon as it knows its data. Only the first call counts; without one the interrupted
        run is continued. In a nested run it does nothing.
        """

    def start_nested_run(self, name: str, note: Path, tags: Mapping[str, object], started: float | None = None) -> Run:
        """Start a run nested below this one, at a time (seconds since 1970; now, if None).

        The file `note` remembers the MLflow run: where it exists, that run is reopened and moves below this one.
        """
        return Run()

    def log_model(
        self, build: Callable[[Path], object], metrics: Mapping[str, object], step: int
    ) -> dict[str, str | None]:
        """Log a model and wait until it was sent.

        Args:
            build: builds the folder of the MLflow model at a path; is not called where tracking is off.
            metrics: the test scores, linked to the model under `test/...`; None is skipped.
            step: the epoch of the weights.

        Returns:
            JSON: `model_uri` (None where nothing was logged, or not yet), `model_id`, `run_id`, `experiment_id`,
            `tracking_uri` and `status` (`logged`, `pending`, or why there is no model).
        """
        ids = dict.fromkeys(("model_uri", "model_id", "run_id", "experiment_id", "tracking_uri"))
        return {**ids, "status": "tracking is off"}

    def log_metrics(self, values: Mapping[str, float], step: int = 0, time: float | None = None) -> None:
        """Log numbers under `group/name`; NaN is kept.

        The step is the epoch, or 0 for what has none; the time is in seconds since 1970 (now, if None). The same name,
        step, time and value twice is one point.
        """
        if values:
            numbers = {name: float(value) for name, value in values.items()}
            self._append("log_metrics", values=numbers, step=step, time=clock.time() if time is None else time)

    def log_params(self, values: Mapping[str, object]) -> None:
        """Log parameters: dotted key to value. A key cannot be logged again with another value."""
        self._append("log_params", values=as_texts(values))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; the last value counts."""
        self._append("set_tags", values=as_texts(tags))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all in it, as it is now; it may be changed or removed afterwards."""
        self._append("log_artifact", Path(path), folder=folder)

    def log_figure_html(self, figure: Path, folder: str | None = None) -> None:
        """Log a Plotly figure (its JSON file) as an HTML page that opens without a network."""
        self._append("log_figure_html", Path(figure), folder=folder)

    def log_dataset(self, samples: pd.DataFrame, name: str, source: str) -> None:
        """Log the samples table as the run's inputs, one per split."""
        columns = [column for column in DATASET_COLUMNS if column in samples]
        table = NewFile("samples.parquet", lambda path: samples[columns].to_parquet(path, index=False))
        self._append("log_dataset", table, name=name, source=source)

    def close(self, status: str, reason: str | None = None, time: float | None = None) -> None:
        """Close a nested run as `FINISHED`, `FAILED` or `KILLED`. Where nobody does, it ends as its parent does."""
        self._append("close", status=status, reason=reason, time=clock.time() if time is None else time)


def as_texts(values: Mapping[str, object]) -> dict[str, str]:
    """Return each value as MLflow stores it."""
    return {key: str(value) for key, value in values.items()}
