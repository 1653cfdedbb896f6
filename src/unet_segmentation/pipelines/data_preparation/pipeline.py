"""From an index to packed arrays, a split, an audit, a verdict and the statistics of the training split."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.data_preparation import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Inspect, split, audit, judge, profile."""
    return Pipeline(
        [
            Node(
                nodes.inspect,
                [
                    "sample_index",
                    "extracted_files",
                    "params:source",
                    "params:classes",
                    "params:images",
                    "params:masks",
                    "params:inspection",
                    "packing_dir",
                ],
                ["inspected_samples", "inspection_findings", "packed_dataset"],
                name="inspect",
            ),
            Node(
                nodes.split,
                ["inspected_samples", "inspection_findings", "params:split", "splitting_dir", "params:classes"],
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
                    "packed": "packed_dataset",
                    "extracted": "extracted_files",
                    "source": "params:source",
                    "classes": "params:classes",
                    "images": "params:images",
                    "masks": "params:masks",
                    "inspection": "params:inspection",
                },
                ["audit_result", "findings", "audit"],
                name="audit",
            ),
            Node(nodes.enforce_audit, ["split_samples", "audit_result"], "samples", name="enforce_audit"),
            Node(
                nodes.compute_statistics,
                ["samples", "inspected_samples", "params:classes", "params:images"],
                "dataset_statistics",
                name="compute_statistics",
            ),
        ],
        namespace="data_preparation",
        prefix_datasets_with_namespace=False,
    )
