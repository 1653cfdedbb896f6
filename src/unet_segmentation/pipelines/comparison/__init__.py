"""The comparison pipeline."""

from unet_segmentation.pipelines.comparison.pipeline import create_pipeline

__all__ = ["create_pipeline"]
