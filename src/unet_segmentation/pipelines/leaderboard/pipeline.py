"""All finished runs of a problem in order, as a table and a plot."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.leaderboard import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Rank, plot."""
    return Pipeline(
        [
            Node(nodes.rank, ["params:problem", "params:release", "params:bootstrap"], "leaderboard", name="rank"),
            Node(nodes.plot_ranks, "leaderboard", "leaderboard_chart", name="plot_ranks"),
        ],
        namespace="leaderboard",
        prefix_datasets_with_namespace=False,
    )
