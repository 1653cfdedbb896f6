"""What the hooks know of one run."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unet_segmentation.parameters.serialization import to_builtin

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import AbstractDataset, DataCatalog
    from kedro.pipeline import Pipeline

    from unet_segmentation.tracking.resume import TrainingClaim
    from unet_segmentation.tracking.run import OpenRun, UploadResult


class RunState:
    """One run, from the making of Kedro's context to its end."""

    def __init__(self, context: KedroContext) -> None:
        self.context = context
        self.catalog: DataCatalog
        self.unopened: Pipeline | None = None  # the pipeline, until the MLflow run is opened
        self.opening = threading.Lock()  # held while it is opened
        self.pipeline_names: list[str] = []
        self.run: OpenRun | None = None  # the MLflow run; None where nothing is tracked
        self.claim: TrainingClaim | None = None  # of the training that the run has begun
        self.result: UploadResult | None = None  # of the closed run
        self.is_resumable = False  # whether the next run continues what this one has begun
        self.unlogged_inputs: set[str] = set()  # that the run starts from, until they are loaded

    @property
    def problem(self) -> str:
        """Return the name of the segmentation problem."""
        return str(self.context.params.get("problem", ""))

    @property
    def parameters(self) -> dict[str, object]:
        """Return all parameters, nested, as plain values."""
        parameters: dict[str, object] = to_builtin(self.context.params)
        return parameters

    @property
    def root(self) -> Path:
        """Return the project's root."""
        return Path(self.context.project_path)

    def metadata(self, dataset: str, key: str) -> Mapping[str, object]:
        """Return what a catalog entry's metadata hold under a key."""
        if dataset not in self.catalog:
            return {}
        return (getattr(self.catalog[dataset], "metadata", None) or {}).get(key) or {}

    def finish(self, status: str, reason: str | None = None) -> None:
        """Close the MLflow run, and note how the training ended; only the first call counts."""
        if self.run is not None and self.result is None:
            self.result = self.run.finish(status, reason)
        if self.claim is not None:
            self.claim.finish(status)

    @property
    def summary_lines(self) -> list[str]:
        """Return where the closed run can be seen, and whether anything of it is still to be sent."""
        if self.result is None:
            return []
        link, message = self.result.link, self.result.message
        hint = "   (start it with: make mlflow)" if (link or "").startswith("http://127.0.0.1:5000/") else ""
        return [*([f"MLflow     {link}{hint}"] if link else []), *([message] if message else [])]


def path_of(dataset: AbstractDataset[object, object]) -> Path | None:
    """Return the file or folder of a dataset; None where it has none."""
    for name in ("_filepath", "_path"):
        if (path := getattr(dataset, name, None)) is not None:
            return Path(str(path))
    return None


def command_line() -> str:
    """Return the user's command line."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
