"""From everything that training starts from to a learning rate. By name only: kedro run --pipelines lr_finder."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.lr_finder import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Find a learning rate, and plot the loss against it."""
    return Pipeline(
        [
            Node(
                nodes.find_learning_rate,
                inputs={
                    "network": "model_spec",
                    "initial_weights": "initial_weights",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "recipe": "augmentation_recipe",
                    "statistics": "dataset_statistics",
                    "plan": "proposed_plan",
                    "training": "params:training",
                },
                outputs="learning_rate",
                name="find_learning_rate",
            ),
            Node(nodes.plot_learning_rate, "learning_rate", "learning_rate_curve", name="plot_learning_rate"),
        ],
        namespace="lr_finder",
        prefix_datasets_with_namespace=False,
    )
