"""From parameters to a recipe file that training follows, and a picture of what training will see."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.augmentation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Compose the augmentation and preview it."""
    return Pipeline(
        [
            Node(
                nodes.compose_augmentation,
                ["params:augmentation", "dataset_statistics"],
                "augmentation_recipe",
                name="compose_augmentation",
            ),
            Node(
                nodes.preview_augmentation,
                [
                    "augmentation_recipe",
                    "samples",
                    "packed_dataset",
                    "proposed_plan",
                    "params:training",
                    "params:augmentation",
                    "params:classes",
                ],
                "augmentation_preview",
                name="preview_augmentation",
            ),
        ],
        namespace="augmentation",
        prefix_datasets_with_namespace=False,
    )
