"""The one way from an image to class probabilities: evaluation, the logged model and serving all use it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unet_segmentation.depth import DepthError, whole_numbers
from unet_segmentation.errors import DataError, ResourceError
from unet_segmentation.parameters.evaluation import InferenceParameters

Image = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]

SIGMA = 1 / 8  # of the blending weights, as a share of the tile's side (nnU-Net)


class Predictor:
    """Applies a network to images of any size.

    An image of at most `inference.maximum_pixels` goes through the network whole, padded by reflection to sides that
    the network can halve; a larger one in overlapping tiles, whose probabilities are averaged with Gaussian weights.
    Either way the result has the image's size. At most `maximum_pixels` (or one tile, where that is more) are in the
    network at a time.

    Attributes:
        classes: names of the classes, in the order of their ids.
        channels: number of channels that images must have.
        value_range: of images that do not hold uint8 or uint16, as when they were prepared.
        device: where the network runs.
    """

    def __init__(
        self,
        network: nn.Module,
        inference: InferenceParameters,
        *,
        classes: Sequence[str],
        channels: int,
        multiple: int = 32,
        value_range: tuple[float, float] | None = None,
        accelerator: Accelerator = "auto",
    ) -> None:
        """Put a network on its device.

        Args:
            network: takes raw pixel values (N, channels, H, W), uint8 or int32, and gives logits (N, classes, H, W).
            inference: tile, overlap and limits.
            classes: names of the classes.
            channels: number of channels that images must have.
            multiple: sides of what the network takes must be multiples of it.
            value_range: `images.range` of the training: what becomes 0 and 65535 where images do not hold uint8 or
                uint16.
            accelerator: `auto` takes a GPU where there is one.

        Raises:
            ResourceError: the accelerator is not there.
        """
        self.inference, self.classes, self.channels, self.multiple = inference, list(classes), channels, multiple
        self.value_range = value_range
        self.device = pick_device(accelerator)
        self._network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_file(cls, model: Path, inference: InferenceParameters, accelerator: Accelerator = "auto") -> Self:
        """Load a network that training published.

        Args:
            model: safetensors file.
            inference: tile, overlap and limits.
            accelerator: `auto` takes a GPU where there is one.

        Raises:
            ProjectError: the file holds no network of this project.
            ResourceError: the accelerator is not there.
        """
        from unet_segmentation.learning.network import load_model

        network, information = load_model(model)
        specification = information["specification"]
        return cls(
            network,
            inference,
            classes=specification["classes"],
            channels=specification["in_channels"],
            multiple=specification["multiple"],
            value_range=specification.get("range"),  # models of older versions have none
            accelerator=accelerator,
        )

    def predict(self, image: Image) -> Mask:
        """Give the most probable class of every pixel.

        Args:
            image: (height, width, channels) uint8 or uint16, the bands that the network was trained on; (height,
                width) where it takes one channel. Numbers of other types are mapped as `images.range` said for
                training (see `depth.whole_numbers`).

        Returns:
            (height, width) class ids.

        Raises:
            DataError: the image is not what the network was trained on.
        """
        return most_probable(self.probabilities(image))

    def probabilities(self, image: Image) -> Probabilities:
        """Give the probability of every class in every pixel.

        Args:
            image: see `predict`.

        Returns:
            (classes, height, width), summing to 1 over the classes.

        Raises:
            DataError: the image is not what the network was trained on.
        """
        return next(self.predict_many([image]))

    def predict_many(self, images: Iterable[Image]) -> Iterator[Probabilities]:
        """Give the probabilities of many images, one after the other; neighbours of one size share a batch.

        Args:
            images: see `predict`; read one batch ahead.

        Yields:
            (classes, height, width) for every image, in their order.

        Raises:
            DataError: an image is not what the network was trained on.
        """
        batch: list[Image] = []
        for image in map(self._checked, images):
            if batch and not self._fits(batch, image):
                yield from self._whole(batch)
                batch = []
            if self._is_large(image):
                yield self._tiled(image)
            else:
                batch.append(image)
        if batch:
            yield from self._whole(batch)

    def _checked(self, image: Image) -> Image:
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or 0 in image.shape:
            raise DataError(f"An image must be an array (height, width, channels); this one is {image.shape}.")
        try:
            image, _ = whole_numbers(image, self.value_range)
        except DepthError as error:
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
        return image.shape[0] * image.shape[1] > self.inference.maximum_pixels

    def _fits(self, batch: list[Image], image: Image) -> bool:
        """Tell whether one more image may join a batch: same padded size, and not too many pixels together."""
        size = self._padded_size(image)
        room = self.inference.maximum_pixels // (size[0] * size[1])
        same = size == self._padded_size(batch[0]) and image.dtype == batch[0].dtype
        return same and len(batch) < min(self.inference.batch_size, room)

    def _padded_size(self, image: Image) -> tuple[int, int]:
        return _rounded_up(image.shape[0], self.multiple), _rounded_up(image.shape[1], self.multiple)

    def _whole(self, images: list[Image]) -> Iterator[Probabilities]:
        size = self._padded_size(images[0])
        found = self._softmax([padded(image, size) for image in images])
        for image, probabilities in zip(images, found, strict=True):
            yield probabilities[:, : image.shape[0], : image.shape[1]]

    def _tiled(self, image: Image) -> Probabilities:
        height, width = image.shape[:2]
        side = _rounded_up(self.inference.tile_size, self.multiple)
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
        together = max(1, min(self.inference.batch_size, self.inference.maximum_pixels // (tile[0] * tile[1])))
        for start in range(0, len(corners), together):
            places = [
                (slice(top, top + tile[0]), slice(left, left + tile[1]))
                for top, left in corners[start : start + together]
            ]
            found = self._softmax([image[place] for place in places])
            for place, probabilities in zip(places, found, strict=True):
                total[:, *place] += probabilities * weights
                weight[place] += weights
        total /= weight
        return total[:, :height, :width]

    @torch.inference_mode()
    def _softmax(self, images: list[Image]) -> Probabilities:
        """Run images of one padded size through the network: (N, classes, height, width)."""
        stack = np.stack(images)
        pixels = torch.from_numpy(stack if stack.dtype == np.uint8 else stack.astype(np.int32)).to(self.device)
        # (N, H, W, C) seen as (N, C, H, W) lies in channels_last order already.
        logits = self._network(pixels.permute(0, 3, 1, 2))
        return torch.softmax(logits.float(), dim=1).cpu().numpy()


def most_probable(probabilities: Probabilities) -> Mask:
    """Give the most probable class of every pixel; of equal ones, the first.

    Args:
        probabilities: (classes, height, width).
    """
    best = probabilities[0].copy()
    mask = np.zeros(best.shape, np.uint8)
    for number in range(1, len(probabilities)):  # four times as fast as numpy's argmax over the first axis
        better = probabilities[number] > best
        mask[better] = number
        np.maximum(best, probabilities[number], out=best)
    return mask


def padded(image: Image, size: tuple[int, int]) -> Image:
    """Extend an image below and to the right by reflection (an image of one pixel: by repetition).

    Args:
        image: (height, width, channels).
        size: height and width wanted, not smaller than the image's.
    """
    below, right = size[0] - image.shape[0], size[1] - image.shape[1]
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="reflect")  # type: ignore[return-value]


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Place tiles along one side: evenly, the first at 0, the last at the end, neighbours sharing at least `overlap`.

    Args:
        length: of the side, in pixels, at least `tile`.
        tile: length of a tile, in pixels.
        overlap: share of a tile.
    """
    step = max(1, int(tile * (1 - overlap)))
    count = math.ceil((length - tile) / step) + 1
    return [round(place) for place in np.linspace(0, length - tile, count)]


def blending_weights(height: int, width: int) -> NDArray[np.float32]:
    """Weigh the pixels of a tile: a Gaussian around its middle, sigma an eighth of its side, nowhere 0.

    As in nnU-Net (Isensee et al. 2021): a network knows least at the border of a tile.

    Returns:
        (height, width), at most 1.
    """
    rows, columns = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side * SIGMA)) ** 2) for side in (height, width)
    )
    return np.outer(rows, columns).astype(np.float32)


def _rounded_up(length: int, multiple: int) -> int:
    return math.ceil(length / multiple) * multiple


def _kind(channels: int) -> str:
    names = {1: "1 channel (grey)", 3: "3 channels (RGB)", 4: "4 channels (RGB and transparency?)"}
    return names.get(channels, f"{channels} channels")


def pick_device(accelerator: Accelerator) -> torch.device:
    """Choose where a network runs.

    Raises:
        ResourceError: the accelerator is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[accelerator]:
        raise ResourceError(f"accelerator: {accelerator} was asked for, but there is none here. Use auto or cpu.")
    return torch.device(accelerator)
