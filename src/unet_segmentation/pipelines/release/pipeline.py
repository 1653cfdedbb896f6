"""From a trained model to the released one, through the gate."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.release import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the challenger, verify its model, compare it with the champion, decide, register, fail_if_refused."""
    return Pipeline(
        [
            Node(
                nodes.choose_challenger,
                inputs={
                    "problem": "params:problem",
                    "logged_model": "logged_model",
                    "samples": "samples",
                    "release": "params:release",
                    "folder": "release_dir",
                },
                outputs=["challenger", "challenger_tables", "release_lock"],
                name="choose_challenger",
            ),
            Node(
                nodes.verify_model,
                inputs={
                    "challenger": "challenger",
                    "tables": "challenger_tables",
                    "packed": "packed_dataset",
                    "release": "params:release",
                },
                outputs="model_verification",
                name="verify_model",
            ),
            Node(
                nodes.compare_with_champion,
                inputs={
                    "problem": "params:problem",
                    "challenger": "challenger",
                    "tables": "challenger_tables",
                    "samples": "samples",
                    "release": "params:release",
                    "bootstrap": "params:bootstrap",
                },
                outputs=["champion", "champion_comparison"],
                name="compare_with_champion",
            ),
            Node(
                nodes.decide,
                inputs={
                    "verdict": "audit_result",
                    "reproduction": "model_verification",
                    "challenger": "challenger",
                    "champion": "champion",
                    "champion_comparison": "champion_comparison",
                    "release": "params:release",
                },
                outputs="gate_conditions",
                name="decide",
            ),
            Node(
                nodes.register,
                inputs={
                    "problem": "params:problem",
                    "conditions": "gate_conditions",
                    "challenger": "challenger",
                    "champion": "champion",
                    "release": "params:release",
                },
                outputs=["release_decision", "release_decision_page"],
                name="register",
            ),
            Node(
                nodes.fail_if_refused,
                inputs={"decision": "release_decision", "lock": "release_lock"},
                outputs="released_version",
                name="fail_if_refused",
            ),
        ],
        namespace="release",
        prefix_datasets_with_namespace=False,
    )
