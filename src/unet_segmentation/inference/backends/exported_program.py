"""A torch.export program as a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from unet_segmentation.inference.backends.base import Backend, Image, Probabilities

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class ExportedBackend(Backend):
    """A program of `exporting.program.export_program`, in float32 on the CPU.

    It is made from weights and a specification when it is needed, and never read from a `.pt2` file of others, since
    `torch.export.load` may execute code.

    Attributes:
        name: for people.
    """

    name = "torch.export, float32, on cpu"

    def __init__(self, program: ExportedProgram) -> None:
        """Make the program ready to run."""
        # The guards of torch.export only say again that sides are multiples, some of them too strictly.
        self._module = program.module(check_guards=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        (given,) = program.example_inputs[0]
        self._dtype = str(given.dtype).removeprefix("torch.")

    def __call__(self, images: Image) -> Probabilities:
        """See `Backend`."""
        return self.both(images)[0]

    @torch.inference_mode()
    def both(self, images: Image) -> tuple[Probabilities, Probabilities]:
        """Return probabilities and logits, both (N, classes, height, width)."""
        pixels = torch.from_numpy(images.astype(np.dtype(self._dtype), copy=False))
        probabilities, logits = self._module(pixels)
        return probabilities.numpy(), logits.numpy()
