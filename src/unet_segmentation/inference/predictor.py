"""The one way from an image to class probabilities: evaluation, the logged model and serving all use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

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
from unet_segmentation.inference.test_time_augmentation import TestTimeAugmentationBackend
from unet_segmentation.models.spec import ModelSpec

if TYPE_CHECKING:  # an exported model takes this module along, and has neither pydantic nor torch
    from unet_segmentation.parameters.predictor import PredictorParameters
    from unet_segmentation.utils.device import Accelerator

PAYS_OFF = 8  # images together, where nothing says how many fit


@dataclass(frozen=True)
class InputSpec:
    """What a model takes: checks images, and knows what batches they make. Computes nothing."""

    spec: ModelSpec
    inference: PredictorParameters  # tile, overlap and limits

    def example(self, image: Image) -> Image:
        """Return the first batch (1, height, width, channels) that an image makes: it alone, padded, or its first tile.

        Raises:
            DataError: the image is not what the network was trained on.
        """
        image = self.validate(image)
        size = self.tile_size(image) if self.is_large(image) else self.padded_size(image)
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
            image, _ = to_uint(image, self.spec.range)
        except BitDepthError as error:
            raise DataError(
                f"An image must hold uint8 or uint16 pixels, or images.range must say how others are mapped; this one "
                f"{error}."
            ) from None
        if image.shape[2] != self.spec.in_channels:
            raise DataError(
                f"The network was trained on images of {_kind(self.spec.in_channels)}; this one has "
                f"{_kind(image.shape[2])}. Convert it first."
            )
        return image

    def is_large(self, image: Image) -> bool:
        """Return whether an image goes through the network in tiles."""
        return image.shape[0] * image.shape[1] > self.inference.max_pixels

    def padded_size(self, image: Image) -> tuple[int, int]:
        """Return the next height and width that are divisible by the network's multiple."""
        height, width = image.shape[:2]
        return round_up_to_multiple(height, self.spec.multiple), round_up_to_multiple(width, self.spec.multiple)

    def tile_size(self, image: Image) -> tuple[int, int]:
        """Return height and width of the tiles of an image: no larger than the image, padded."""
        side = round_up_to_multiple(self.inference.tile_size, self.spec.multiple)
        height, width = self.padded_size(image)
        return min(side, height), min(side, width)


class Predictor:
    """Applies a network to images of any size.

    An image of at most `predictor.max_pixels` goes through the network whole, padded by reflection to sides that
    the network can halve; a larger one in overlapping tiles, whose probabilities are averaged with Gaussian weights.
    Either way the result has the image's size. At most `max_pixels` (or one tile, where that is more) are in the
    network at a time.
    """

    def __init__(self, spec: ModelSpec, backend: Backend, inference: PredictorParameters) -> None:
        """Build the predictor of a model from its spec, whatever computes it."""
        self.spec, self.input = spec, InputSpec(spec, inference)
        symmetries = inference.test_time_augmentation
        self.backend = backend if symmetries == "none" else TestTimeAugmentationBackend(backend, symmetries)

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
        return cls(info.spec, EagerBackend(network, accelerator), inference)

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
        """Return the probabilities of many images, one after the other; neighbors of one size share a batch.

        Args:
            images: see `predict`; read one batch ahead.

        Yields:
            (classes, height, width) for every image, in their order.
        """
        batch: list[Image] = []
        for image in map(self.input.validate, images):
            if batch and not self._fits(batch, image):
                yield from self._whole(batch)
                batch = []
            if self.input.is_large(image):
                yield self._tiled(image)
            else:
                batch.append(image)
        if batch:
            yield from self._whole(batch)

    def _fits(self, batch: list[Image], image: Image) -> bool:
        """Return whether one more image may join a batch: same padded size, and not too many together."""
        size = self.input.padded_size(image)
        same = size == self.input.padded_size(batch[0]) and image.dtype == batch[0].dtype
        return same and len(batch) < self.batch_size(*size)

    def batch_size(self, height: int, width: int) -> int:
        """Return how many images, or tiles, of a padded size go through the network together.

        At most `batch_size`, at most `max_pixels` in all, and no more than makes it faster. With `batch_size: auto`
        as many as fit into the free memory, where the backend can measure that (on a GPU).
        """
        inference, pixels = self.input.inference, height * width
        limit = inference.max_pixels // pixels
        if inference.batch_size == "auto":
            capacity = self.backend.capacity((height, width, self.spec.in_channels))
            most = min(PAYS_OFF, limit) if capacity is None else capacity
        else:
            most = min(inference.batch_size, limit)
        return max(1, min(most, self.backend.saturation_pixels // pixels))

    def _whole(self, images: list[Image]) -> Iterator[Probabilities]:
        size = self.input.padded_size(images[0])
        predictions = self.compute([padded(image, size) for image in images])
        for image, probabilities in zip(images, predictions, strict=True):
            yield probabilities[:, : image.shape[0], : image.shape[1]]

    def _tiled(self, image: Image) -> Probabilities:
        height, width = image.shape[:2]
        tile, overlap = self.input.tile_size(image), self.input.inference.overlap
        image = padded(image, (max(height, tile[0]), max(width, tile[1])))
        corners = [
            (top, left)
            for top in tile_starts(image.shape[0], tile[0], overlap)
            for left in tile_starts(image.shape[1], tile[1], overlap)
        ]
        weights = blending_weights(tile[0], tile[1])
        total = np.zeros((len(self.spec.classes), *image.shape[:2]), np.float32)
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


def _is_out_of_memory(error: Exception) -> bool:
    """Judge by the words of the error: this module does not import torch."""
    words = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or "OutOfMemory" in words or "can't allocate memory" in words


def _kind(channels: int) -> str:
    names = {1: "1 channel (gray)", 3: "3 channels (RGB)", 4: "4 channels (RGB and transparency?)"}
    return names.get(channels, f"{channels} channels")
