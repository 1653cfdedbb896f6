"""ONNX Runtime as a backend: numpy and onnxruntime alone; it travels with every exported model."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from unet_segmentation.errors import DataError, ProjectError
from unet_segmentation.inference.backends.base import (
    Backend,
    BackendRequest,
    Image,
    Probabilities,
    first_line,
    register_backend,
)
from unet_segmentation.models.spec import ModelSpec

SILENT = 4  # severity of ONNX Runtime's log: what it calls an error is raised, too


class OnnxRuntimeBackend(Backend):
    """A network in an ONNX file, on the CPU. The file is a graph: reading it executes nothing of it but operators.

    Args:
        path: of the ONNX file.
        precision: for people: what the file computes with.
        threads: that compute; None: as many as there are cores for this process.

    Attributes:
        spec: of the network; None where the file does not hold it.

    Raises:
        ProjectError: the file is no ONNX file of this project.
    """

    def __init__(self, path: Path, *, precision: str = "float32", threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = threads or cores()
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the cores from whatever decodes and writes in parallel.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            (images,) = self._session.get_inputs()
            self._dtype = np.dtype(images.type.removeprefix("tensor(").removesuffix(")"))
            self._outputs = {output.name for output in self._session.get_outputs()}
            self._input = images.name
        except Exception as error:  # onnxruntime has a dozen classes of errors, none with a common base
            raise ProjectError(f"{path} is no ONNX file that ONNX Runtime can read ({first_line(error)})") from error
        header = self._session.get_modelmeta().custom_metadata_map.get("specification")
        self.spec = None if header is None else ModelSpec.from_json(json.loads(header))
        self.name = f"ONNX Runtime, {precision}, on cpu"

    def __call__(self, images: Image) -> Probabilities:
        """Compute probabilities, see `Backend`."""
        return self._run(["probabilities"], images)[0]

    def both(self, images: Image) -> tuple[Probabilities, Probabilities]:
        """Compute probabilities and logits, both (N, classes, height, width)."""
        probabilities, logits = self._run(["probabilities", "logits"], images)
        return probabilities, logits

    def _run(self, outputs: list[str], images: Image) -> list[Probabilities]:
        if not np.can_cast(images.dtype, self._dtype):
            raise DataError(
                f"This ONNX file was made for {self._dtype} pixels, and an image holds {images.dtype}. Export it "
                "from samples of that depth."
            )
        try:
            return self._session.run(outputs, {self._input: images.astype(self._dtype, copy=False)})
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError(str(error)) from None
            raise ProjectError(
                f"ONNX Runtime cannot compute a batch of {images.shape} ({first_line(error)})."
            ) from error


@register_backend("onnx")
def build_onnx(request: BackendRequest) -> Backend:
    """Write the model as ONNX, once, and build the backend of the file."""
    import torch

    return OnnxRuntimeBackend(_onnx_file("onnx", request), threads=torch.get_num_threads())


@register_backend("int8")
def build_int8(request: BackendRequest) -> Backend:
    """Write the model in whole numbers of 8 bits, calibrated on the examples, and build the backend of the file."""
    import torch

    from unet_segmentation.inference.backends.onnx_export import quantize

    file = _onnx_file("int8", request)
    quantized = file.with_suffix(".int8.onnx")  # each time: its ranges are those of these examples
    # the file takes int32, which holds both depths
    batches: Any = (example[:1].astype(np.int32) for example in request.examples)
    quantize(file, quantized, batches)
    return OnnxRuntimeBackend(quantized, precision="int8", threads=torch.get_num_threads())


def _onnx_file(name: str, request: BackendRequest) -> Path:
    """Write the model as ONNX, unless the file of these weights and library versions is there."""
    from unet_segmentation.inference.backends.onnx_export import save_onnx
    from unet_segmentation.inference.backends.torch_export import export_program, require_cpu
    from unet_segmentation.models.model_file import file_sha256

    require_cpu(name, request.accelerator)
    versions = [metadata.version(library) for library in ("torch", "onnxruntime", "onnx", "onnxscript")]
    label = hashlib.sha256(" ".join([file_sha256(request.model), *versions]).encode()).hexdigest()[:16]
    file = request.folder / f"{label}.onnx"
    if not file.is_file():
        save_onnx(export_program(request.network, request.spec, "int32"), request.spec, file)
    return file


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
