"""Which backend predicts: by a rule for each device, checked against the network in float32."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_segmentation.errors import ProjectError
from unet_segmentation.inference.backends.base import BACKENDS, Backend, BackendRequest, Image
from unet_segmentation.inference.ensemble import EnsembleBackend, common_spec
from unet_segmentation.inference.predictor import InputSpec
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    import torch

    from unet_segmentation.parameters import PredictorParameters
    from unet_segmentation.utils.device import Accelerator

logger = logging.getLogger(__name__)

REFERENCE = "pytorch"  # float32, as in evaluation
MIN_AGREEMENT = 0.999  # share of the pixels that must get the class that float32 gives them
ONNX_IMAGES = 100  # to write an ONNX file takes as long as to predict some tens of images


@dataclass(frozen=True)
class BackendCheck:
    """A backend compared with float32 on a few images."""

    backend: str  # its name
    agreement: float = 1.0  # share of the pixels with the class of float32
    largest_difference: float = 0.0  # of a probability, from float32

    @property
    def passed(self) -> bool:
        """Return whether enough pixels agree."""
        return self.agreement >= MIN_AGREEMENT


def default_backend(device: torch.device, expected_images: int) -> str:
    """Return what is fastest on a device, as a rule; benchmarks/prediction_throughput.py measures it."""
    import torch

    from unet_segmentation.utils.private_api import cpu_computes_bfloat16

    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    if device.type == "cpu" and cpu_computes_bfloat16():
        return "bfloat16"
    return "onnx" if device.type == "cpu" and expected_images >= ONNX_IMAGES else REFERENCE


def choose_backend(
    models: Sequence[Path],
    examples: Sequence[Image],
    *,
    name: str = "auto",
    accelerator: Accelerator = "auto",
    folder: Path,
    expected_images: int = 1,
) -> tuple[Backend, BackendCheck]:
    """Build the backend that is asked for, or that of the rule if it gives the network's masks.

    The rule's backend is checked once for the weights and this compute environment; the result is kept in `folder`.

    Args:
        models: safetensors files; several are averaged.
        examples: batches (N, height, width, channels) of raw pixels that it is checked on. A few are enough.
        name: of a backend; `auto`: the rule's. `int8` is calibrated on the examples.
        accelerator: `auto` takes a GPU where there is one.
        folder: where ONNX files and checks are kept.
        expected_images: how many images will be predicted.

    Raises:
        ProjectError: a file holds no network of this project, or the backend cannot be built.
        ResourceError: the accelerator is not there, or the backend does not run on it.
    """
    from unet_segmentation.models.model_file import load_model
    from unet_segmentation.utils.device import pick_device

    requests: list[BackendRequest] = []
    for file in models:
        network, info = load_model(file)
        requests.append(BackendRequest(file, network, info.spec, examples, accelerator, folder))
    common_spec([request.spec for request in requests])
    if name != "auto":
        return _build_and_check(name, requests)
    name = default_backend(pick_device(accelerator), expected_images) if examples else REFERENCE
    record = folder / f"{_check_key(name, models)}.json"
    try:
        if (check := _read_check(record)) is not None and check.passed:
            return _build(name, requests), check
        backend, check = _build_and_check(name, requests)
    except (ProjectError, RuntimeError, MemoryError) as error:
        logger.info("%s cannot run this network (%s): float32 predicts", name, str(error).partition("\n")[0])
        return _build(REFERENCE, requests), BackendCheck(REFERENCE)
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps(asdict(check)), encoding="utf-8")
    return (backend, check) if check.passed else (_build(REFERENCE, requests), BackendCheck(REFERENCE))


def check_default_backend(
    model: Path, images: Sequence[Image], inference: PredictorParameters, folder: Path
) -> BackendCheck:
    """Check the rule's backend on a few images when a model is logged, so that predictions on this machine need not."""
    from unet_segmentation.models.model_file import read_header

    input_spec = InputSpec(read_header(model).spec, inference)
    return choose_backend([model], [input_spec.example(image) for image in images], folder=folder)[1]


def check_backend(backend: Backend, reference: Backend, examples: Sequence[Image]) -> tuple[float, float]:
    """Compute the share of pixels that get the same class, and the largest difference of a probability."""
    equal, pixels, largest = 0, 0, 0.0
    for example in examples:
        for one, two in zip(backend(example), reference(example), strict=True):
            equal += int((argmax_mask(one) == argmax_mask(two)).sum())
            pixels += one[0].size
            largest = max(largest, float(np.abs(one - two).max()))
    return equal / max(1, pixels), largest


def _build(name: str, requests: Sequence[BackendRequest]) -> Backend:
    """Build a backend of each network, and their mean where they are several."""
    members = [BACKENDS[name](request) for request in requests]
    return members[0] if len(members) == 1 else EnsembleBackend(members)


def _build_and_check(name: str, requests: Sequence[BackendRequest]) -> tuple[Backend, BackendCheck]:
    backend, examples = _build(name, requests), requests[0].examples
    if name == REFERENCE or not examples:
        return backend, BackendCheck(name)
    check = BackendCheck(name, *check_backend(backend, _build(REFERENCE, requests), examples))
    if not check.passed:
        logger.warning("%s gives %.2f %% of the pixels another class than float32", name, 100 * (1 - check.agreement))
    return backend, check


def _check_key(name: str, models: Sequence[Path]) -> str:
    """Hash what a check depends on: the weights, the backend and where it computes."""
    from unet_segmentation.models.model_file import file_sha256
    from unet_segmentation.utils.device import compute_environment

    parts = [name, [file_sha256(file) for file in models], compute_environment()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _read_check(record: Path) -> BackendCheck | None:
    try:
        return BackendCheck(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, or of another version
        return None
