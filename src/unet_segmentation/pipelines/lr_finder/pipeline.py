"""From everything that training starts from to a learning rate. By name only: kedro run --pipelines lr_finder."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.lr_finder import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Find a learning rate, and plot the loss against it."""
    return namespaced(
        "lr_finder",
        node(
            nodes.find_learning_rate,
            wire("spec initial_weights samples packed recipe statistics proposed_plan training"),
            "learning_rate",
        ),
        node(nodes.plot_learning_rate, wire(result="learning_rate"), "learning_rate_curve"),
    )
