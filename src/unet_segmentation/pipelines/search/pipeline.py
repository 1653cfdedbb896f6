"""A search for the best parameters, by the validation score."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.search import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Search, plot, write the best parameters."""
    return Pipeline(
        [
            Node(
                nodes.run_search,
                [
                    "parameters",
                    "params:search",
                    "samples",
                    "packed_dataset",
                    "dataset_statistics",
                    "proposed_plan",
                    "search_dir",
                ],
                ["search_trials", "search_importance", "search_best"],
                name="run_search",
            ),
            Node(nodes.plot_history, ["search_trials", "params:training"], "search_history_chart", name="plot_history"),
            Node(nodes.plot_importance, "search_importance", "search_importance_chart", name="plot_importance"),
            Node(nodes.write_best, ["search_best", "parameters"], None, name="write_best"),
        ],
        namespace="search",
        prefix_datasets_with_namespace=False,
    )
