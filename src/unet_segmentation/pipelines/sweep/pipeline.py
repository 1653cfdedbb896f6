"""Declared variants, trained and evaluated on the same prepared data and held against each other."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.sweep import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Declare, train and evaluate, rank, plot, sum up, write; say at the end whether some failed."""
    return Pipeline(
        [
            Node(
                nodes.declare_variants,
                ["parameters", "params:sweep", "dataset_statistics"],
                "sweep_variants",
                name="declare_variants",
            ),
            Node(
                nodes.train_variants,
                [
                    "sweep_variants",
                    "parameters",
                    "samples",
                    "packed_dataset",
                    "dataset_statistics",
                    "proposed_plan",
                    "sweep_dir",
                ],
                ["sweep_runs", "sweep_costs"],
                name="train_variants",
            ),
            Node(
                nodes.rank_variants,
                [
                    "sweep_runs",
                    "samples",
                    "params:classes",
                    "params:release",
                    "params:evaluation",
                    "sweep_dir",
                ],
                "sweep_leaderboard",
                name="rank_variants",
            ),
            Node(
                nodes.plot_pareto_front,
                ["sweep_leaderboard", "sweep_costs", "params:release"],
                "sweep_pareto_front",
                name="plot_pareto_front",
            ),
            Node(
                nodes.build_summary,
                [
                    "params:sweep",
                    "parameters",
                    "sweep_leaderboard",
                    "sweep_runs",
                    "sweep_costs",
                    "sweep_pareto_front",
                    "params:release",
                    "samples",
                    "dataset_statistics",
                ],
                "sweep_summary",
                name="build_summary",
            ),
            Node(
                nodes.write_page,
                ["params:problem", "sweep_summary", "sweep_runs", "sweep_costs"],
                "sweep_page",
                name="write_page",
            ),
            Node(
                nodes.fail_if_any_variant_failed, ["sweep_runs", "sweep_page"], None, name="fail_if_any_variant_failed"
            ),
        ],
        namespace="sweep",
        prefix_datasets_with_namespace=False,
    )
