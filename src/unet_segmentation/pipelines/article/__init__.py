"""The article pipeline."""

from unet_segmentation.pipelines.article.pipeline import create_pipeline

__all__ = ["create_pipeline"]
