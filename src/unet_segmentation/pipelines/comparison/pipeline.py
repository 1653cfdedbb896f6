"""Declared variants, trained and evaluated on the same prepared data and held against each other."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.comparison import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Declare, train and evaluate, rank, plot, sum up, write; say at the end whether some failed."""
    return Pipeline(
        [
            Node(
                nodes.declare_variants,
                ["parameters", "params:comparison", "profile"],
                "comparison_variants",
                name="declare_variants",
            ),
            Node(
                nodes.train_variants,
                [
                    "comparison_variants",
                    "parameters",
                    "samples",
                    "packed_samples",
                    "profile",
                    "plan",
                    "comparison_folder",
                ],
                ["comparison_runs", "comparison_costs"],
                name="train_variants",
            ),
            Node(
                nodes.rank_variants,
                [
                    "comparison_runs",
                    "samples",
                    "params:classes",
                    "params:release",
                    "params:evaluation",
                    "comparison_folder",
                ],
                "comparison_leaderboard",
                name="rank_variants",
            ),
            Node(
                nodes.plot_frontier,
                ["comparison_leaderboard", "comparison_costs", "params:release"],
                "comparison_frontier",
                name="plot_frontier",
            ),
            Node(
                nodes.summarise,
                [
                    "params:comparison",
                    "parameters",
                    "comparison_leaderboard",
                    "comparison_runs",
                    "comparison_costs",
                    "comparison_frontier",
                    "params:release",
                    "samples",
                    "profile",
                ],
                "comparison_summary",
                name="summarise",
            ),
            Node(
                nodes.write_page,
                ["params:problem", "comparison_summary", "comparison_runs", "comparison_costs"],
                "comparison_page",
                name="write_page",
            ),
            Node(nodes.conclude, ["comparison_runs", "comparison_page"], None, name="conclude"),
        ],
        namespace="comparison",
        prefix_datasets_with_namespace=False,
    )
