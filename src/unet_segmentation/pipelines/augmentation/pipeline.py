"""From parameters to a recipe file that training follows, and a picture of what training will see."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.augmentation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Compose the augmentation and preview it."""
    return Pipeline(
        [
            Node(
                nodes.compose_augmentation,
                inputs={"augmentation": "params:augmentation", "statistics": "dataset_statistics"},
                outputs="augmentation_recipe",
                name="compose_augmentation",
            ),
            Node(
                nodes.preview_augmentation,
                inputs={
                    "recipe": "augmentation_recipe",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "plan": "proposed_plan",
                    "training": "params:training",
                    "augmentation": "params:augmentation",
                    "classes": "params:classes",
                },
                outputs="augmentation_preview",
                name="preview_augmentation",
            ),
        ],
        namespace="augmentation",
        prefix_datasets_with_namespace=False,
    )
