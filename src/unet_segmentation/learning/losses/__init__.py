"""Losses, computed in float32, with ignored pixels masked in all: `SegmentationLoss` sums them."""

from unet_segmentation.learning.losses.class_weights import automatic_class_weights
from unet_segmentation.learning.losses.segmentation import IGNORED, SegmentationLoss, one_hot

__all__ = ["IGNORED", "SegmentationLoss", "automatic_class_weights", "one_hot"]
