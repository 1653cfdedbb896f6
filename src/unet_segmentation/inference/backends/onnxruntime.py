"""ONNX Runtime as a backend: numpy and onnxruntime alone; it travels with every exported model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from unet_segmentation.errors import DataError, ProjectError
from unet_segmentation.inference.backends.base import Backend, Image, Probabilities

SILENT = 4  # severity of ONNX Runtime's log: what it calls an error is raised, too


class OnnxRuntimeBackend(Backend):
    """A network in an ONNX file, on the CPU. The file is a graph: reading it executes nothing of it but operators.

    Attributes:
        name: for people.
        specification: of the network, as the file holds it; empty where it holds none.
    """

    def __init__(self, path: Path, *, precision: str = "float32", threads: int | None = None) -> None:
        """Read the file.

        Args:
            path: of the ONNX file.
            precision: for people: what the file computes with.
            threads: that compute; None: as many as there are cores for this process.

        Raises:
            ProjectError: the file is no ONNX file of this project.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = threads or cores()
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the cores from whatever decodes and writes beside the network.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            (given,) = self._session.get_inputs()
            self._dtype = np.dtype(given.type.removeprefix("tensor(").removesuffix(")"))
            self._outputs = {output.name for output in self._session.get_outputs()}
            self._input = given.name
        except Exception as error:  # onnxruntime has a dozen classes of errors, none with a common base
            raise ProjectError(f"{path} is no ONNX file that ONNX Runtime can read ({_first_line(error)})") from error
        self.specification: dict[str, Any] = json.loads(
            self._session.get_modelmeta().custom_metadata_map.get("specification", "{}")
        )
        self.name = f"ONNX Runtime, {precision}, on cpu"

    def __call__(self, images: Image) -> Probabilities:
        """See `Backend`."""
        return self._run(["probabilities"], images)[0]

    def both(self, images: Image) -> tuple[Probabilities, Probabilities]:
        """Return probabilities and logits, both (N, classes, height, width)."""
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
                f"ONNX Runtime cannot compute a batch of {images.shape} ({_first_line(error)})."
            ) from error


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
