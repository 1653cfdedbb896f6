"""From a trained network to scores, pictures, a report and a model in MLflow."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.evaluation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Predict, count, score, plot, find patterns, report, log the model."""
    return Pipeline(
        [
            Node(
                nodes.predict,
                [
                    "best_model",
                    "samples",
                    "packed_dataset",
                    "params:predictor",
                    "params:evaluation",
                    "prediction_workdir",
                ],
                ["predictions", "soft_overlap_sums", "calibration_counts", "foreground_histogram"],
                name="predict",
            ),
            Node(
                nodes.count,
                ["predictions", "samples", "packed_dataset", "params:classes", "params:evaluation"],
                ["confusion_counts", "object_counts"],
                name="count",
            ),
            Node(
                nodes.count_boundaries,
                ["predictions", "samples", "packed_dataset", "params:classes", "params:evaluation"],
                "boundary_counts",
                name="count_boundaries",
            ),
            Node(
                nodes.choose_threshold,
                [
                    "best_model",
                    "samples",
                    "packed_dataset",
                    "params:classes",
                    "params:predictor",
                    "params:evaluation",
                ],
                "threshold",
                name="choose_threshold",
            ),
            Node(
                nodes.score,
                [
                    "confusion_counts",
                    "soft_overlap_sums",
                    "calibration_counts",
                    "object_counts",
                    "boundary_counts",
                    "foreground_histogram",
                    "threshold",
                    "params:classes",
                ],
                ["metrics", "image_scores", "score_definitions"],
                name="score",
            ),
            Node(
                nodes.estimate_intervals,
                [
                    "confusion_counts",
                    "soft_overlap_sums",
                    "calibration_counts",
                    "object_counts",
                    "boundary_counts",
                    "foreground_histogram",
                    "threshold",
                    "samples",
                    "params:classes",
                    "params:bootstrap",
                ],
                "intervals",
                name="estimate_intervals",
            ),
            Node(
                nodes.plot_confusion, ["confusion_counts", "params:classes"], "confusion_matrix", name="plot_confusion"
            ),
            Node(nodes.plot_scores, ["metrics", "params:classes"], "class_scores", name="plot_scores"),
            Node(nodes.plot_reliability, "calibration_counts", "reliability", name="plot_reliability"),
            Node(nodes.plot_objects, ["object_counts", "params:classes"], "object_recall", name="plot_objects"),
            Node(
                nodes.plot_precision_recall,
                ["foreground_histogram", "threshold", "params:classes"],
                "precision_recall",
                name="plot_precision_recall",
            ),
            Node(
                nodes.draw_gallery,
                [
                    "image_scores",
                    "confusion_counts",
                    "predictions",
                    "packed_dataset",
                    "params:classes",
                    "params:evaluation",
                ],
                ["gallery", "class_gallery"],
                name="draw_gallery",
            ),
            Node(
                nodes.find_patterns,
                ["image_scores", "samples", "inspected_samples"],
                ["image_features", "error_patterns", "error_analysis_charts"],
                name="find_patterns",
            ),
            Node(
                nodes.report,
                {
                    "problem": "params:problem",
                    "source": "params:source",
                    "classes": "params:classes",
                    "inference": "params:predictor",
                    "evaluation": "params:evaluation",
                    "samples": "samples",
                    "inspected": "inspected_samples",
                    "packed": "packed_dataset",
                    "predictions": "predictions",
                    "model": "best_model",
                    "metrics": "metrics",
                    "intervals": "intervals",
                    "image_scores": "image_scores",
                    "confusion": "confusion_counts",
                    "image_features": "image_features",
                    "error_patterns": "error_patterns",
                    "confusion_matrix": "confusion_matrix",
                    "class_scores": "class_scores",
                    "reliability": "reliability",
                    "precision_recall": "precision_recall",
                    "object_recall": "object_recall",
                    "training_curves": "training_curves",
                    "augmentation_preview": "augmentation_preview",
                    "verdict": "audit_result",
                    "findings": "findings",
                    "statistics": "dataset_statistics",
                    "network": "model_spec",
                    "plan": "training_plan",
                    "comparison": "sweep_summary",  # None where there was no sweep
                },
                "report",
                name="report",
            ),
            Node(
                nodes.log_model,
                {
                    "model": "best_model",
                    "metrics": "metrics",
                    "inference": "params:predictor",
                    "samples": "samples",
                    "packed": "packed_dataset",
                },
                "logged_model",
                name="log_model",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
