"""From packed arrays and a recipe to a trained network and its history."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.training import nodes

INPUTS = {  # what a training starts from
    "network": "model_spec",
    "initial_weights": "initial_weights",
    "samples": "samples",
    "packed": "packed_dataset",
    "recipe": "augmentation_recipe",
    "statistics": "dataset_statistics",
    "plan": "proposed_plan",
    "training": "params:training",
    "folder": "training_dir",
}


def create_pipeline(**_: object) -> Pipeline:
    """Propose a plan, build the network, resolve the plan, train, plot the curves."""
    return Pipeline(
        [
            Node(
                nodes.propose_plan,
                inputs={
                    "statistics": "dataset_statistics",
                    "network": "params:model",
                    "training": "params:training",
                    "classes": "params:classes",
                },
                outputs="proposed_plan",
                name="propose_plan",
            ),
            Node(
                nodes.build_model,
                inputs={
                    "network": "params:model",
                    "training": "params:training",
                    "plan": "proposed_plan",
                    "classes": "params:classes",
                    "statistics": "dataset_statistics",
                },
                outputs=["model_spec", "initial_weights"],
                name="build_model",
            ),
            Node(nodes.preflight, inputs=INPUTS, outputs="training_plan", name="preflight"),
            Node(
                nodes.train,
                inputs=INPUTS | {"training_plan": "training_plan"},
                outputs=["best_model", "last_checkpoint", "training_history"],
                name="train",
            ),
            Node(
                nodes.plot_training,
                inputs={"history": "training_history", "training": "params:training"},
                outputs="training_curves",
                name="plot_training",
            ),
        ],
        namespace="training",
        prefix_datasets_with_namespace=False,
    )
