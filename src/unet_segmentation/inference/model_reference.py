"""The model that predicts: its files, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from unet_segmentation.errors import ConfigurationError


@dataclass(frozen=True)
class Model:
    """One network, or several that are averaged.

    Attributes:
        files: safetensors files.
        title: for people, such as `version 3 of cells, the champion`.
        run_id: of the MLflow run that made it; empty where it is not known, or there are several.
        sha256: of each file's weights.
        inference: the predictor's parameters that it was evaluated with; empty where they are not known.
    """

    files: list[str]
    title: str
    run_id: str
    sha256: list[str]
    inference: dict[str, Any]

    @classmethod
    def of(cls, files: Sequence[Path], title: str, run_id: str = "", inference: dict[str, Any] | None = None) -> Self:
        """Describe model files.

        Raises:
            ConfigurationError: a file is not there.
        """
        from unet_segmentation.tracking.run_metadata import weights_sha256

        for file in files:
            if not file.is_file():
                raise ConfigurationError(f"There is no model file {file} (looked for at {file.absolute()}).")
        sums = [weights_sha256(file) for file in files]
        return cls([str(file) for file in files], title, run_id, sums, inference or {})

    @classmethod
    def together(cls, models: Sequence[Self]) -> Self:
        """Make an ensemble of several models."""
        if len(models) == 1:
            return models[0]
        return cls(
            [file for model in models for file in model.files],
            f"the mean of {', '.join(model.title for model in models)}",
            "",
            [digest for model in models for digest in model.sha256],
            models[0].inference,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `Model(**values)` takes."""
        return asdict(self)
