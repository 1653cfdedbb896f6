"""A training run for each fold, and the score of every sample by the model that did not see it."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.cross_validation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Divide into folds, train each, predict what each held out, count, score, plot."""
    return Pipeline(
        [
            Node(
                nodes.assign_folds,
                inputs={
                    "samples": "samples",
                    "inspected": "inspected_samples",
                    "cross_validation": "params:cross_validation",
                    "split": "params:split",
                },
                outputs="folds",
                name="assign_folds",
            ),
            Node(
                nodes.train_folds,
                inputs={
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
                outputs=["cv_runs", "fold_history"],
                name="train_folds",
            ),
            Node(
                nodes.predict_folds,
                inputs={
                    "runs": "cv_runs",
                    "folds": "folds",
                    "packed": "packed_dataset",
                    "inference": "params:predictor",
                    "folder": "folds_dir",
                    "workdir": "cv_prediction_workdir",
                },
                outputs=["fold_predictions", "fold_soft_overlap_sums"],
                name="predict_folds",
            ),
            Node(
                nodes.count_folds,
                inputs={
                    "predictions": "fold_predictions",
                    "folds": "folds",
                    "packed": "packed_dataset",
                    "classes": "params:classes",
                },
                outputs="fold_confusion_counts",
                name="count_folds",
            ),
            Node(
                nodes.score_folds,
                inputs={
                    "confusion": "fold_confusion_counts",
                    "soft_overlap_sums": "fold_soft_overlap_sums",
                    "classes": "params:classes",
                },
                outputs="cross_validation_metrics",
                name="score_folds",
            ),
            Node(
                nodes.plot_folds,
                inputs={"metrics": "cross_validation_metrics"},
                outputs="fold_scores",
                name="plot_folds",
            ),
            Node(
                nodes.mark_folds_completed,
                inputs={
                    "runs": "cv_runs",
                    "metrics": "cross_validation_metrics",
                    "chart": "fold_scores",
                    "folder": "folds_dir",
                },
                outputs="fold_models",
                name="mark_folds_completed",
            ),
        ],
        namespace="cross_validation",
        prefix_datasets_with_namespace=False,
    )
