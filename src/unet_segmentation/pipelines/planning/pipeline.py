"""From the profile of the data to a plan: a value for whatever the parameters leave open, with the reason."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.planning import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Propose a plan."""
    return Pipeline(
        [
            Node(
                nodes.propose_plan,
                ["profile", "params:network", "params:training", "params:classes"],
                "plan",
                name="propose_plan",
            ),
        ],
        namespace="planning",
        prefix_datasets_with_namespace=False,
    )
