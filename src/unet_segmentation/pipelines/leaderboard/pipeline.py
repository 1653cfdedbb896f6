"""All finished runs of a problem in order, as a table and a plot."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.leaderboard import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Rank, plot."""
    return namespaced(
        "leaderboard",
        node(nodes.rank, wire("problem release bootstrap"), "leaderboard"),
        node(nodes.plot_ranks, wire("leaderboard"), "leaderboard_chart"),
    )
