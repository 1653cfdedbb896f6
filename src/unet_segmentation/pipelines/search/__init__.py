from unet_segmentation.pipelines.search.pipeline import create_pipeline

__all__ = ["create_pipeline"]
