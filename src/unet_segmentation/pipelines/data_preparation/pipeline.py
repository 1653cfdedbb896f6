"""From an index to packed arrays, a split, an audit and the statistics of the training split."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.data_preparation import nodes

DECLARATIONS = wire("source label_map images masks inspection")


def create_pipeline(**_: object) -> Pipeline:
    """Define the label map, inspect, split, audit, enforce the audit, compute statistics."""
    return namespaced(
        "data_preparation",
        node(nodes.define_label_map, wire("classes"), "label_map"),
        node(
            nodes.inspect,
            DECLARATIONS | wire("packing_dir", indexed="sample_index", extracted="extracted_files"),
            ["inspected_samples", "inspection_findings", "packed_dataset"],
        ),
        node(
            nodes.split,
            wire("inspected splitting_dir label_map", findings="inspection_findings", split="params:split"),
            ["split_samples", "split_findings"],
        ),
        node(
            nodes.audit,
            DECLARATIONS
            | wire(
                "problem inspected inspection_findings split_findings packed",
                samples="split_samples",
                extracted="extracted_files",
            ),
            ["audit_result", "findings", "audit"],
        ),
        node(nodes.enforce_audit, wire("audit_result", samples="split_samples"), "samples"),
        node(nodes.compute_statistics, wire("samples inspected label_map images"), "dataset_statistics"),
    )
