"""From a trained network to scores, pictures, a report and a model in MLflow."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.evaluation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Predict, count, score, plot, find patterns, report, log the model."""
    return namespaced(
        "evaluation",
        node(
            nodes.predict,
            wire("model samples packed predictor_params evaluation", folder="prediction_workdir"),
            ["predictions", "probability_tables"],
        ),
        node(
            nodes.count, wire("predictions samples packed classes evaluation probability_tables"), "evaluation_tables"
        ),
        node(nodes.choose_threshold, wire("model samples packed classes predictor_params evaluation"), "threshold"),
        node(
            nodes.score,
            wire("threshold classes", tables="evaluation_tables"),
            ["metrics", "image_scores", "score_definitions"],
        ),
        node(
            nodes.estimate_intervals,
            wire("threshold samples classes bootstrap", tables="evaluation_tables"),
            "intervals",
        ),
        node(
            nodes.plot_scores,
            wire("metrics threshold classes", tables="evaluation_tables"),
            ["confusion_matrix", "class_scores", "reliability", "object_recall", "precision_recall"],
        ),
        node(
            nodes.draw_gallery,
            wire("image_scores predictions packed classes evaluation", tables="evaluation_tables"),
            ["gallery", "class_gallery"],
        ),
        node(
            nodes.find_patterns,
            wire("image_scores samples inspected"),
            ["image_features", "error_patterns", "error_analysis_charts"],
        ),
        node(
            nodes.write_training_section,
            wire(
                "problem classes predictor_params model training_curves augmentation_preview statistics spec",
                plan="training_plan",
            ),
            "training_section",
        ),
        node(
            nodes.write_evaluation_section,
            wire(
                "problem source classes evaluation threshold metrics intervals image_scores statistics spec",
                tables="evaluation_tables",
            ),
            "evaluation_section",
        ),
        node(
            nodes.write_gallery_section,
            wire(
                "classes evaluation metrics image_scores predictions packed image_features error_patterns",
                tables="evaluation_tables",
            ),
            "gallery_section",
        ),
        node(
            nodes.write_data_section,
            wire("source classes samples inspected findings statistics", verdict="audit_result", sweep="sweep_summary"),
            "data_section",
        ),
        node(
            nodes.report,
            wire(
                "problem evaluation",
                training="training_section",
                scores="evaluation_section",
                gallery="gallery_section",
                data="data_section",
            ),
            "report",
        ),
        node(nodes.check_backend, wire("model predictor_params samples packed backends_dir"), "backend_check"),
        node(nodes.log_model, wire("model metrics predictor_params samples packed"), "logged_model"),
    )
