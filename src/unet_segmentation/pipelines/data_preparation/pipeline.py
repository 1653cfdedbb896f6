"""From an index to packed arrays, a split, an audit and the statistics of the training split."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.data_preparation import nodes

DECLARATIONS = {
    "source": "params:source",
    "label_map": "label_map",
    "images": "params:images",
    "masks": "params:masks",
    "inspection": "params:inspection",
}


def create_pipeline(**_: object) -> Pipeline:
    """Define the label map, inspect, split, audit, enforce the audit, compute statistics."""
    return Pipeline(
        [
            Node(
                nodes.define_label_map,
                inputs={"classes": "params:classes"},
                outputs="label_map",
                name="define_label_map",
            ),
            Node(
                nodes.inspect,
                inputs={
                    "indexed": "sample_index",
                    "extracted": "extracted_files",
                    **DECLARATIONS,
                    "packing_dir": "packing_dir",
                },
                outputs=["inspected_samples", "inspection_findings", "packed_dataset"],
                name="inspect",
            ),
            Node(
                nodes.split,
                inputs={
                    "inspected": "inspected_samples",
                    "findings": "inspection_findings",
                    "split": "params:split",
                    "splitting_dir": "splitting_dir",
                    "label_map": "label_map",
                },
                outputs=["split_samples", "split_findings"],
                name="split",
            ),
            Node(
                nodes.audit,
                inputs={
                    "problem": "params:problem",
                    "inspected": "inspected_samples",
                    "samples": "split_samples",
                    "inspection_findings": "inspection_findings",
                    "split_findings": "split_findings",
                    "packed": "packed_dataset",
                    "extracted": "extracted_files",
                    **DECLARATIONS,
                },
                outputs=["audit_result", "findings", "audit"],
                name="audit",
            ),
            Node(
                nodes.enforce_audit,
                inputs={"samples": "split_samples", "audit_result": "audit_result"},
                outputs="samples",
                name="enforce_audit",
            ),
            Node(
                nodes.compute_statistics,
                inputs={
                    "samples": "samples",
                    "inspected": "inspected_samples",
                    "label_map": "label_map",
                    "images": "params:images",
                },
                outputs="dataset_statistics",
                name="compute_statistics",
            ),
        ],
        namespace="data_preparation",
        prefix_datasets_with_namespace=False,
    )
