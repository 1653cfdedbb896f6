"""From a trained model to the released one, through the gate."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.release import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the challenger, verify its model, compare it with the champion, decide, register, announce."""
    return Pipeline(
        [
            Node(
                nodes.choose_challenger,
                ["params:problem", "logged_model", "samples", "params:release", "release_dir"],
                ["challenger", "challenger_confusion_counts", "challenger_soft_overlap_sums"],
                name="choose_challenger",
            ),
            Node(
                nodes.verify_model,
                {
                    "challenger": "challenger",
                    "confusion": "challenger_confusion_counts",
                    "soft_overlap_sums": "challenger_soft_overlap_sums",
                    "packed": "packed_dataset",
                    "release": "params:release",
                },
                "model_verification",
                name="verify_model",
            ),
            Node(
                nodes.compare_with_champion,
                {
                    "problem": "params:problem",
                    "challenger": "challenger",
                    "confusion": "challenger_confusion_counts",
                    "soft_overlap_sums": "challenger_soft_overlap_sums",
                    "samples": "samples",
                    "release": "params:release",
                },
                ["champion", "champion_comparison"],
                name="compare_with_champion",
            ),
            Node(
                nodes.decide,
                [
                    "audit_result",
                    "model_verification",
                    "challenger",
                    "champion",
                    "champion_comparison",
                    "params:release",
                ],
                "gate_conditions",
                name="decide",
            ),
            Node(
                nodes.register,
                ["params:problem", "gate_conditions", "challenger", "champion", "params:release"],
                ["release_decision", "release_decision_page"],
                name="register",
            ),
            Node(nodes.fail_if_refused, ["release_decision", "release_dir"], None, name="fail_if_refused"),
        ],
        namespace="release",
        prefix_datasets_with_namespace=False,
    )
