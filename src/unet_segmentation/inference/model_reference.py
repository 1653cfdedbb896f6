"""The model that predicts: its files, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models.model_file import weights_sha256

FOLDS = "cv-ensemble"


@dataclass(frozen=True)
class ModelReference:
    """One network, or several that are averaged."""

    files: list[str]  # safetensors
    title: str  # for people, such as `version 3 of cells, the champion`
    run_id: str  # of the MLflow run that made it; empty where it is not known, or there are several
    sha256: list[str]  # of each file's weights
    inference: Mapping[str, Any]  # the predictor's parameters that it was evaluated with; empty if not known

    @classmethod
    def of(
        cls, files: Sequence[Path], title: str, run_id: str = "", inference: Mapping[str, Any] | None = None
    ) -> Self:
        """Describe model files.

        Raises:
            ConfigurationError: a file is not there.
        """
        for file in files:
            if not file.is_file():
                raise ConfigurationError(f"There is no model file {file} (looked for at {file.absolute()}).")
        sha256 = [weights_sha256(file) for file in files]
        return cls([str(file) for file in files], title, run_id, sha256, inference or {})

    @classmethod
    def ensemble(cls, models: Sequence[Self]) -> Self:
        """Combine models into one whose networks are averaged."""
        if len(models) == 1:
            return models[0]
        return cls(
            [file for model in models for file in model.files],
            f"the mean of {', '.join(model.title for model in models)}",
            "",
            [digest for model in models for digest in model.sha256],
            models[0].inference,
        )


@dataclass(frozen=True)
class ModelSources:
    """Where a problem's models are found."""

    problem: str  # its name, in MLflow, too
    trained: Path | None  # the model of the last training; None where there is none
    fold_models: Mapping[str, str] | None  # of each fold of the last cross-validation; None where there is none
    cache: Path  # holds models that were fetched from MLflow

    def find(self, names: Sequence[str]) -> ModelReference:
        """Find the models that a user names; none: the champion, else the newest, else that of the last training.

        Raises:
            ConfigurationError: there is no such model, or none at all.
            TrackingError: MLflow does not answer, or there is no such run.
        """
        return ModelReference.ensemble([self._find_named(name) for name in names]) if names else self._find_default()

    def _find_named(self, name: str) -> ModelReference:
        if name == FOLDS:
            if self.fold_models is None:
                raise ConfigurationError(
                    "inference.model: cv-ensemble: there is no cross-validation of this problem yet. Run one: "
                    "kedro run --pipelines cross_validation"
                )
            files = [Path(file) for file in self.fold_models.values()]
            return ModelReference.of(files, f"the mean of the {len(files)} networks of the last cross-validation")
        if name.endswith(".safetensors"):
            return ModelReference.of([Path(name).expanduser()], f"the model in {name}")
        from unet_segmentation.tracking.model_download import named_model

        logged = named_model(name, self.problem, self.cache, asked_by="inference.model")
        return ModelReference.of([logged.file], logged.title, logged.run_id, logged.inference)

    def _find_default(self) -> ModelReference:
        from unet_segmentation.tracking import active_tracking_uri

        if (uri := active_tracking_uri()) is not None:
            from unet_segmentation.tracking.model_download import champion_model, newest_model

            place = uri, self.problem, self.cache
            if (logged := champion_model(*place) or newest_model(*place)) is not None:
                return ModelReference.of([logged.file], logged.title, logged.run_id, logged.inference)
        if self.trained is not None:
            return ModelReference.of([self.trained], f"the model in {self.trained}")
        raise ConfigurationError(f"There is no model of {self.problem} yet. Train one: kedro run --env {self.problem}")
