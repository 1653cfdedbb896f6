"""From a trained network to scores, pictures, a report and a model in MLflow."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.evaluation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Predict, count, score, plot, find patterns, report, log the model."""
    return Pipeline(
        [
            Node(
                nodes.predict,
                inputs={
                    "model": "best_model",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "inference": "params:predictor",
                    "evaluation": "params:evaluation",
                    "folder": "prediction_workdir",
                },
                outputs=["predictions", "probability_tables"],
                name="predict",
            ),
            Node(
                nodes.count,
                inputs={
                    "predictions": "predictions",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "classes": "params:classes",
                    "evaluation": "params:evaluation",
                    "probability_tables": "probability_tables",
                },
                outputs="evaluation_tables",
                name="count",
            ),
            Node(
                nodes.choose_threshold,
                inputs={
                    "model": "best_model",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "classes": "params:classes",
                    "inference": "params:predictor",
                    "evaluation": "params:evaluation",
                },
                outputs="threshold",
                name="choose_threshold",
            ),
            Node(
                nodes.score,
                inputs={"tables": "evaluation_tables", "threshold": "threshold", "classes": "params:classes"},
                outputs=["metrics", "image_scores", "score_definitions"],
                name="score",
            ),
            Node(
                nodes.estimate_intervals,
                inputs={
                    "tables": "evaluation_tables",
                    "threshold": "threshold",
                    "samples": "samples",
                    "classes": "params:classes",
                    "bootstrap": "params:bootstrap",
                },
                outputs="intervals",
                name="estimate_intervals",
            ),
            Node(
                nodes.plot_scores,
                inputs={
                    "tables": "evaluation_tables",
                    "metrics": "metrics",
                    "threshold": "threshold",
                    "classes": "params:classes",
                },
                outputs=["confusion_matrix", "class_scores", "reliability", "object_recall", "precision_recall"],
                name="plot_scores",
            ),
            Node(
                nodes.draw_gallery,
                inputs={
                    "image_scores": "image_scores",
                    "tables": "evaluation_tables",
                    "predictions": "predictions",
                    "packed": "packed_dataset",
                    "classes": "params:classes",
                    "evaluation": "params:evaluation",
                },
                outputs=["gallery", "class_gallery"],
                name="draw_gallery",
            ),
            Node(
                nodes.find_patterns,
                ["image_scores", "samples", "inspected_samples"],
                ["image_features", "error_patterns", "error_analysis_charts"],
                name="find_patterns",
            ),
            Node(
                nodes.write_training_section,
                inputs={
                    "problem": "params:problem",
                    "classes": "params:classes",
                    "inference": "params:predictor",
                    "model": "best_model",
                    "training_curves": "training_curves",
                    "augmentation_preview": "augmentation_preview",
                    "statistics": "dataset_statistics",
                    "network": "model_spec",
                    "plan": "training_plan",
                },
                outputs="training_section",
                name="write_training_section",
            ),
            Node(
                nodes.write_evaluation_section,
                inputs={
                    "problem": "params:problem",
                    "source": "params:source",
                    "classes": "params:classes",
                    "evaluation": "params:evaluation",
                    "tables": "evaluation_tables",
                    "threshold": "threshold",
                    "metrics": "metrics",
                    "intervals": "intervals",
                    "image_scores": "image_scores",
                    "statistics": "dataset_statistics",
                    "network": "model_spec",
                },
                outputs="evaluation_section",
                name="write_evaluation_section",
            ),
            Node(
                nodes.write_gallery_section,
                inputs={
                    "classes": "params:classes",
                    "evaluation": "params:evaluation",
                    "metrics": "metrics",
                    "image_scores": "image_scores",
                    "tables": "evaluation_tables",
                    "predictions": "predictions",
                    "packed": "packed_dataset",
                    "image_features": "image_features",
                    "error_patterns": "error_patterns",
                },
                outputs="gallery_section",
                name="write_gallery_section",
            ),
            Node(
                nodes.write_data_section,
                inputs={
                    "source": "params:source",
                    "classes": "params:classes",
                    "samples": "samples",
                    "inspected": "inspected_samples",
                    "verdict": "audit_result",
                    "findings": "findings",
                    "statistics": "dataset_statistics",
                    "sweep": "sweep_summary",
                },
                outputs="data_section",
                name="write_data_section",
            ),
            Node(
                nodes.report,
                inputs={
                    "problem": "params:problem",
                    "evaluation": "params:evaluation",
                    "training": "training_section",
                    "scores": "evaluation_section",
                    "gallery": "gallery_section",
                    "data": "data_section",
                },
                outputs="report",
                name="report",
            ),
            Node(
                nodes.check_backend,
                {
                    "model": "best_model",
                    "inference": "params:predictor",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "backends_dir": "backends_dir",
                },
                "backend_check",
                name="check_backend",
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
