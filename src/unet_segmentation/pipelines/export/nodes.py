"""Nodes of the export: adapters between the catalog and `exporting`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import DataError, ReleaseError
from unet_segmentation.parameters import ExportParameters, PredictorParameters

if TYPE_CHECKING:
    from unet_segmentation.deployment.export.parity import Case

logger = logging.getLogger(__name__)

PROGRAM, ONNX, INT8 = "model.pt2", "model.onnx", "model.int8.onnx"


def choose_model(
    problem: str,
    best: Path,
    logged_model: dict[str, Any],
    packed: PackedSamples,
    export: ExportParameters,
    cache: Path,
) -> dict[str, Any]:
    """Find the network that is exported, and what there is to know of it.

    Args:
        problem: the segmentation problem.
        best: the network that lies in `data/`.
        logged_model: names the run that it is of.
        packed: images; their depth is what the files take.
        export: names another network, if it is not that one.
        cache: keeps models that are fetched from MLflow.

    Returns:
        `problem`, `file`, `weights_sha256`, `run_id`, `dtype` and the network's `specification`.

    Raises:
        ProjectError: the file holds no network of this project, or there is no such model in MLflow.
    """
    from unet_segmentation.models.factory import load_model
    from unet_segmentation.tracking.run_metadata import weights_sha256

    file, run_id = best, logged_model.get("run_id")
    if export.model is not None:
        file, run_id = _named(export.model, problem, cache)
    _, information = load_model(file)
    found = {
        "problem": problem,
        "file": str(file.absolute()),
        "weights_sha256": weights_sha256(file),
        "run_id": run_id,
        "dtype": str(packed.dtype),
        "specification": information["specification"],
    }
    tracking.active_run().set_tags({"export.weights_sha256": found["weights_sha256"]})
    logger.info("Exporting %s: %s", file, _title(information["specification"]))
    return found


def export_program(source: dict[str, Any], folder: Path) -> Path:
    """Write the network as a torch.export program.

    Args:
        source: what `choose_model` found.
        folder: to work in.

    Returns:
        The file.

    Raises:
        ConfigurationError: the network cannot be exported with free sizes.
    """
    from unet_segmentation.inference.backends.torch_export import save_program

    save_program(_program(source), folder / PROGRAM)
    return folder / PROGRAM


def export_onnx(source: dict[str, Any], folder: Path) -> Path:
    """Write the network as ONNX; see `export_program`."""
    from unet_segmentation.inference.backends.onnx_export import save_onnx

    save_onnx(_program(source), source["specification"], folder / ONNX)
    return folder / ONNX


def quantise(
    onnx: Path,
    source: dict[str, Any],
    samples: pd.DataFrame,
    packed: PackedSamples,
    export: ExportParameters,
    folder: Path,
) -> dict[str, Any]:
    """Write the network in 8 bits, where that is asked for; its ranges come from the training split.

    Args:
        onnx: the network.
        source: what `choose_model` found.
        samples: columns sample_id, split.
        packed: images.
        export: whether, and from how many images.
        folder: to work in.

    Returns:
        `file` (None where it was not asked for) and `images`, from how many.

    Raises:
        DataError: the training split has no image.
    """
    from unet_segmentation.inference.backends.quantization import quantise as quantise_file
    from unet_segmentation.inference.sliding_window import padded, round_up_to_multiple

    if not export.int8:
        return {"file": None, "images": 0}
    train = samples.loc[samples["split"] == "train", "sample_id"].astype(str).tolist()
    chosen = train[:: max(1, len(train) // export.calibration_images)][: export.calibration_images]
    multiple = source["specification"]["multiple"]

    def batches() -> Iterator[Any]:
        for sample_id in chosen:
            image = packed.image(sample_id, slice(_LARGEST_SIDE), slice(_LARGEST_SIDE))
            size = round_up_to_multiple(image.shape[0], multiple), round_up_to_multiple(image.shape[1], multiple)
            yield padded(image, size)[None].astype(source["dtype"])

    quantise_file(onnx, folder / INT8, batches())
    return {"file": str((folder / INT8).absolute()), "images": len(chosen)}


_LARGEST_SIDE = 1024  # pixels of what the ranges are taken from


def check_parity(
    source: dict[str, Any],
    program: Path,
    onnx: Path,
    quantisation: dict[str, Any],
    samples: pd.DataFrame,
    packed: PackedSamples,
    inference: PredictorParameters,
    export: ExportParameters,
) -> tuple[pd.DataFrame, dict[str, float | None], list[str]]:
    """Hold the files against the network, over the split and over odd sizes.

    Args:
        source: what `choose_model` found.
        program: the torch.export program.
        onnx: the ONNX file.
        quantisation: names that of 8 bits, if there is one.
        samples: columns sample_id, split, masks.
        packed: images and masks.
        inference: the predictor's parameters.
        export: names the split and the tolerances.

    Returns:
        A row for each file and image; the figures of each file; and what does not meet the parameters.

    Raises:
        DataError: the split has no labelled sample.
    """
    import torch

    from unet_segmentation.deployment.export import parity
    from unet_segmentation.inference.backends.exported_program import ExportedBackend
    from unet_segmentation.inference.backends.onnxruntime import OnnxRuntimeBackend
    from unet_segmentation.inference.backends.pytorch import EagerBackend
    from unet_segmentation.models.factory import load_model

    network, information = load_model(Path(source["file"]))
    specification = information["specification"]
    names = sorted(_labelled(samples, export.split), key=packed.shape)  # neighbours of one size share a batch
    threads = torch.get_num_threads()
    files: dict[str, Any] = {
        PROGRAM: ExportedBackend(torch.export.load(program)),  # this run has written it
        ONNX: OnnxRuntimeBackend(onnx, threads=threads),
    }
    if quantisation["file"] is not None:
        files[INT8] = OnnxRuntimeBackend(Path(quantisation["file"]), precision="int8", threads=threads)

    def cases() -> Iterator[Case]:
        odd = parity.odd_cases(packed.image(names[0]), specification["multiple"], inference)
        return parity.sample_cases(names, lambda name: (packed.image(name), packed.mask(name)), odd)

    found = parity.hold_against(EagerBackend(network, "cpu"), files, cases, specification, inference)
    figures = parity.summarise(found, specification["classes"])
    for name in files:
        logger.info(
            "%s: %.4f %% of the pixels get the network's class; largest difference of a probability %.2g; "
            "dice/mean %.4f (the network's: %.4f)",
            name, 100 * figures[f"{name}/agreement"], figures[f"{name}/probability"],  # type: ignore[operator]
            figures[f"{name}/dice/mean"], figures["network/dice/mean"],
        )  # fmt: skip
    return found.table, figures, parity.failures(found, figures, export)


def publish(
    source: dict[str, Any],
    program: Path,
    onnx: Path,
    quantisation: dict[str, Any],
    figures: dict[str, float | None],
    failures: list[str],
    inference: PredictorParameters,
    export: ExportParameters,
) -> Callable[[Path], None]:
    """Publish the files, if all of them passed.

    Returns:
        A writer of the folder.

    Raises:
        ReleaseError: a file does not do what the network does. What was published before is left as it is.
    """
    from unet_segmentation.deployment.export.bundle import colours_of, describe_input, fill_folder
    from unet_segmentation.utils.atomic_io import atomic_write

    tracking.active_run().set_tags({"export.outcome": "refused" if failures else "published"})
    if failures:
        raise ReleaseError("Nothing was exported. " + " ".join(f"{sentence}." for sentence in failures))
    files = {PROGRAM: program, ONNX: onnx}
    if quantisation["file"] is not None:
        files[INT8] = Path(quantisation["file"])
    specification = source["specification"]
    information = {
        "problem": source["problem"],
        "classes": specification["classes"],
        "colours": colours_of(specification["classes"]),
        "input": describe_input(specification, source["dtype"]),
        "specification": specification,
        "inference": inference.model_dump(),
        "weights_sha256": source["weights_sha256"],
        "run_id": source["run_id"],
        "calibration_images": quantisation["images"],
        "split": export.split,
        "parity": figures,
    }

    def write(target: Path) -> None:
        fill_folder(target, files, information)
        if export.output is not None:
            with atomic_write(Path(export.output)) as copy:
                shutil.copytree(target, copy)

    return write


def _named(wanted: str, problem: str, cache: Path) -> tuple[Path, str | None]:
    """Find a model by its file, as the champion, or by its run; give its run's id, where that is known."""
    if wanted.endswith(".safetensors"):
        return Path(wanted), None
    from unet_segmentation.tracking.model_download import named_model

    found = named_model(wanted, problem, cache, asked_by="export.model")
    return found.file, found.run_id


def _program(source: dict[str, Any]) -> Any:  # noqa: ANN401 - a torch.export.ExportedProgram
    from unet_segmentation.inference.backends.torch_export import export_program as export
    from unet_segmentation.models.factory import load_model

    network, information = load_model(Path(source["file"]))
    return export(network, information["specification"], source["dtype"])


def _labelled(samples: pd.DataFrame, split: str) -> list[str]:
    chosen = (samples["split"] == split) & (samples["masks"].map(len) > 0)
    names = samples.loc[chosen, "sample_id"].astype(str).tolist()
    if not names:
        raise DataError(f"export.split: the {split} split has no labelled sample to hold the files against.")
    return names


def _title(specification: dict[str, Any]) -> str:
    return " ".join(filter(None, (specification["architecture"], specification["encoder"])))
