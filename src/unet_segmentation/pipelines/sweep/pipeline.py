"""A sweep: declared variants, trained and evaluated on the same prepared data and compared with each other."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.sweep import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Declare, train and evaluate, rank, plot, summarize, render; fail at the end if a variant failed."""
    return namespaced(
        "sweep",
        node(nodes.declare_variants, wire("parameters statistics", comparison="params:sweep"), "sweep_variants"),
        node(
            nodes.train_variants,
            wire("parameters samples packed statistics proposed_plan", variants="sweep_variants", folder="sweep_dir"),
            ["sweep_runs", "sweep_costs"],
        ),
        node(
            nodes.rank_variants,
            wire("samples classes release bootstrap", runs="sweep_runs", folder="sweep_dir"),
            "sweep_leaderboard",
        ),
        node(
            nodes.plot_pareto_front,
            wire("release", leaderboard="sweep_leaderboard", costs="sweep_costs"),
            "sweep_pareto_front",
        ),
        node(
            nodes.build_summary,
            wire(
                "parameters release samples statistics",
                comparison="params:sweep",
                leaderboard="sweep_leaderboard",
                runs="sweep_runs",
                costs="sweep_costs",
                chart="sweep_pareto_front",
            ),
            "sweep_summary",
        ),
        node(
            nodes.write_page,
            wire("problem", summary="sweep_summary", runs="sweep_runs", costs="sweep_costs"),
            "sweep_page",
        ),
        node(
            nodes.fail_if_any_variant_failed,
            wire(runs="sweep_runs", leaderboard="sweep_leaderboard", page="sweep_page"),
            "comparison_best",
        ),
    )
