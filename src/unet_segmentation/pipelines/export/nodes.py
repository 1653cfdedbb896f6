"""Nodes of the export pipeline: thin, the work is done in ``unet_segmentation.deployment.export``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.deployment.export.source import ExportSource, Quantization
from unet_segmentation.errors import ReleaseError
from unet_segmentation.parameters import ExportParameters, PredictorParameters

logger = logging.getLogger(__name__)

PROGRAM, ONNX, INT8 = "model.pt2", "model.onnx", "model.int8.onnx"


def choose_model(
    problem: str,
    best: Path,
    logged_model: dict[str, Any],
    packed: PackedSamples,
    export: ExportParameters,
    cache: Path,
) -> ExportSource:
    """Find the model to export: that of the last training, or the one that `export.model` names.

    Raises:
        ProjectError: the file holds no model of this project, or there is no such model in MLflow.
    """
    from unet_segmentation.deployment.export.source import find_model_file

    file, run_id = find_model_file(best, logged_model.get("run_id"), problem, export, cache)
    source = ExportSource.from_file(file, problem=problem, run_id=run_id, dtype=str(packed.dtype))
    tracking.active_run().set_tags({"export.weights_sha256": source.weights_sha256})
    logger.info("Exporting %s: %s", file, source.spec.title)
    return source


def export_program(source: ExportSource, folder: Path) -> Path:
    """Write the network as a torch.export program into the working folder."""
    from unet_segmentation.inference.backends.torch_export import save_program

    save_program(source.trace(), folder / PROGRAM)
    return folder / PROGRAM


def export_onnx(source: ExportSource, folder: Path) -> Path:
    """Write the network as ONNX into the working folder."""
    from unet_segmentation.inference.backends.onnx_export import save_onnx

    save_onnx(source.trace(), source.spec, folder / ONNX)
    return folder / ONNX


def quantize(
    onnx: Path,
    source: ExportSource,
    samples: pd.DataFrame,
    packed: PackedSamples,
    export: ExportParameters,
    folder: Path,
) -> Quantization:
    """Write the network in 8 bits, where that is asked for; its ranges are those of images of the training split.

    Raises:
        DataError: the training split has no image.
    """
    from unet_segmentation.deployment.export.source import calibration_batches
    from unet_segmentation.inference.backends.onnx_export import quantize

    if not export.int8:
        return Quantization()
    train = samples.loc[samples["split"] == "train", "sample_id"].astype(str).tolist()
    chosen, batches = calibration_batches(source, packed, train, export.calibration_images)
    quantize(onnx, folder / INT8, batches)
    return Quantization(str((folder / INT8).absolute()), len(chosen))


def check_parity(
    source: ExportSource,
    program: Path,
    onnx: Path,
    quantization: Quantization,
    samples: pd.DataFrame,
    packed: PackedSamples,
    predictor_params: PredictorParameters,
    export: ExportParameters,
) -> tuple[pd.DataFrame, dict[str, float | None], list[str]]:
    """Compare the files with the network, over the split and over odd sizes.

    Returns:
        A row for each file and image; the figures of each file; and what does not meet the parameters.

    Raises:
        DataError: the split has no labeled sample.
    """
    from unet_segmentation.deployment.export import parity
    from unet_segmentation.deployment.export.source import labeled_ids

    names = sorted(labeled_ids(samples, export.split), key=packed.shape)  # neighbors of one size share a batch
    files = {PROGRAM: program, ONNX: onnx}
    if quantization.file is not None:
        files[INT8] = Path(quantization.file)
    result = parity.compare_files(Path(source.file), files, packed, names, predictor_params)
    figures = parity.summarize(result, source.spec.classes)
    for name in files:
        logger.info(
            "%s: %.4f %% of the pixels get the network's class; largest difference of a probability %.2g; "
            "dice/mean %.4f (the network's: %.4f)",
            name, 100 * figures[f"{name}/agreement"], figures[f"{name}/probability"],  # type: ignore[operator]
            figures[f"{name}/dice/mean"], figures["network/dice/mean"],
        )  # fmt: skip
    return result.table, figures, parity.failures(result, figures, export)


def publish(
    source: ExportSource,
    program: Path,
    onnx: Path,
    quantization: Quantization,
    figures: dict[str, float | None],
    failures: list[str],
    predictor_params: PredictorParameters,
    export: ExportParameters,
) -> Callable[[Path], None]:
    """Publish the files, if all of them passed; returns a writer of the folder.

    Raises:
        ReleaseError: a file does not do what the network does. What was published before is left as it is.
    """
    from unet_segmentation.deployment.export.bundle import bundle_writer

    tracking.active_run().set_tags({"export.outcome": "refused" if failures else "published"})
    if failures:
        raise ReleaseError("Nothing was exported. " + " ".join(f"{sentence}." for sentence in failures))
    files = {PROGRAM: program, ONNX: onnx}
    if quantization.file is not None:
        files[INT8] = Path(quantization.file)
    rest = {"calibration_images": quantization.images, "split": export.split, "parity": figures}
    return bundle_writer(source, files, predictor_params, rest, None if export.output is None else Path(export.output))
