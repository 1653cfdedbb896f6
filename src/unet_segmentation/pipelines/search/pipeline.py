"""A hyperparameter search by the validation score."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.search import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Search, plot, write the best parameters."""
    return namespaced(
        "search",
        node(
            nodes.run_search,
            wire("parameters samples packed statistics proposed_plan", search="params:search", folder="search_dir"),
            ["search_trials", "search_importance", "search_best"],
        ),
        node(nodes.plot_history, wire("training", trials="search_trials"), "search_history_chart"),
        node(nodes.plot_importance, wire(importance="search_importance"), "search_importance_chart"),
        node(nodes.write_best, wire("parameters", best="search_best"), "search_best_config"),
    )
