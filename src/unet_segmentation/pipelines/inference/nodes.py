"""Nodes of the inference pipeline: thin, the work is done in ``unet_segmentation.inference``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.inference.backend_selection import BackendCheck
from unet_segmentation.inference.model_reference import ModelReference, ModelSources
from unet_segmentation.inference.summary import PredictionSummary
from unet_segmentation.parameters import InferenceParameters, PredictorParameters, SourceParameters

logger = logging.getLogger(__name__)


def choose_model(
    problem: str,
    inference: InferenceParameters,
    predictor_params: PredictorParameters,
    trained: Path | None,
    fold_models: dict[str, str] | None,
    cache: Path,
) -> ModelReference:
    """Find the model that predicts, see `ModelSources`; log where it will be applied otherwise than it was evaluated.

    Raises:
        ConfigurationError: there is no such model, none at all, or no such backend.
        TrackingError: MLflow does not answer, or there is no such run.
    """
    from unet_segmentation.inference.backends.base import BACKENDS

    if inference.backend != "auto":
        BACKENDS[inference.backend]  # refused now, not after a download
    model = ModelSources(problem, trained, fold_models, cache).find(inference.model)
    logger.info("Model: %s", model.title)
    for key, value in model.inference.items():
        if (now := predictor_params.model_dump(mode="json").get(key, value)) != value:
            logger.info("predictor.%s is %s; this model was evaluated with %s", key, now, value)
    tracking.active_run().set_tags({"inference.model": model.title, "prediction.run": model.run_id})
    return model


def list_images(inference: InferenceParameters, source: SourceParameters) -> pd.DataFrame:
    """Find the images to predict.

    Returns:
        Columns root, path, name (of the results), stamp (changes when the file does).

    Raises:
        DataError: there is no image.
        ConfigurationError: nothing was named.
    """
    from unet_segmentation.inference.input_discovery import list_inputs

    if inference.source is None:
        raise ConfigurationError(
            "inference.source: say what is to be predicted: kedro predict FOLDER, or "
            "kedro run --pipelines inference --params inference.source=FOLDER"
        )
    storage, inputs = list_inputs(inference.source, inference.storage_options or source.storage_options)
    logger.info("%d images in %s", len(inputs), inference.source)
    return pd.DataFrame(inputs, columns=["path", "name", "stamp"]).assign(root=storage.root)


def predict_images(
    model: ModelReference,
    inputs: pd.DataFrame,
    inference: InferenceParameters,
    predictor_params: PredictorParameters,
    source: SourceParameters,
    backends_dir: Path,
    results_folder: Path,
) -> tuple[pd.DataFrame, PredictionSummary, BackendCheck]:
    """Predict the images that are not finished yet, and write the outputs of each.

    Returns:
        A row for each image; counts, with the results' folder; and the backend that predicted.

    Raises:
        ResourceError: the disk is full.
    """
    from unet_segmentation.data.io.filesystem import FileStore
    from unet_segmentation.inference.backend_selection import choose_backend
    from unet_segmentation.inference.ensemble import common_spec
    from unet_segmentation.inference.input_discovery import Input
    from unet_segmentation.inference.predict_folder import (
        FolderJob,
        cache_key,
        locked_folder,
        plan_folder,
        predict_folder,
    )
    from unet_segmentation.inference.summary import prediction_table
    from unet_segmentation.inference.writers import TABLE, results_name
    from unet_segmentation.models.model_file import read_header
    from unet_segmentation.utils.atomic_io import atomic_write

    files = [Path(file) for file in model.files]
    spec = common_spec([read_header(file).spec for file in files])
    name = results_name(str(inference.source))
    folder = Path(inference.output).expanduser() if inference.output else results_folder / name
    storage = FileStore(str(inputs["root"].iloc[0]), inference.storage_options or source.storage_options)
    made_by = inference.model_dump(include={"backend", "overlay", "probabilities", "polygons"})
    key = cache_key(weights=model.sha256, inference=predictor_params.model_dump(mode="json"), **made_by)
    job = FolderJob(spec, predictor_params, storage, folder, inference, key)
    with locked_folder(folder):
        plan = plan_folder(job, [Input(*each) for each in inputs[["path", "name", "stamp"]].itertuples(index=False)])
        backend, check = choose_backend(
            files,
            plan.examples,
            name=inference.backend,
            folder=backends_dir,
            expected_images=plan.expected_images,
        )
        logger.info("%s: %.3f %% of the pixels as in float32", backend.name, 100 * check.agreement)
        table = prediction_table(predict_folder(job, plan, backend))
    with atomic_write(folder / TABLE) as temporary:
        table.to_csv(temporary, index=False)
    summary = PredictionSummary.from_table(table, folder)
    counts = {"images": summary.images, "failed": summary.failed, "out_of_distribution": summary.out_of_distribution}
    tracking.active_run().log_metrics({f"prediction/{name}": float(count) for name, count in counts.items()})
    return table, summary, check


def draw_contact_sheet(table: pd.DataFrame, summary: PredictionSummary) -> Any:  # noqa: ANN401 - a PIL image
    """Draw the first predictions, flagged ones before the others."""
    from unet_segmentation.inference.summary import draw_contact_sheet

    return draw_contact_sheet(table, Path(summary.folder))


def fail_if_any_image_failed(table: pd.DataFrame, summary: PredictionSummary, sheet: Path) -> None:
    """Log where the results are, after all of them were saved.

    Raises:
        DataError: an image could not be predicted; the others are done.
    """
    from unet_segmentation.inference.summary import failure_message

    logger.info("Predictions  %s", summary.folder)
    logger.info("Sheet        %s", sheet)
    if (count := summary.out_of_distribution) > 0:
        logger.info("%d images are unlike the training data: see the column flags of predictions.csv", count)
    if (message := failure_message(table, summary.folder)) is not None:
        raise DataError(message)
