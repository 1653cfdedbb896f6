from unet_segmentation.pipelines.article_claims.pipeline import create_pipeline

__all__ = ["create_pipeline"]
