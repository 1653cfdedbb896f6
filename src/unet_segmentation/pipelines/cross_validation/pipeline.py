"""One training for each fold, and the score of every sample by the network that did not see it."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.cross_validation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Cut into folds, train each, predict what each held out, count, score, plot."""
    return Pipeline(
        [
            Node(
                nodes.assign_folds,
                ["samples", "inspected_samples", "params:cross_validation", "params:split"],
                "folds",
                name="assign_folds",
            ),
            Node(
                nodes.train_folds,
                {
                    "folds": "folds",
                    "samples": "samples",
                    "inspected": "inspected_samples",
                    "packed": "packed_samples",
                    "recipe": "augmentation_recipe",
                    "plan": "plan",
                    "network": "params:network",
                    "training": "params:training",
                    "images": "params:images",
                    "classes": "params:classes",
                    "folder": "folds_folder",
                },
                ["fold_trainings", "fold_history"],
                name="train_folds",
            ),
            Node(
                nodes.predict_folds,
                [
                    "fold_trainings",
                    "folds",
                    "packed_samples",
                    "params:inference",
                    "folds_folder",
                    "fold_predicting_folder",
                ],
                ["fold_predictions", "fold_soft_counts"],
                name="predict_folds",
            ),
            Node(
                nodes.count_folds,
                ["fold_predictions", "folds", "packed_samples", "params:classes"],
                "fold_confusion",
                name="count_folds",
            ),
            Node(
                nodes.score_folds,
                ["fold_confusion", "fold_soft_counts", "params:classes"],
                "cross_validation_metrics",
                name="score_folds",
            ),
            Node(nodes.plot_folds, "cross_validation_metrics", "fold_scores", name="plot_folds"),
            Node(
                nodes.deliver_folds,
                ["fold_trainings", "cross_validation_metrics", "fold_scores", "folds_folder"],
                None,
                name="deliver_folds",
            ),
        ],
        namespace="cross_validation",
        prefix_datasets_with_namespace=False,
    )
