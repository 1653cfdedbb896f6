"""Several networks as one: the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.inference.backends.base import Backend, Image, Probabilities
from unet_segmentation.models.spec import ModelSpec

SHARED = ("classes", "in_channels", "range", "bands")  # what networks of one ensemble must share


class EnsembleBackend(Backend):
    """Averages the probabilities of several networks, such as those of the folds of a cross-validation."""

    def __init__(self, members: Sequence[Backend]) -> None:
        self.name = f"{len(members)} networks, {members[0].name}"
        self.saturation_pixels = members[0].saturation_pixels
        self._members = list(members)

    def __call__(self, images: Image) -> Probabilities:
        """See `Backend`."""
        total = self._members[0](images).copy()
        for member in self._members[1:]:
            total += member(images)
        return total / np.float32(len(self._members))

    def capacity(self, shape: tuple[int, int, int]) -> int | None:
        """See `Backend`; the members compute one after the other."""
        capacities = (member.capacity(shape) for member in self._members)
        return min((capacity for capacity in capacities if capacity is not None), default=None)


def common_spec(specs: Sequence[ModelSpec]) -> ModelSpec:
    """Return what the networks of an ensemble have in common; sides must fit the network that halves most often.

    Raises:
        ConfigurationError: they do not belong together.
    """
    first = specs[0]
    for other in specs[1:]:
        for name in SHARED:
            if (one := getattr(first, name)) != (two := getattr(other, name)):
                raise ConfigurationError(
                    f"These networks cannot be averaged: {name} is {one} in one and {two} in another. Take networks of "
                    "one problem."
                )
    return first.with_multiple(math.lcm(*(spec.multiple for spec in specs)))
