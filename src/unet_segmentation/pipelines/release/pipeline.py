"""From a trained model to the released one, through the gate."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.release import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the challenger, verify its model, compare it with the champion, decide, register, fail_if_refused."""
    return namespaced(
        "release",
        node(
            nodes.choose_challenger,
            wire("problem logged_model samples release", folder="release_dir"),
            ["challenger", "challenger_tables", "release_lock"],
        ),
        node(nodes.verify_model, wire("challenger packed release", tables="challenger_tables"), "model_verification"),
        node(
            nodes.compare_with_champion,
            wire("problem challenger samples release bootstrap", tables="challenger_tables"),
            ["champion", "champion_comparison"],
        ),
        node(
            nodes.decide,
            wire(
                "challenger champion champion_comparison release",
                verdict="audit_result",
                reproduction="model_verification",
            ),
            "gate_conditions",
        ),
        node(
            nodes.register,
            wire("problem challenger champion release", conditions="gate_conditions"),
            ["release_decision", "release_decision_page"],
        ),
        node(nodes.fail_if_refused, wire(decision="release_decision", lock="release_lock"), "released_version"),
    )
