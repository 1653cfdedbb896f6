"""The pipelines, a package each, and how their nodes are wired to the catalog."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

DATASETS = {  # argument of a node to its dataset, where the names differ
    "article": "params:article_claims",
    "bootstrap": "params:bootstrap",
    "classes": "params:classes",
    "evaluation": "params:evaluation",
    "export": "params:export",
    "images": "params:images",
    "inference": "params:inference",
    "inspected": "inspected_samples",
    "inspection": "params:inspection",
    "masks": "params:masks",
    "model": "best_model",
    "packed": "packed_dataset",
    "model_params": "params:model",
    "predictor_params": "params:predictor",
    "problem": "params:problem",
    "recipe": "augmentation_recipe",
    "release": "params:release",
    "source": "params:source",
    "spec": "model_spec",
    "statistics": "dataset_statistics",
    "training": "params:training",
}


def wire(names: str = "", **datasets: str) -> dict[str, str]:
    """Return the inputs of a node: of each name its dataset, and of other arguments the dataset that they name.

    >>> wire("samples packed", folder="training_dir")
    {'samples': 'samples', 'packed': 'packed_dataset', 'folder': 'training_dir'}
    """
    return {name: DATASETS.get(name, name) for name in names.split()} | datasets


def node(function: Callable[..., Any], inputs: dict[str, str], outputs: str | list[str] | None) -> Node:
    """Build a node that is named after its function."""
    return Node(function, inputs=inputs, outputs=outputs, name=function.__name__)


def namespaced(name: str, *nodes: Node) -> Pipeline:
    """Build a pipeline whose nodes, but not its datasets, are in the namespace of its name."""
    return Pipeline(nodes, namespace=name, prefix_datasets_with_namespace=False)
