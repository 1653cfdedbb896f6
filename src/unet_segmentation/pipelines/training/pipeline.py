"""From packed arrays and a recipe to a trained network and its history."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.training import nodes

INPUTS = wire("spec initial_weights samples packed recipe statistics proposed_plan training", folder="training_dir")


def create_pipeline(**_: object) -> Pipeline:
    """Propose a plan, build the network, resolve the plan, train, plot the curves."""
    return namespaced(
        "training",
        node(nodes.propose_plan, wire("statistics model_params training classes"), "proposed_plan"),
        node(
            nodes.build_model,
            wire("model_params training proposed_plan classes statistics"),
            ["model_spec", "initial_weights"],
        ),
        node(nodes.preflight, INPUTS, "training_plan"),
        node(nodes.train, INPUTS | wire("training_plan"), ["best_model", "last_checkpoint", "training_history"]),
        node(nodes.plot_training, wire("training", history="training_history"), "training_curves"),
    )
