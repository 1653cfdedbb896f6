"""From an index to packed arrays, a verdict, a split and the statistics of the training split."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.preparation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Inspect, judge, split, profile."""
    return Pipeline(
        [
            Node(
                nodes.inspect,
                [
                    "indexed_samples",
                    "extracted_files",
                    "params:classes",
                    "params:masks",
                    "params:inspection",
                    "packing_folder",
                ],
                ["inspected_samples", "findings", "packed_samples"],
                name="inspect",
            ),
            Node(
                nodes.judge,
                ["inspected_samples", "findings", "params:classes", "params:masks"],
                "verdict",
                name="judge",
            ),
            Node(nodes.split, ["inspected_samples", "verdict", "params:split"], "samples", name="split"),
            Node(nodes.profile, ["samples", "inspected_samples", "params:classes"], "profile", name="profile"),
        ],
        namespace="preparation",
        prefix_datasets_with_namespace=False,
    )
