"""The learning-rate pipeline."""

from unet_segmentation.pipelines.learning_rate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
