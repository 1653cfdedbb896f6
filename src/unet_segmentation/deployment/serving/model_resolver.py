"""Which model is served: the champion, the model of a run, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_segmentation.deployment.serving.model_service import ServedModel
from unet_segmentation.errors import ConfigurationError, ReleaseError

CHAMPION = "champion"
SHORT = 8  # digits of an id that people are shown


def champion(uri: str, problem: str) -> ServedModel | None:
    """Return the released model of a problem; None where there is none."""
    from unet_segmentation.tracking.model_registry import Registry

    version = Registry(uri, problem).champion()
    if version is None:
        return None
    address = f"models:/{version.model_id}" if version.model_id else f"models:/{problem}/{version.number}"
    title = f"version {version.number} of {problem} (run {version.run_id[:SHORT]})"
    return ServedModel(address, str(version.number), title, version.run_id)


def find_target(reference: str, uri: str, problem: str, folder: Path, inference: Mapping[str, Any]) -> ServedModel:
    """Find the model to serve.

    The reference is `champion`; or an MLflow run, by its id, the beginning of one, or its name; or a `.safetensors`
    file, which is made a model in the empty folder, with these parameters of the predictor: a logged one has its own.

    Raises:
        ReleaseError: nothing was released yet; says what to do.
        ConfigurationError: there is no such file.
        TrackingError: there is no such run.
    """
    if reference == CHAMPION:
        released = champion(uri, problem)
        if released is None:
            raise _nothing_released(uri, problem)
        return released
    if reference.endswith(".safetensors"):
        return _of_file(Path(reference), folder, inference)
    from unet_segmentation.tracking.model_registry import find_model
    from unet_segmentation.tracking.run_queries import find_run

    run = find_run(uri, reference, problem)
    address = f"models:/{find_model(uri, run.run_id)}"
    return ServedModel(address, run.run_id[:SHORT], f"the model of run {run}", run.run_id)


def _nothing_released(uri: str, problem: str) -> ReleaseError:
    from unet_segmentation.tracking.run_queries import finished_runs

    trained = [run for run in finished_runs(uri, problem) if "test/dice/mean" in run.metrics]
    if not trained:
        return ReleaseError(
            f"No model of {problem} was released yet, and none was trained. Train one: kedro run --env {problem}. Then "
            f"release it: kedro release --env {problem}"
        )
    newest = trained[0].run_id[:SHORT]
    return ReleaseError(
        f"No model of {problem} was released yet. Release one: kedro release --env {problem}. Or serve the newest run "
        f"as it is: kedro serve --env {problem} --model {newest}"
    )


def _of_file(file: Path, folder: Path, inference: Mapping[str, Any]) -> ServedModel:
    """Make of a file what a run would have logged, so that it is served in the same way."""
    import numpy as np

    from unet_segmentation.deployment.serving.model_packaging import EXAMPLE_SIDE, package_model
    from unet_segmentation.models.model_file import read_header
    from unet_segmentation.parameters import PredictorParameters

    if not file.is_file():
        raise ConfigurationError(f"--model {file}: there is no such file (looked for at {file.resolve()}).")
    channels = read_header(file).spec.in_channels
    example = np.zeros((EXAMPLE_SIDE, EXAMPLE_SIDE, channels), np.uint8)
    built = folder / "mlflow"
    package_model(built, model=file, inference=PredictorParameters.model_validate(inference), example=example)
    return ServedModel(str(built), file.name, f"the model in {file}", "")
