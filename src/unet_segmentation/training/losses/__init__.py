"""Losses, computed in float32, with ignored pixels masked in all: `SegmentationLoss` sums them."""

from unet_segmentation.training.losses.class_weights import automatic_class_weights
from unet_segmentation.training.losses.composite import IGNORED, CompositeLoss, one_hot

__all__ = ["IGNORED", "CompositeLoss", "automatic_class_weights", "one_hot"]
