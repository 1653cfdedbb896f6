"""A training run for each fold, and the score of every sample by the model that did not see it."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.cross_validation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Divide into folds, train each, predict what each held out, count, score, plot."""
    return namespaced(
        "cross_validation",
        node(
            nodes.assign_folds,
            wire("samples inspected", cross_validation="params:cross_validation", split="params:split"),
            "folds",
        ),
        node(
            nodes.train_folds,
            wire(
                "folds samples inspected packed recipe proposed_plan model_params training images classes",
                folder="folds_dir",
            ),
            ["cv_runs", "fold_history"],
        ),
        node(
            nodes.predict_folds,
            wire("folds packed predictor_params", runs="cv_runs", folder="folds_dir", workdir="cv_prediction_workdir"),
            ["fold_predictions", "fold_soft_overlap_sums"],
        ),
        node(nodes.count_folds, wire("folds packed classes", predictions="fold_predictions"), "fold_confusion_counts"),
        node(
            nodes.score_folds,
            wire("classes", confusion="fold_confusion_counts", soft_overlap_sums="fold_soft_overlap_sums"),
            "cross_validation_metrics",
        ),
        node(nodes.plot_folds, wire(metrics="cross_validation_metrics"), "fold_scores"),
        node(
            nodes.mark_folds_completed,
            wire(runs="cv_runs", metrics="cross_validation_metrics", chart="fold_scores", folder="folds_dir"),
            "fold_models",
        ),
    )
