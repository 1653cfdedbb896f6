from unet_segmentation.pipelines.lr_finder.pipeline import create_pipeline

__all__ = ["create_pipeline"]
