"""Tests the claims of an article on U-Net about upsampling, encoders and metrics; by name only.

The article: Syed Nauyan Rashid, "Semantic Segmentation: U-Net", Red Buffer on Medium, 5 November 2021.
"""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.article_claims import nodes

TRAINING_INPUTS = {
    "samples": "samples",
    "packed": "packed_dataset",
    "statistics": "dataset_statistics",
    "recipe": "augmentation_recipe",
    "plan": "proposed_plan",
    "training": "params:training",
    "inference": "params:predictor",
    "evaluation": "params:evaluation",
    "classes": "params:classes",
    "article": "params:article_claims",
}
COST_INPUTS = {name: TRAINING_INPUTS[name] for name in ("statistics", "plan", "classes", "article")}
COMPARISON_INPUTS = {
    "samples": "samples",
    "classes": "params:classes",
    "release": "params:release",
    "bootstrap": "params:bootstrap",
}


def create_pipeline(**_: object) -> Pipeline:
    """Train and compare upsampling modes and encoders, count their costs, test metrics; judge every claim."""
    return Pipeline(
        [
            Node(
                nodes.measure_upsampling,
                inputs=TRAINING_INPUTS | {"speeds": "upsampling_speeds", "folder": "upsampling_dir"},
                outputs=["upsampling_runs", "upsampling_confusion_counts", "upsampling_soft_overlap_sums"],
                name="measure_upsampling",
            ),
            Node(
                nodes.measure_upsampling_costs,
                inputs=COST_INPUTS,
                outputs=["upsampling_costs", "upsampling_speeds"],
                name="measure_upsampling_costs",
            ),
            Node(
                nodes.compare_upsampling,
                inputs=COMPARISON_INPUTS
                | {
                    "runs": "upsampling_runs",
                    "confusion": "upsampling_confusion_counts",
                    "soft_overlap_sums": "upsampling_soft_overlap_sums",
                    "article": "params:article_claims",
                },
                outputs="upsampling_table",
                name="compare_upsampling",
            ),
            Node(
                nodes.plot_upsampling,
                inputs={"table": "upsampling_table", "release": "params:release"},
                outputs="upsampling_chart",
                name="plot_upsampling",
            ),
            Node(
                nodes.draw_checkerboards,
                inputs={"runs": "upsampling_runs", "article": "params:article_claims", "folder": "upsampling_dir"},
                outputs="article_claims_checkerboards",
                name="draw_checkerboards",
            ),
            Node(
                nodes.measure_encoders,
                inputs=COST_INPUTS,
                outputs=["encoder_costs", "encoder_speeds"],
                name="measure_encoders",
            ),
            Node(
                nodes.train_encoders,
                inputs=TRAINING_INPUTS | {"speeds": "encoder_speeds", "folder": "encoders_dir"},
                outputs=["encoder_runs", "encoder_confusion_counts", "encoder_soft_overlap_sums"],
                name="train_encoders",
            ),
            Node(
                nodes.rank_encoders,
                inputs=COMPARISON_INPUTS
                | {
                    "runs": "encoder_runs",
                    "confusion": "encoder_confusion_counts",
                    "soft_overlap_sums": "encoder_soft_overlap_sums",
                    "costs": "encoder_costs",
                },
                outputs="encoder_scores",
                name="rank_encoders",
            ),
            Node(
                nodes.plot_encoders,
                inputs={"scores": "encoder_scores", "article": "params:article_claims", "release": "params:release"},
                outputs="encoder_chart",
                name="plot_encoders",
            ),
            Node(
                nodes.run_metric_experiment,
                inputs={
                    "article": "params:article_claims",
                    "bootstrap": "params:bootstrap",
                    "folder": "metric_experiment_dir",
                },
                outputs="metric_experiment",
                name="run_metric_experiment",
            ),
            Node(
                nodes.plot_metric_trust,
                inputs={"experiment": "metric_experiment"},
                outputs=["article_claims_metric_trust", "article_claims_metric_judgements"],
                name="plot_metric_trust",
            ),
            Node(
                nodes.judge_claims,
                inputs={
                    "problem": "params:problem",
                    "samples": "samples",
                    "upsampling": "upsampling_table",
                    "costs": "upsampling_costs",
                    "encoders": "encoder_scores",
                    "judgements": "article_claims_metric_judgements",
                    "article": "params:article_claims",
                    "release": "params:release",
                    "evaluation": "params:evaluation",
                },
                outputs=["article_claims_table", "article_claims_page"],
                name="judge_claims",
            ),
            Node(
                nodes.write_speeds,
                inputs={
                    "encoders": "encoder_speeds",
                    "upsampling": "upsampling_speeds",
                    "article": "params:article_claims",
                },
                outputs="article_claims_speeds",
                name="write_speeds",
            ),
        ],
        namespace="article_claims",
        prefix_datasets_with_namespace=False,
    )
