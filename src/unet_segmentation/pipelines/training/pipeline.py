"""From packed arrays and a recipe to a trained network and its history."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.training import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Build the network, settle the plan, train, plot the curves."""
    return Pipeline(
        [
            Node(
                nodes.build_network,
                ["params:network", "params:training", "plan", "params:classes", "profile"],
                ["network", "initial_weights"],
                name="build_network",
            ),
            Node(
                nodes.preflight,
                [
                    "network",
                    "initial_weights",
                    "samples",
                    "packed_samples",
                    "augmentation_recipe",
                    "profile",
                    "plan",
                    "params:training",
                    "training_folder",
                ],
                "training_plan",
                name="preflight",
            ),
            Node(
                nodes.train,
                [
                    "network",
                    "initial_weights",
                    "packed_samples",
                    "augmentation_recipe",
                    "training_plan",
                    "params:training",
                    "training_folder",
                ],
                ["best_model", "last_checkpoint", "training_history"],
                name="train",
            ),
            Node(nodes.plot_training, ["training_history", "params:training"], "training_curves", name="plot_training"),
        ],
        namespace="training",
        prefix_datasets_with_namespace=False,
    )
