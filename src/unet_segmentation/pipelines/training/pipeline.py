"""From packed arrays and a recipe to a trained network and its history."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.training import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Propose a plan, build the network, settle the plan, train, plot the curves."""
    return Pipeline(
        [
            Node(
                nodes.propose_plan,
                ["dataset_statistics", "params:model", "params:training", "params:classes"],
                "proposed_plan",
                name="propose_plan",
            ),
            Node(
                nodes.build_model,
                ["params:model", "params:training", "proposed_plan", "params:classes", "dataset_statistics"],
                ["model_spec", "initial_weights"],
                name="build_model",
            ),
            Node(
                nodes.preflight,
                [
                    "model_spec",
                    "initial_weights",
                    "samples",
                    "packed_dataset",
                    "augmentation_recipe",
                    "dataset_statistics",
                    "proposed_plan",
                    "params:training",
                    "training_dir",
                ],
                "training_plan",
                name="preflight",
            ),
            Node(
                nodes.train,
                [
                    "model_spec",
                    "initial_weights",
                    "packed_dataset",
                    "augmentation_recipe",
                    "training_plan",
                    "params:training",
                    "training_dir",
                ],
                ["best_model", "last_checkpoint", "training_history"],
                name="train",
            ),
            Node(nodes.plot_training, ["training_history", "params:training"], "training_curves", name="plot_training"),
        ],
        namespace="training",
        prefix_datasets_with_namespace=False,
    )
