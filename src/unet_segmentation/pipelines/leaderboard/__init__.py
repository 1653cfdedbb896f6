from unet_segmentation.pipelines.leaderboard.pipeline import create_pipeline

__all__ = ["create_pipeline"]
