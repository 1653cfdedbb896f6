"""The article's claims about up-sampling, encoders and metrics, measured; by name only."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.article_claims import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Train and compare ways up and encoders, count their costs, try the metrics; judge every claim by all that."""
    return Pipeline(
        [
            Node(
                nodes.measure_upsampling,
                {
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "profile": "dataset_statistics",
                    "recipe": "augmentation_recipe",
                    "plan": "proposed_plan",
                    "training": "params:training",
                    "inference": "params:predictor",
                    "evaluation": "params:evaluation",
                    "classes": "params:classes",
                    "speeds": "upsampling_speeds",
                    "article": "params:article_claims",
                    "folder": "upsampling_dir",
                },
                ["upsampling_runs", "upsampling_confusion_counts", "upsampling_soft_overlap_sums"],
                name="measure_upsampling",
            ),
            Node(
                nodes.measure_upsampling_costs,
                ["dataset_statistics", "proposed_plan", "params:classes", "params:article_claims"],
                ["upsampling_costs", "upsampling_speeds"],
                name="measure_upsampling_costs",
            ),
            Node(
                nodes.compare_upsampling,
                [
                    "upsampling_runs",
                    "upsampling_confusion_counts",
                    "upsampling_soft_overlap_sums",
                    "samples",
                    "params:classes",
                    "params:article_claims",
                    "params:release",
                    "params:evaluation",
                ],
                "upsampling_table",
                name="compare_upsampling",
            ),
            Node(
                nodes.plot_upsampling,
                ["upsampling_table", "params:release"],
                "upsampling_chart",
                name="plot_upsampling",
            ),
            Node(
                nodes.draw_checkerboards,
                ["upsampling_runs", "params:article_claims", "upsampling_dir"],
                "article_claims_checkerboards",
                name="draw_checkerboards",
            ),
            Node(
                nodes.measure_encoders,
                ["dataset_statistics", "proposed_plan", "params:classes", "params:article_claims"],
                ["encoder_costs", "encoder_speeds"],
                name="measure_encoders",
            ),
            Node(
                nodes.train_encoders,
                {
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "profile": "dataset_statistics",
                    "recipe": "augmentation_recipe",
                    "plan": "proposed_plan",
                    "training": "params:training",
                    "inference": "params:predictor",
                    "evaluation": "params:evaluation",
                    "classes": "params:classes",
                    "speeds": "encoder_speeds",
                    "article": "params:article_claims",
                    "folder": "encoders_dir",
                },
                ["encoder_runs", "encoder_confusion_counts", "encoder_soft_overlap_sums"],
                name="train_encoders",
            ),
            Node(
                nodes.rank_encoders,
                [
                    "encoder_runs",
                    "encoder_confusion_counts",
                    "encoder_soft_overlap_sums",
                    "encoder_costs",
                    "samples",
                    "params:classes",
                    "params:release",
                    "params:evaluation",
                ],
                "encoder_scores",
                name="rank_encoders",
            ),
            Node(
                nodes.plot_encoders,
                ["encoder_scores", "params:article_claims", "params:release"],
                "encoder_chart",
                name="plot_encoders",
            ),
            Node(
                nodes.run_metric_experiment,
                ["params:article_claims", "params:evaluation", "metric_experiment_dir"],
                "metric_experiment",
                name="run_metric_experiment",
            ),
            Node(
                nodes.plot_metric_trust,
                "metric_experiment",
                ["article_claims_metric_trust", "article_claims_metric_judgements"],
                name="plot_metric_trust",
            ),
            Node(
                nodes.judge_claims,
                {
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
                ["article_claims_table", "article_claims_page"],
                name="judge_claims",
            ),
            Node(
                nodes.write_speeds,
                ["encoder_speeds", "upsampling_speeds", "params:article_claims"],
                "article_claims_speeds",
                name="write_speeds",
            ),
        ],
        namespace="article_claims",
        prefix_datasets_with_namespace=False,
    )
