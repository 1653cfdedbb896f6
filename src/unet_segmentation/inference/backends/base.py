"""What a predictor asks of whatever computes: one batch of raw pixels in, class probabilities out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.utils.registry import Registry

if TYPE_CHECKING:  # exported models carry this module along
    from torch import nn

    from unet_segmentation.models.spec import ModelSpec
    from unet_segmentation.utils.device import Accelerator

Image = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class Backend(Protocol):
    """A network that is ready to compute."""

    name: str  # for people: what computes, in which precision, where
    # Pixels in a batch beyond which it gets no faster. On CPUs layers leave the caches there: a U-Net with a ResNet-18
    # took 120 ms for an image of 512 x 512 by itself, and 148 ms for one of four in a batch.
    saturation_pixels: int = 2**18

    @abstractmethod
    def __call__(self, images: Image) -> Probabilities:
        """Compute the probability of every class in every pixel.

        Args:
            images: (N, height, width, channels), raw pixel values; the sides are multiples of the network's `multiple`.

        Returns:
            (N, classes, height, width), summing to 1 over the classes.
        """
        ...

    def capacity(self, shape: tuple[int, int, int]) -> int | None:
        """Return how many images (height, width, channels) fit into free memory; None: that was not measured."""
        return None


@dataclass(frozen=True)
class BackendRequest:
    """What a backend is built from."""

    model: Path  # the model file
    network: nn.Module  # its network, on the CPU; stays as it is
    spec: ModelSpec  # of the network
    examples: Sequence[Image]  # batches (N, height, width, channels) of raw pixels, for what is calibrated
    accelerator: Accelerator  # `auto` takes a GPU where there is one
    folder: Path  # for files that are written once for a model


BACKENDS: Registry[Callable[[BackendRequest], Backend]] = Registry("inference.backend", __name__.rpartition(".")[0])
register_backend = BACKENDS.register


def first_line(error: Exception) -> str:
    """Return the beginning of what an error of another library says."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
