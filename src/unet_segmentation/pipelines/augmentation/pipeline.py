"""From parameters to a recipe file that training follows, and a picture of what training will see."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.augmentation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Compose the augmentation and preview it."""
    return namespaced(
        "augmentation",
        node(nodes.compose_augmentation, wire("statistics", augmentation="params:augmentation"), "augmentation_recipe"),
        node(
            nodes.preview_augmentation,
            wire("recipe samples packed proposed_plan training classes", augmentation="params:augmentation"),
            "augmentation_preview",
        ),
    )
