"""torch.export: the network as a graph of operators, for any batch and any height and width that it can halve."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.inference.backends.base import (
    Backend,
    BackendRequest,
    Image,
    Probabilities,
    first_line,
    register_backend,
)
from unet_segmentation.models.fuse_batchnorm import fuse_conv_bn
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.utils.atomic_io import atomic_write
from unet_segmentation.utils.device import Accelerator, pick_device

if TYPE_CHECKING:
    from torch.export import ExportedProgram

DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "int32": torch.int32}
LARGEST = 65536  # pixels of a side
EXAMPLE = (2, 3, 5)  # batch, rows and columns in multiples: none is 1, or alike, which torch.export would hold fixed


class ImagesToProbabilities(nn.Module):
    """What is exported: raw pixels in as images lie in memory, probabilities and logits out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and logits, both float32 (N, classes, H, W), of raw pixels (N, H, W, channels)."""
        logits = self.network(images.permute(0, 3, 1, 2).contiguous())  # without it, guards on strides fix the size
        return torch.softmax(logits, dim=1), logits


def export_program(network: nn.Module, spec: ModelSpec, dtype: str = "uint8") -> ExportedProgram:
    """Trace a network into a program whose batch, height and width are free.

    Args:
        network: raw pixels (N, channels, H, W) to logits; left as it is.
        spec: of the network.
        dtype: of the pixels: `uint8`, `uint16` or `int32`.

    Returns:
        See `ImagesToProbabilities`; height and width are multiples of `multiple`. Batch normalization is folded.

    Raises:
        ConfigurationError: the network cannot be exported with free sizes.
    """
    multiple, channels = spec.multiple, spec.in_channels
    batch, rows, columns = EXAMPLE
    example = torch.zeros(batch, rows * multiple, columns * multiple, channels, dtype=torch.int32)
    whole_network = ImagesToProbabilities(fuse_conv_bn(network, example.permute(0, 3, 1, 2))).eval()
    height, width = (torch.export.Dim(name, min=1, max=LARGEST // multiple) for name in ("height", "width"))
    sizes = {0: torch.export.Dim("batch", min=1), 1: multiple * height, 2: multiple * width}
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(whole_network, (example.to(DTYPES[dtype]),), dynamic_shapes={"images": sizes})
        except Exception as error:
            raise ConfigurationError(
                f"model: {spec.architecture} with encoder {spec.encoder} cannot be "
                f"exported with a free size ({first_line(error)}). docs/how-to/export-onnx.md says which networks can."
            ) from error


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a program as `.pt2`. Reading it back is for files one trusts: `torch.export.load` may execute code."""
    with quiet(), atomic_write(path) as temporary:
        torch.export.save(program, temporary)


class ExportedBackend(Backend):
    """A program of `export_program`, in float32 on the CPU.

    It is made from weights and a specification when it is needed, and never read from a `.pt2` file of others, since
    `torch.export.load` may execute code.
    """

    name = "torch.export, float32, on cpu"

    def __init__(self, program: ExportedProgram) -> None:
        # The guards of torch.export only say again that sides are multiples, some of them too strictly.
        self._module = program.module(check_guards=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        (images,) = program.example_inputs[0]
        self._dtype = str(images.dtype).removeprefix("torch.")

    def __call__(self, images: Image) -> Probabilities:
        """Compute probabilities, see `Backend`."""
        return self.both(images)[0]

    @torch.inference_mode()
    def both(self, images: Image) -> tuple[Probabilities, Probabilities]:
        """Compute probabilities and logits, both (N, classes, height, width)."""
        pixels = torch.from_numpy(images.astype(np.dtype(self._dtype), copy=False))
        probabilities, logits = self._module(pixels)
        return probabilities.numpy(), logits.numpy()


@register_backend("torch-export")
def build_exported(request: BackendRequest) -> Backend:
    """Build the backend of the network's program."""
    require_cpu("torch-export", request.accelerator)
    return ExportedBackend(export_program(request.network, request.spec, "int32"))


def require_cpu(backend: str, accelerator: Accelerator) -> None:
    """Raise ResourceError where a device is no CPU."""
    if pick_device(accelerator).type != "cpu":
        raise ResourceError(f"backend: {backend} computes on the CPU only. Take accelerator cpu, or another backend.")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch's exporters and ONNX have to say to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
