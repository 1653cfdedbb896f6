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
                    "packed_samples",
                    "params:inference",
                    "params:evaluation",
                    "predicting_folder",
                ],
                ["predictions", "soft_counts"],
                name="predict",
            ),
            Node(
                nodes.count,
                ["predictions", "samples", "packed_samples", "params:classes", "params:evaluation"],
                "confusion",
                name="count",
            ),
            Node(
                nodes.score, ["confusion", "soft_counts", "params:classes"], ["metrics", "image_scores"], name="score"
            ),
            Node(
                nodes.estimate_intervals,
                ["confusion", "soft_counts", "samples", "params:classes", "params:evaluation"],
                "intervals",
                name="estimate_intervals",
            ),
            Node(nodes.plot_confusion, ["confusion", "params:classes"], "confusion_matrix", name="plot_confusion"),
            Node(nodes.plot_scores, ["metrics", "params:classes"], "class_scores", name="plot_scores"),
            Node(
                nodes.draw_gallery,
                [
                    "image_scores",
                    "confusion",
                    "predictions",
                    "packed_samples",
                    "params:classes",
                    "params:evaluation",
                ],
                ["gallery", "class_gallery"],
                name="draw_gallery",
            ),
            Node(
                nodes.find_patterns,
                ["image_scores", "samples", "inspected_samples"],
                ["image_facts", "failure_patterns", "failure_charts"],
                name="find_patterns",
            ),
            Node(
                nodes.report,
                {
                    "problem": "params:problem",
                    "source": "params:source",
                    "classes": "params:classes",
                    "inference": "params:inference",
                    "evaluation": "params:evaluation",
                    "samples": "samples",
                    "inspected": "inspected_samples",
                    "packed": "packed_samples",
                    "predictions": "predictions",
                    "model": "best_model",
                    "metrics": "metrics",
                    "intervals": "intervals",
                    "image_scores": "image_scores",
                    "confusion": "confusion",
                    "image_facts": "image_facts",
                    "failure_patterns": "failure_patterns",
                    "confusion_matrix": "confusion_matrix",
                    "class_scores": "class_scores",
                    "training_curves": "training_curves",
                    "augmentation_preview": "augmentation_preview",
                    "verdict": "verdict",
                    "findings": "findings",
                    "profile": "profile",
                    "network": "network",
                    "plan": "training_plan",
                },
                "report",
                name="report",
            ),
            Node(
                nodes.log_model,
                {
                    "model": "best_model",
                    "metrics": "metrics",
                    "inference": "params:inference",
                    "samples": "samples",
                    "packed": "packed_samples",
                },
                "logged_model",
                name="log_model",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
