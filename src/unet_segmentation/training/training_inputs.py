"""What a training starts from, besides its parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from safetensors.torch import save
from torch import Tensor

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ProjectError
from unet_segmentation.models.factory import SegmentationModel, build_model
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import AugmentationRecipe
from unet_segmentation.training.plan_rules import PlanValues


@dataclass(frozen=True)
class TrainingSetup:
    """What every process of a training needs besides the plan."""

    spec: ModelSpec
    initial_weights: Mapping[str, Tensor]
    packed: PackedSamples
    recipe: AugmentationRecipe

    def build_network(self) -> SegmentationModel:
        """Build the network with its initial weights.

        Raises:
            ProjectError: the weights belong to another network.
        """
        network = build_model(self.spec)
        try:
            network.load_state_dict(self.initial_weights)
        except RuntimeError as error:
            raise ProjectError(
                "The initial weights do not fit the network: run the node training.build_model again"
            ) from error
        return network


@dataclass(frozen=True)
class TrainingInputs(TrainingSetup):
    """What a training starts from, its plan included."""

    samples: pd.DataFrame  # columns sample_id, split, masks
    statistics: DatasetStatistics
    proposal: PlanValues  # for what the parameters leave open

    @cached_property
    def initial_weights_sha256(self) -> str:
        """Hash of the initial weights."""
        return hashlib.sha256(save(dict(self.initial_weights))).hexdigest()
