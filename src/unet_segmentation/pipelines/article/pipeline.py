"""The article's claims about up-sampling, encoders and metrics, measured; by name only."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.article import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Train and compare ways up and encoders, count their costs, try the metrics; judge every claim by all that."""
    return Pipeline(
        [
            Node(
                nodes.measure_upsampling,
                {
                    "samples": "samples",
                    "packed": "packed_samples",
                    "profile": "profile",
                    "recipe": "augmentation_recipe",
                    "plan": "plan",
                    "training": "params:training",
                    "inference": "params:inference",
                    "evaluation": "params:evaluation",
                    "classes": "params:classes",
                    "speeds": "upsampling_speeds",
                    "article": "params:article",
                    "folder": "upsampling_folder",
                },
                ["upsampling_runs", "upsampling_confusion", "upsampling_soft_counts"],
                name="measure_upsampling",
            ),
            Node(
                nodes.measure_upsampling_costs,
                ["profile", "plan", "params:classes", "params:article"],
                ["upsampling_costs", "upsampling_speeds"],
                name="measure_upsampling_costs",
            ),
            Node(
                nodes.compare_upsampling,
                [
                    "upsampling_runs",
                    "upsampling_confusion",
                    "upsampling_soft_counts",
                    "samples",
                    "params:classes",
                    "params:article",
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
                ["upsampling_runs", "params:article", "upsampling_folder"],
                "checkerboards",
                name="draw_checkerboards",
            ),
            Node(
                nodes.measure_encoders,
                ["profile", "plan", "params:classes", "params:article"],
                ["encoder_costs", "encoder_speeds"],
                name="measure_encoders",
            ),
            Node(
                nodes.train_encoders,
                {
                    "samples": "samples",
                    "packed": "packed_samples",
                    "profile": "profile",
                    "recipe": "augmentation_recipe",
                    "plan": "plan",
                    "training": "params:training",
                    "inference": "params:inference",
                    "evaluation": "params:evaluation",
                    "classes": "params:classes",
                    "speeds": "encoder_speeds",
                    "article": "params:article",
                    "folder": "encoders_folder",
                },
                ["encoder_runs", "encoder_confusion", "encoder_soft_counts"],
                name="train_encoders",
            ),
            Node(
                nodes.rank_encoders,
                [
                    "encoder_runs",
                    "encoder_confusion",
                    "encoder_soft_counts",
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
                ["encoder_scores", "params:article", "params:release"],
                "encoder_chart",
                name="plot_encoders",
            ),
            Node(
                nodes.run_metric_experiment,
                ["params:article", "params:evaluation", "metric_experiment_folder"],
                "metric_experiment",
                name="run_metric_experiment",
            ),
            Node(
                nodes.plot_metric_trust,
                "metric_experiment",
                ["metric_trust", "metric_judgements"],
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
                    "judgements": "metric_judgements",
                    "article": "params:article",
                    "release": "params:release",
                    "evaluation": "params:evaluation",
                },
                ["article_claims", "article_page"],
                name="judge_claims",
            ),
            Node(
                nodes.write_speeds,
                ["encoder_speeds", "upsampling_speeds", "params:article"],
                "article_speeds",
                name="write_speeds",
            ),
        ],
        namespace="article",
        prefix_datasets_with_namespace=False,
    )
