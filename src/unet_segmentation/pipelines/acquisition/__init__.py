"""The acquisition pipeline."""

from unet_segmentation.pipelines.acquisition.pipeline import create_pipeline

__all__ = ["create_pipeline"]
