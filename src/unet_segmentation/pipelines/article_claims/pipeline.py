"""Tests the claims of an article on U-Net about upsampling, encoders and metrics; by name only.

The article: Syed Nauyan Rashid, "Semantic Segmentation: U-Net", Red Buffer on Medium, 5 November 2021.
"""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.article_claims import nodes

TRAINING_INPUTS = wire(
    "samples packed statistics recipe proposed_plan training predictor_params evaluation classes article"
)
COST_INPUTS = wire("statistics proposed_plan classes article")
COMPARISON_INPUTS = wire("samples classes release bootstrap")


def create_pipeline(**_: object) -> Pipeline:
    """Train and compare upsampling modes and encoders, count their costs, test metrics; judge every claim."""
    return namespaced(
        "article_claims",
        node(
            nodes.measure_upsampling,
            TRAINING_INPUTS | wire(speeds="upsampling_speeds", folder="upsampling_dir"),
            ["upsampling_runs", "upsampling_confusion_counts", "upsampling_soft_overlap_sums"],
        ),
        node(nodes.measure_upsampling_costs, COST_INPUTS, ["upsampling_costs", "upsampling_speeds"]),
        node(
            nodes.compare_upsampling,
            COMPARISON_INPUTS
            | wire(
                "article",
                runs="upsampling_runs",
                confusion="upsampling_confusion_counts",
                soft_overlap_sums="upsampling_soft_overlap_sums",
            ),
            "upsampling_table",
        ),
        node(nodes.plot_upsampling, wire("release", table="upsampling_table"), "upsampling_chart"),
        node(
            nodes.draw_checkerboards,
            wire("article", runs="upsampling_runs", folder="upsampling_dir"),
            "article_claims_checkerboards",
        ),
        node(nodes.measure_encoders, COST_INPUTS, ["encoder_costs", "encoder_speeds"]),
        node(
            nodes.train_encoders,
            TRAINING_INPUTS | wire(speeds="encoder_speeds", folder="encoders_dir"),
            ["encoder_runs", "encoder_confusion_counts", "encoder_soft_overlap_sums"],
        ),
        node(
            nodes.rank_encoders,
            COMPARISON_INPUTS
            | wire(
                runs="encoder_runs",
                confusion="encoder_confusion_counts",
                soft_overlap_sums="encoder_soft_overlap_sums",
                costs="encoder_costs",
            ),
            "encoder_scores",
        ),
        node(nodes.plot_encoders, wire("article release", scores="encoder_scores"), "encoder_chart"),
        node(
            nodes.run_metric_experiment, wire("article bootstrap", folder="metric_experiment_dir"), "metric_experiment"
        ),
        node(
            nodes.plot_metric_trust,
            wire(experiment="metric_experiment"),
            ["article_claims_metric_trust", "article_claims_metric_judgments"],
        ),
        node(
            nodes.judge_claims,
            wire(
                "problem samples article release evaluation",
                upsampling="upsampling_table",
                costs="upsampling_costs",
                encoders="encoder_scores",
                judgments="article_claims_metric_judgments",
            ),
            ["article_claims_table", "article_claims_page"],
        ),
        node(
            nodes.write_speeds,
            wire("article", encoders="encoder_speeds", upsampling="upsampling_speeds"),
            "article_claims_speeds",
        ),
    )
