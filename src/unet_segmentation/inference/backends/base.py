"""What a predictor asks of whatever computes: one batch of raw pixels in, class probabilities out."""

from abc import abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class Backend(Protocol):
    """A network that is ready to compute.

    Attributes:
        name: for people: what computes, in which precision, where.
        worthwhile: pixels in a batch beyond which it gets no faster. On CPUs layers leave the caches there:
            a U-Net with a ResNet-18 took 120 ms for an image of 512 x 512 alone, and 148 ms for one of four together.
    """

    name: str
    worthwhile: int = 2**18

    @abstractmethod
    def __call__(self, images: Image) -> Probabilities:
        """Return the probability of every class in every pixel.

        Args:
            images: (N, height, width, channels), raw pixel values; the sides are multiples of the network's `multiple`.

        Returns:
            (N, classes, height, width), summing to 1 over the classes.
        """
        ...

    def room(self, shape: tuple[int, int, int]) -> int | None:
        """Return how many images (height, width, channels) fit into free memory; None: that was not measured."""
        return None


class NullBackend(Backend):
    """Stands where a predictor is only asked what it takes."""

    name = "nothing"

    def __call__(self, images: Image) -> Probabilities:
        """Refuse.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("no backend was chosen yet")
