"""A sweep: declared variants, trained and evaluated on the same prepared data and compared with each other."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.sweep import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Declare, train and evaluate, rank, plot, summarize, render; fail at the end if a variant failed."""
    return Pipeline(
        [
            Node(
                nodes.declare_variants,
                inputs={"parameters": "parameters", "comparison": "params:sweep", "statistics": "dataset_statistics"},
                outputs="sweep_variants",
                name="declare_variants",
            ),
            Node(
                nodes.train_variants,
                inputs={
                    "variants": "sweep_variants",
                    "parameters": "parameters",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "statistics": "dataset_statistics",
                    "plan": "proposed_plan",
                    "folder": "sweep_dir",
                },
                outputs=["sweep_runs", "sweep_costs"],
                name="train_variants",
            ),
            Node(
                nodes.rank_variants,
                inputs={
                    "runs": "sweep_runs",
                    "samples": "samples",
                    "classes": "params:classes",
                    "release": "params:release",
                    "bootstrap": "params:bootstrap",
                    "folder": "sweep_dir",
                },
                outputs="sweep_leaderboard",
                name="rank_variants",
            ),
            Node(
                nodes.plot_pareto_front,
                inputs={
                    "leaderboard": "sweep_leaderboard",
                    "costs": "sweep_costs",
                    "release": "params:release",
                },
                outputs="sweep_pareto_front",
                name="plot_pareto_front",
            ),
            Node(
                nodes.build_summary,
                inputs={
                    "comparison": "params:sweep",
                    "parameters": "parameters",
                    "leaderboard": "sweep_leaderboard",
                    "runs": "sweep_runs",
                    "costs": "sweep_costs",
                    "chart": "sweep_pareto_front",
                    "release": "params:release",
                    "samples": "samples",
                    "statistics": "dataset_statistics",
                },
                outputs="sweep_summary",
                name="build_summary",
            ),
            Node(
                nodes.write_page,
                inputs={
                    "problem": "params:problem",
                    "summary": "sweep_summary",
                    "runs": "sweep_runs",
                    "costs": "sweep_costs",
                },
                outputs="sweep_page",
                name="write_page",
            ),
            Node(
                nodes.fail_if_any_variant_failed,
                inputs={
                    "runs": "sweep_runs",
                    "leaderboard": "sweep_leaderboard",
                    "page": "sweep_page",
                },
                outputs="comparison_best",
                name="fail_if_any_variant_failed",
            ),
        ],
        namespace="sweep",
        prefix_datasets_with_namespace=False,
    )
