"""The planning pipeline."""

from unet_segmentation.pipelines.planning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
