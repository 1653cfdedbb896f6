"""Adapters between the catalog and the library: the model, the images, the pass over them, what is said of it."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.data.ingestion.urls import file_name
from unet_segmentation.data.io.filesystem import WEB
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.parameters import InferenceParameters, PredictorParameters, SourceParameters

if TYPE_CHECKING:
    from unet_segmentation.inference.backends.base import Backend, Image
    from unet_segmentation.inference.model_reference import Model

logger = logging.getLogger(__name__)

FOLDS = "cv-ensemble"
SHOWN = 16  # images of the sheet
NAMED = 5  # broken images that a message names


def choose_model(
    problem: str,
    prediction: InferenceParameters,
    inference: PredictorParameters,
    training_dir: Path,
    cache: Path,
) -> dict[str, Any]:
    """Find the model that predicts, and say which it is.

    Args:
        problem: the segmentation problem.
        prediction: names the model, or several.
        inference: how it will be applied; told where it was evaluated otherwise.
        training_dir: holds the problem's own model, and those of its folds.
        cache: keeps models that were fetched from MLflow.

    Returns:
        See `predicting.models.Model`.

    Raises:
        ConfigurationError: there is no such model, or none at all.
        TrackingError: MLflow does not answer, or there is no such run.
    """
    from unet_segmentation.inference.model_reference import Model

    wanted = prediction.model
    if wanted:
        model = Model.together([_named(name, problem, training_dir, cache) for name in wanted])
    else:
        model = _default(problem, training_dir, cache)
    logger.info("Model: %s", model.title)
    for key, value in model.inference.items():
        if (now := inference.model_dump(mode="json").get(key, value)) != value:
            logger.info("inference.%s is %s; this model was evaluated with %s", key, now, value)
    tracking.active_run().set_tags({"inference.model": model.title, "prediction.run": model.run_id})
    return model.as_json()


def _named(name: str, problem: str, folder: Path, cache: Path) -> Model:
    from unet_segmentation.inference.model_reference import Model

    if name == FOLDS:
        return _folds(folder)
    if name.endswith(".safetensors"):
        return Model.of([Path(name).expanduser()], f"the model in {name}")
    from unet_segmentation.tracking.model_download import named_model

    found = named_model(name, problem, cache, asked_by="inference.model")
    return Model.of([found.file], found.title, found.run_id, found.inference)


def _default(problem: str, folder: Path, cache: Path) -> Model:
    from unet_segmentation.inference.model_reference import Model

    if (uri := tracking.active_tracking_uri()) is not None:
        from unet_segmentation.tracking import model_download

        found = model_download.champion_model(uri, problem, cache) or model_download.newest_model(uri, problem, cache)
        if found is not None:
            return Model.of([found.file], found.title, found.run_id, found.inference)
    file = folder / "best.safetensors"
    if file.is_file():
        return Model.of([file], f"the model in {file}")
    raise ConfigurationError(f"There is no model of {problem} yet. Train one: kedro run --env {problem}")


def _folds(folder: Path) -> Model:
    from unet_segmentation.inference.model_reference import Model
    from unet_segmentation.training.run_directory import RunDirectory

    table = folder / "cv_runs.parquet"
    if not table.is_file():
        raise ConfigurationError(
            "inference.model: cv-ensemble: there is no cross-validation of this problem yet. Run one: "
            "kedro run --pipelines cross_validation"
        )
    trainings = pd.read_parquet(table)
    pairs = zip(trainings["fold"], trainings["fingerprint"], strict=True)
    files = [RunDirectory(folder / "folds" / str(fold), fingerprint).best for fold, fingerprint in pairs]
    return Model.of(files, f"the mean of the {len(files)} networks of the last cross-validation")


def list_images(prediction: InferenceParameters, source: SourceParameters) -> pd.DataFrame:
    """Find the images to predict.

    Args:
        prediction: names the folder, file, glob or URL.
        source: how a store is reached, where `prediction` does not say.

    Returns:
        Columns root, path, name (of the results), stamp (changes when the file does).

    Raises:
        DataError: there is no image.
        ConfigurationError: nothing was named.
    """
    from unet_segmentation.inference.input_discovery import list_inputs

    if prediction.source is None:
        raise ConfigurationError(
            "inference.source: say what is to be predicted: kedro predict FOLDER, or "
            "kedro run --pipelines inference --params inference.source=FOLDER"
        )
    storage, inputs = list_inputs(prediction.source, _options(prediction, source))
    logger.info("%d images in %s", len(inputs), prediction.source)
    return pd.DataFrame(inputs, columns=["path", "name", "stamp"]).assign(root=storage.root)


def predict_images(
    model: dict[str, Any],
    inputs: pd.DataFrame,
    prediction: InferenceParameters,
    inference: PredictorParameters,
    source: SourceParameters,
    backends_dir: Path,
    results_folder: Path,
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Predict the images that are not finished yet, and write what is wanted of each.

    Args:
        model: see `choose_model`.
        inputs: see `list_images`.
        prediction: what is written, and where.
        inference: the predictor's parameters.
        source: how a store is reached, where `prediction` does not say.
        backends_dir: keeps exported networks, and earlier choices of a backend.
        results_folder: holds the results' folder, where none is named.

    Returns:
        A row for each image; the results' folder, with how many images there were; a row for each backend.

    Raises:
        ResourceError: the disk is full.
    """
    from unet_segmentation.data.io.filesystem import FileStore
    from unet_segmentation.inference.backend_selection import choose_backend
    from unet_segmentation.inference.ensemble import common_specification
    from unet_segmentation.inference.input_discovery import Input
    from unet_segmentation.inference.predict_folder import FolderPredictor, cache_key
    from unet_segmentation.inference.writers import TABLE
    from unet_segmentation.tracking.model_packaging import specification_of

    files = [Path(file) for file in model["files"]]
    specification = common_specification([specification_of(file) for file in files])
    folder = Path(prediction.output).expanduser() if prediction.output else results_folder / _name(prediction.source)
    storage = FileStore(str(inputs["root"].iloc[0]), _options(prediction, source))
    made_by = prediction.model_dump(include={"backend", "overlay", "probabilities", "polygons"})
    key = cache_key(weights=model["sha256"], inference=inference.model_dump(mode="json"), **made_by)
    backends = pd.DataFrame(columns=["backend", "chosen", "remark"])

    def choose(examples: list[Image], count: int) -> Backend:
        nonlocal backends
        backend, backends = choose_backend(
            files, examples, wanted=prediction.backend, folder=backends_dir, expected_images=count
        )
        _show(backends)
        return backend

    work = FolderPredictor(specification, inference, storage, folder, prediction, key)
    rows = work.run([Input(*each) for each in inputs[["path", "name", "stamp"]].itertuples(index=False)], choose)
    table = _as_table(rows)
    _write_table(table, folder / TABLE)
    counts = {
        "images": len(table),
        "failed": int((table["status"] == "failed").sum()),
        "out_of_distribution": _flagged(table),
    }
    tracking.active_run().log_metrics({f"prediction/{name}": float(count) for name, count in counts.items()})
    return table, {"folder": str(folder), **counts}, backends


def _as_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make the table; broken images have no size, which must not make the others' sizes fractional numbers."""
    table = pd.DataFrame(rows)
    sizes = [name for name in ("height", "width") if name in table]
    return table.astype(dict.fromkeys(sizes, "Int64"))


def _options(prediction: InferenceParameters, source: SourceParameters) -> dict[str, Any]:
    return prediction.storage_options or source.storage_options


def _name(source: str | None) -> str:
    """Name the results of a source: what it is called, and a hash that keeps two of the same name apart."""
    text = str(source) if source and "://" in source else str(Path(str(source)).expanduser().absolute())
    last = file_name(text) if text.startswith(WEB) else Path(text.rstrip("/")).name
    called = re.sub(r"[^\w.-]+", "_", last).strip("._") or "images"
    return f"{called[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _show(backends: pd.DataFrame) -> None:
    """Describe what was tried, where there was a choice."""
    for row in backends.to_dict("records") if len(backends) > 1 else ():
        logger.info(
            "%s %-10s %7.2f images/s, %.3f %% of the pixels as in float32 %s",
            "*" if row["chosen"] else " ",
            row["backend"],
            row["images_per_second"],
            100 * row["agreement"],
            row["remark"],
        )


def _write_table(table: pd.DataFrame, file: Path) -> None:
    from unet_segmentation.utils.atomic_io import atomic_write

    with atomic_write(file) as temporary:
        table.to_csv(temporary, index=False)


def _flagged(table: pd.DataFrame) -> int:
    return int((table["flags"].fillna("") != "").sum()) if "flags" in table else 0


def draw_contact_sheet(table: pd.DataFrame, place: dict[str, Any]) -> Any:  # noqa: ANN401 - a PIL image
    """Lay out the first predictions, flagged ones before the others.

    Args:
        table: see `predict_images`.
        place: the results' folder.
    """
    import numpy as np
    from PIL import Image

    from unet_segmentation.inference.writers import OVERLAY
    from unet_segmentation.visualization import colour_mask, contact_sheet

    done = table[table["status"] == "ok"] if "mask" in table else table.iloc[:0]
    flags = done["flags"].fillna("") if len(done) else pd.Series(dtype=str)
    first = done.assign(flags=flags).sort_values("flags", key=lambda text: text == "", kind="stable").head(SHOWN)
    tiles, captions = [], []
    for row in first.to_dict("records"):
        mask = Path(place["folder"], row["mask"])
        overlay = mask.with_name(f"{mask.stem}{OVERLAY}")
        if overlay.is_file():
            tiles.append(np.asarray(Image.open(overlay).convert("RGB")))
        elif mask.suffix == ".png":
            tiles.append(colour_mask(np.array(Image.open(mask))))
        else:  # a raster may be larger than memory
            continue
        captions.append(f"{row['image']} {row['flags']}".strip())
    return contact_sheet(tiles, columns=4, captions=captions, side=320)


def fail_if_any_image_failed(table: pd.DataFrame, place: dict[str, Any], sheet: Path) -> None:
    """Describe how it went.

    Args:
        table: see `predict_images`.
        place: the results' folder, and counts.
        sheet: shows the first predictions.

    Raises:
        DataError: an image could not be read; the others are done.
    """
    logger.info("Predictions  %s", place["folder"])
    logger.info("Sheet        %s", sheet)
    if place["out_of_distribution"]:
        logger.info(
            "%d images are unlike the training data: see the column flags of predictions.csv",
            place["out_of_distribution"],
        )
    broken = table[table["status"] == "failed"]
    if len(broken):
        raise DataError(
            _broken(list(zip(broken["image"], broken["message"], strict=True)), len(table), place["folder"])
        )


def _broken(images: Sequence[tuple[str, str]], count: int, folder: str) -> str:
    lines = [f"  {image} {message}" for image, message in images[:NAMED]]
    lines += [f"  and {len(images) - NAMED} more" if len(images) > NAMED else ""]
    rest = count - len(images)
    done = f"The other {rest} are done: {folder}" if rest else "There was no other."
    return "\n".join([f"{len(images)} of {count} images could not be predicted:", *filter(None, lines), done])
