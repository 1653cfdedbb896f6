"""The one way from an image to class probabilities: evaluation, the logged model and serving all use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from unet_segmentation.data.io.bit_depth import BitDepthError, to_uint
from unet_segmentation.errors import DataError, ResourceError
from unet_segmentation.inference.backends.base import Backend, Image, Mask, Probabilities
from unet_segmentation.inference.sliding_window import (
    argmax_mask,
    blending_weights,
    padded,
    round_up_to_multiple,
    tile_starts,
)
from unet_segmentation.inference.test_time_augmentation import SymmetricBackend
from unet_segmentation.models.spec import ModelSpec

if TYPE_CHECKING:  # an exported model takes this module along, and has neither pydantic nor torch
    from unet_segmentation.parameters.predictor import PredictorParameters
    from unet_segmentation.utils.device import Accelerator

PAYS_OFF = 8  # images together, where nothing says how many fit


class ModelInput:
    """What a model takes: checks images, and knows what batches they make. Computes nothing.

    Args:
        inference: tile, overlap and limits.
        classes: in the order of their ids.
        channels: that images must have.
        multiple: sides of what the network takes are multiples of it.
        value_range: `images.range` of the training: what becomes 0 and 65535 where images do not hold uint8 or uint16.
        mean: of the training images by channel, in raw pixel units: stands where a raster holds no data.
    """

    def __init__(
        self,
        inference: PredictorParameters,
        *,
        classes: Sequence[str],
        channels: int,
        multiple: int = 32,
        value_range: tuple[float, float] | None = None,
        mean: Sequence[float] | None = None,
    ) -> None:
        self.inference, self.classes, self.channels, self.multiple = inference, list(classes), channels, multiple
        self.value_range, self.mean = value_range, mean

    @classmethod
    def from_spec(cls, spec: ModelSpec, inference: PredictorParameters) -> ModelInput:
        """Build it for a model."""
        return ModelInput(inference, **_requirements(spec))

    def example(self, image: Image) -> Image:
        """Return the first batch (1, height, width, channels) that an image makes: it alone, padded, or its first tile.

        Raises:
            DataError: the image is not what the network was trained on.
        """
        image = self.validate(image)
        size = self._padded_size(image)
        if self._is_large(image):
            side = round_up_to_multiple(self.inference.tile_size, self.multiple)
            size = min(side, size[0]), min(side, size[1])
        return padded(image[: size[0], : size[1]], size)[None]

    def validate(self, image: Image) -> Image:
        """Return an image as the network takes it, (height, width, channels) uint8 or uint16.

        Raises:
            DataError: the image is not what the network was trained on.
        """
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or 0 in image.shape:
            raise DataError(f"An image must be an array (height, width, channels); this one is {image.shape}.")
        try:
            image, _ = to_uint(image, self.value_range)
        except BitDepthError as error:
            raise DataError(
                f"An image must hold uint8 or uint16 pixels, or images.range must say how others are mapped; this one "
                f"{error}."
            ) from None
        if image.shape[2] != self.channels:
            raise DataError(
                f"The network was trained on images of {_kind(self.channels)}; this one has {_kind(image.shape[2])}. "
                "Convert it first."
            )
        return image

    def _is_large(self, image: Image) -> bool:
        return image.shape[0] * image.shape[1] > self.inference.max_pixels

    def _padded_size(self, image: Image) -> tuple[int, int]:
        return round_up_to_multiple(image.shape[0], self.multiple), round_up_to_multiple(image.shape[1], self.multiple)


class Predictor(ModelInput):
    """Applies a network to images of any size.

    An image of at most `predictor.max_pixels` goes through the network whole, padded by reflection to sides that
    the network can halve; a larger one in overlapping tiles, whose probabilities are averaged with Gaussian weights.
    Either way the result has the image's size. At most `max_pixels` (or one tile, where that is more) are in the
    network at a time.
    """

    def __init__(self, backend: Backend, inference: PredictorParameters, **requirements: Any) -> None:  # noqa: ANN401
        """Build it from what computes and what its network takes (keywords of `ModelInput`)."""
        super().__init__(inference, **requirements)
        symmetries = inference.test_time_augmentation
        self.backend = backend if symmetries == "none" else SymmetricBackend(backend, symmetries)

    @classmethod
    def of(cls, spec: ModelSpec, backend: Backend, inference: PredictorParameters) -> Self:
        """Build the predictor of a model from its spec, whatever computes it."""
        return cls(backend, inference, **_requirements(spec))

    @classmethod
    def from_file(cls, model: Path, inference: PredictorParameters, accelerator: Accelerator = "auto") -> Self:
        """Load a network that training published.

        Args:
            model: safetensors file.
            inference: tile, overlap and limits.
            accelerator: `auto` takes a GPU where there is one.

        Raises:
            ProjectError: the file holds no network of this project.
            ResourceError: the accelerator is not there.
        """
        from unet_segmentation.inference.backends.pytorch import EagerBackend
        from unet_segmentation.models.model_file import load_model

        network, info = load_model(model)
        return cls.of(info.spec, EagerBackend(network, accelerator), inference)

    def predict(self, image: Image) -> Mask:
        """Return the most probable class of every pixel.

        Args:
            image: (height, width, channels) uint8 or uint16, the bands that the network was trained on; (height,
                width) where it takes one channel. Numbers of other types are mapped as `images.range` said for
                training (see `bit_depth.to_uint`).

        Returns:
            (height, width) class ids.

        Raises:
            DataError: the image is not what the network was trained on.
        """
        return argmax_mask(self.probabilities(image))

    def probabilities(self, image: Image) -> Probabilities:
        """Return the probability of every class in every pixel, (classes, height, width); see `predict`."""
        return next(self.predict_many([image]))

    def predict_many(self, images: Iterable[Image]) -> Iterator[Probabilities]:
        """Return the probabilities of many images, one after the other; neighbours of one size share a batch.

        Args:
            images: see `predict`; read one batch ahead.

        Yields:
            (classes, height, width) for every image, in their order.
        """
        batch: list[Image] = []
        for image in map(self.validate, images):
            if batch and not self._fits(batch, image):
                yield from self._whole(batch)
                batch = []
            if self._is_large(image):
                yield self._tiled(image)
            else:
                batch.append(image)
        if batch:
            yield from self._whole(batch)

    def _fits(self, batch: list[Image], image: Image) -> bool:
        """Return whether one more image may join a batch: same padded size, and not too many together."""
        size = self._padded_size(image)
        same = size == self._padded_size(batch[0]) and image.dtype == batch[0].dtype
        return same and len(batch) < self.batch_size(*size)

    def batch_size(self, height: int, width: int) -> int:
        """Return how many images, or tiles, of a padded size go through the network together.

        At most `batch_size`, at most `max_pixels` in all, and no more than makes it faster. With `batch_size: auto`
        as many as fit into the free memory, where the backend can measure that (on a GPU).
        """
        pixels, batch_size = height * width, self.inference.batch_size
        limit = self.inference.max_pixels // pixels
        if batch_size == "auto":
            capacity = self.backend.capacity((height, width, self.channels))
            most = min(PAYS_OFF, limit) if capacity is None else capacity
        else:
            most = min(batch_size, limit)
        return max(1, min(most, self.backend.saturation_pixels // pixels))

    def _whole(self, images: list[Image]) -> Iterator[Probabilities]:
        size = self._padded_size(images[0])
        predictions = self.compute([padded(image, size) for image in images])
        for image, probabilities in zip(images, predictions, strict=True):
            yield probabilities[:, : image.shape[0], : image.shape[1]]

    def _tiled(self, image: Image) -> Probabilities:
        height, width = image.shape[:2]
        side = round_up_to_multiple(self.inference.tile_size, self.multiple)
        tile = min(side, self._padded_size(image)[0]), min(side, self._padded_size(image)[1])
        image = padded(image, (max(height, tile[0]), max(width, tile[1])))
        corners = [
            (top, left)
            for top in tile_starts(image.shape[0], tile[0], self.inference.overlap)
            for left in tile_starts(image.shape[1], tile[1], self.inference.overlap)
        ]
        weights = blending_weights(tile[0], tile[1])
        total = np.zeros((len(self.classes), *image.shape[:2]), np.float32)
        weight = np.zeros(image.shape[:2], np.float32)
        batch_size = self.batch_size(*tile)
        for start in range(0, len(corners), batch_size):
            places = [
                (slice(top, top + tile[0]), slice(left, left + tile[1]))
                for top, left in corners[start : start + batch_size]
            ]
            predictions = self.compute([image[place] for place in places])
            for place, probabilities in zip(places, predictions, strict=True):
                total[:, *place] += probabilities * weights
                weight[place] += weights
        total /= weight
        return total[:, :height, :width]

    def compute(self, images: list[Image]) -> Probabilities:
        """Run images, or tiles, of one padded size and dtype through the network; in halves where memory is short.

        Raises:
            ResourceError: not even one of them fits into memory.
        """
        try:
            return self.backend(np.stack(images))  # type: ignore[arg-type] # they are of one dtype
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(images) == 1:
                raise ResourceError(
                    f"An image of {images[0].shape[1]} x {images[0].shape[0]} pixels does not fit into memory beside "
                    "the network. Let it go in smaller tiles: predictor.max_pixels and predictor.tile_size."
                ) from None
        middle = len(images) // 2
        return np.concatenate([self.compute(images[:middle]), self.compute(images[middle:])])


def _requirements(spec: ModelSpec) -> dict[str, Any]:
    return {
        "classes": spec.classes,
        "channels": spec.in_channels,
        "multiple": spec.multiple,
        "value_range": spec.range,
        "mean": spec.mean,
    }


def _is_out_of_memory(error: Exception) -> bool:
    """Judge by the words of the error: this module does not import torch."""
    words = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or "OutOfMemory" in words or "can't allocate memory" in words


def _kind(channels: int) -> str:
    names = {1: "1 channel (grey)", 3: "3 channels (RGB)", 4: "4 channels (RGB and transparency?)"}
    return names.get(channels, f"{channels} channels")
