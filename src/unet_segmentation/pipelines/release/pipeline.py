"""From a trained model to the released one, through the gate."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.release import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the challenger, verify its model, compare it with the champion, decide, register, announce."""
    return Pipeline(
        [
            Node(
                nodes.choose_challenger,
                ["params:problem", "logged_model", "samples", "params:release", "release_folder"],
                ["challenger", "challenger_confusion", "challenger_soft_counts"],
                name="choose_challenger",
            ),
            Node(
                nodes.verify_model,
                {
                    "challenger": "challenger",
                    "confusion": "challenger_confusion",
                    "soft_counts": "challenger_soft_counts",
                    "packed": "packed_samples",
                    "release": "params:release",
                },
                "reproduction",
                name="verify_model",
            ),
            Node(
                nodes.compare_with_champion,
                {
                    "problem": "params:problem",
                    "challenger": "challenger",
                    "confusion": "challenger_confusion",
                    "soft_counts": "challenger_soft_counts",
                    "samples": "samples",
                    "release": "params:release",
                },
                ["champion", "champion_comparison"],
                name="compare_with_champion",
            ),
            Node(
                nodes.decide,
                ["verdict", "reproduction", "challenger", "champion", "champion_comparison", "params:release"],
                "conditions",
                name="decide",
            ),
            Node(
                nodes.register,
                ["params:problem", "conditions", "challenger", "champion", "params:release"],
                ["decision", "decision_page"],
                name="register",
            ),
            Node(nodes.announce, ["decision", "release_folder"], None, name="announce"),
        ],
        namespace="release",
        prefix_datasets_with_namespace=False,
    )
