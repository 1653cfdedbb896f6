"""What a training starts from, besides its parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save
from torch import Tensor

from unet_segmentation.errors import ProjectError
from unet_segmentation.models import factory as networks
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.training.plan_rules import PlanValues, validate_plan_values

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from unet_segmentation.parameters import AugmentationRecipe
    from unet_segmentation.training.sample_store import SampleStore


@dataclass(frozen=True)
class TrainingSetup:
    """What every process of a training needs besides the plan.

    Attributes:
        spec: of the network.
        initial_weights: state dict of the network.
        packed: images and masks.
        recipe: of the augmentation.
    """

    spec: ModelSpec
    initial_weights: Mapping[str, Tensor]
    packed: SampleStore
    recipe: AugmentationRecipe

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.spec.classes)

    def build_network(self) -> networks.SegmentationModel:
        """Build the network with its initial weights.

        Raises:
            ProjectError: the weights belong to another network.
        """
        network = networks.build_model(self.spec)
        try:
            network.load_state_dict(self.initial_weights)
        except RuntimeError as error:
            raise ProjectError(
                "The initial weights do not fit the network: run the node training.build_model again"
            ) from error
        return network


@dataclass(frozen=True)
class TrainingInputs(TrainingSetup):
    """What a training starts from, its plan included.

    Attributes:
        samples: columns sample_id, split, masks.
        statistics: of the training split.
        proposal: plan values for what the parameters leave open.
    """

    samples: pd.DataFrame
    statistics: dict[str, Any]
    proposal: PlanValues

    @cached_property
    def initial_weights_sha256(self) -> str:
        """Hash of the initial weights."""
        return hashlib.sha256(save(dict(self.initial_weights))).hexdigest()


def load_inputs(
    spec: ModelSpec,
    initial_weights: Path,
    *,
    samples: pd.DataFrame,
    packed: SampleStore,
    recipe: AugmentationRecipe,
    profile: dict[str, Any],
    plan: object,
) -> TrainingInputs:
    """Load the initial weights, validate the proposed plan, and put all inputs together."""
    return TrainingInputs(
        spec=spec,
        initial_weights=load_file(initial_weights),
        packed=packed,
        recipe=recipe,
        samples=samples,
        statistics=profile,
        proposal=validate_plan_values(plan, list(spec.classes)),
    )
