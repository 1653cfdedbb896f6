"""Test-time augmentation: the mean over mirrored and turned views, each prediction turned back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.backends.base import Backend, Image, Probabilities

if TYPE_CHECKING:  # an exported model carries this file to where there is no pydantic
    from unet_segmentation.parameters.predictor import Symmetries

View = tuple[int, bool]  # quarter turns, then mirrored left to right or not
VIEWS: dict[Symmetries, list[View]] = {
    "none": [(0, False)],
    "flip": [(0, False), (0, True), (2, False), (2, True)],
    "d4": [(turns, mirrored) for turns in range(4) for mirrored in (False, True)],
}
"""`flip`: as it is, mirrored left to right, upside down, both. `d4`: all eight symmetries of the square."""


class TestTimeAugmentationBackend(Backend):
    """Averages the probabilities of an image over its symmetries; `backend` computes each view."""

    def __init__(self, backend: Backend, symmetries: Symmetries) -> None:
        self._backend, self._views = backend, VIEWS[symmetries]
        self.name, self.saturation_pixels = f"{backend.name}, {len(self._views)} views", backend.saturation_pixels

    def __call__(self, images: Image) -> Probabilities:
        """See `Backend`."""
        total: Probabilities | None = None
        for turns, mirrored in self._views:
            view: Image = np.ascontiguousarray(_seen(images, turns, mirrored, (1, 2)))
            prediction = _seen_back(self._backend(view), turns, mirrored, (2, 3))
            total = prediction.copy() if total is None else np.add(total, prediction, out=total)
        assert total is not None
        return total / np.float32(len(self._views))

    def capacity(self, shape: tuple[int, int, int]) -> int | None:
        """See `Backend`; the views are computed one after the other."""
        return self._backend.capacity(shape)


def _seen(array: NDArray[Any], turns: int, mirrored: bool, axes: tuple[int, int]) -> NDArray[Any]:
    turned = np.rot90(array, turns, axes)
    return np.flip(turned, axes[1]) if mirrored else turned


def _seen_back(array: NDArray[Any], turns: int, mirrored: bool, axes: tuple[int, int]) -> NDArray[Any]:
    return np.rot90(np.flip(array, axes[1]) if mirrored else array, -turns, axes)
