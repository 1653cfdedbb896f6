"""A hyperparameter search by the validation score."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.search import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Search, plot, write the best parameters."""
    return Pipeline(
        [
            Node(
                nodes.run_search,
                inputs={
                    "parameters": "parameters",
                    "search": "params:search",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "statistics": "dataset_statistics",
                    "plan": "proposed_plan",
                    "folder": "search_dir",
                },
                outputs=["search_trials", "search_importance", "search_best"],
                name="run_search",
            ),
            Node(
                nodes.plot_history,
                inputs={"trials": "search_trials", "training": "params:training"},
                outputs="search_history_chart",
                name="plot_history",
            ),
            Node(
                nodes.plot_importance,
                inputs={"importance": "search_importance"},
                outputs="search_importance_chart",
                name="plot_importance",
            ),
            Node(
                nodes.write_best,
                inputs={"best": "search_best", "parameters": "parameters"},
                outputs="search_best_config",
                name="write_best",
            ),
        ],
        namespace="search",
        prefix_datasets_with_namespace=False,
    )
