"""What a training starts from, besides its plan."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.training.patch_dataset import SampleStore


class TrainingInputs(NamedTuple):
    """What is trained, and on what.

    Attributes:
        network: with its initial weights; a training changes it in place.
        specification: of the network, see `models.spec`.
        samples: packed images and masks.
        recipe: of the augmentation.
    """

    network: nn.Module
    specification: ModelSpec
    samples: SampleStore
    recipe: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.specification.classes)
