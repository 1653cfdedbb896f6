"""Several networks as one: the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.inference.backends.base import Backend, Image, Probabilities

ALIKE = ("classes", "in_channels", "range", "bands")  # what networks of one ensemble must share


class EnsembleBackend(Backend):
    """Averages the probabilities of several networks, such as those of the folds of a cross-validation.

    Attributes:
        name: for people.
    """

    def __init__(self, members: Sequence[Backend]) -> None:
        """Take the members, at least one."""
        self.name = f"{len(members)} networks, {members[0].name}"
        self.worthwhile = members[0].worthwhile
        self._members = list(members)

    def __call__(self, images: Image) -> Probabilities:
        """See `Backend`."""
        total = self._members[0](images).copy()
        for member in self._members[1:]:
            total += member(images)
        return total / np.float32(len(self._members))

    def room(self, shape: tuple[int, int, int]) -> int | None:
        """See `Backend`; the members compute one after the other."""
        known = [room for member in self._members if (room := member.room(shape)) is not None]
        return min(known, default=None)


def common_specification(specifications: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the networks of an ensemble have in common; sides must fit the network that halves most often.

    Raises:
        ConfigurationError: they do not belong together.
    """
    first = dict(specifications[0])
    for other in specifications[1:]:
        if differing := [name for name in ALIKE if other.get(name) != first.get(name)]:
            name = differing[0]
            raise ConfigurationError(
                f"These networks cannot be averaged: {name} is {first.get(name)} in one and {other.get(name)} in "
                "another. Take networks of one problem."
            )
    return {**first, "multiple": math.lcm(*(int(each["multiple"]) for each in specifications))}
