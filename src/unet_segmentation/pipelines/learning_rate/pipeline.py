"""From everything that training starts from to a learning rate. By name only: kedro run --pipelines learning_rate."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.learning_rate import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Find a learning rate, and draw how the loss answered."""
    return Pipeline(
        [
            Node(
                nodes.find_learning_rate,
                [
                    "network",
                    "initial_weights",
                    "samples",
                    "packed_samples",
                    "augmentation_recipe",
                    "profile",
                    "plan",
                    "params:training",
                ],
                "learning_rate",
                name="find_learning_rate",
            ),
            Node(nodes.plot_learning_rate, "learning_rate", "learning_rate_curve", name="plot_learning_rate"),
        ],
        namespace="learning_rate",
        prefix_datasets_with_namespace=False,
    )
