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
                    "packed": "packed_dataset",
                    "recipe": "augmentation_recipe",
                    "plan": "proposed_plan",
                    "network": "params:model",
                    "training": "params:training",
                    "images": "params:images",
                    "classes": "params:classes",
                    "folder": "folds_dir",
                },
                ["cv_runs", "fold_history"],
                name="train_folds",
            ),
            Node(
                nodes.predict_folds,
                [
                    "cv_runs",
                    "folds",
                    "packed_dataset",
                    "params:predictor",
                    "folds_dir",
                    "cv_prediction_workdir",
                ],
                ["fold_predictions", "fold_soft_overlap_sums"],
                name="predict_folds",
            ),
            Node(
                nodes.count_folds,
                ["fold_predictions", "folds", "packed_dataset", "params:classes"],
                "fold_confusion_counts",
                name="count_folds",
            ),
            Node(
                nodes.score_folds,
                ["fold_confusion_counts", "fold_soft_overlap_sums", "params:classes"],
                "cross_validation_metrics",
                name="score_folds",
            ),
            Node(nodes.plot_folds, "cross_validation_metrics", "fold_scores", name="plot_folds"),
            Node(
                nodes.mark_folds_completed,
                ["cv_runs", "cross_validation_metrics", "fold_scores", "folds_dir"],
                None,
                name="mark_folds_completed",
            ),
        ],
        namespace="cross_validation",
        prefix_datasets_with_namespace=False,
    )
