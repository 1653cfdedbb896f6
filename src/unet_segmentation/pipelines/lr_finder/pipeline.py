"""From everything that training starts from to a learning rate. By name only: kedro run --pipelines lr_finder."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.lr_finder import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Find a learning rate, and draw how the loss answered."""
    return Pipeline(
        [
            Node(
                nodes.find_learning_rate,
                [
                    "model_spec",
                    "initial_weights",
                    "samples",
                    "packed_dataset",
                    "augmentation_recipe",
                    "dataset_statistics",
                    "proposed_plan",
                    "params:training",
                ],
                "learning_rate",
                name="find_learning_rate",
            ),
            Node(nodes.plot_learning_rate, "learning_rate", "learning_rate_curve", name="plot_learning_rate"),
        ],
        namespace="lr_finder",
        prefix_datasets_with_namespace=False,
    )
