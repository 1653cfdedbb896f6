"""From an index to packed arrays, a split, an audit, a verdict and the statistics of the training split."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.preparation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Inspect, split, audit, judge, profile."""
    return Pipeline(
        [
            Node(
                nodes.inspect,
                [
                    "indexed_samples",
                    "extracted_files",
                    "params:source",
                    "params:classes",
                    "params:images",
                    "params:masks",
                    "params:inspection",
                    "packing_folder",
                ],
                ["inspected_samples", "inspection_findings", "packed_samples"],
                name="inspect",
            ),
            Node(
                nodes.split,
                ["inspected_samples", "inspection_findings", "params:split", "splitting_folder", "params:classes"],
                ["split_samples", "split_findings"],
                name="split",
            ),
            Node(
                nodes.audit,
                {
                    "problem": "params:problem",
                    "inspected": "inspected_samples",
                    "samples": "split_samples",
                    "inspection_findings": "inspection_findings",
                    "split_findings": "split_findings",
                    "packed": "packed_samples",
                    "extracted": "extracted_files",
                    "source": "params:source",
                    "classes": "params:classes",
                    "images": "params:images",
                    "masks": "params:masks",
                    "inspection": "params:inspection",
                },
                ["verdict", "findings", "audit"],
                name="audit",
            ),
            Node(nodes.judge, ["split_samples", "verdict"], "samples", name="judge"),
            Node(
                nodes.profile,
                ["samples", "inspected_samples", "params:classes", "params:images"],
                "profile",
                name="profile",
            ),
        ],
        namespace="preparation",
        prefix_datasets_with_namespace=False,
    )
