"""The preparation pipeline."""

from unet_segmentation.pipelines.preparation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
