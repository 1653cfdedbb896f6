"""The registered pipelines."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

DEFAULT = ("data_ingestion", "data_preparation", "planning", "augmentation", "training", "evaluation")


def register_pipelines() -> dict[str, Pipeline]:
    """Register every pipeline under its name, and the main job as the default one."""
    pipelines = find_pipelines(raise_errors=True)
    pipelines["__default__"] = sum((pipelines[name] for name in DEFAULT if name in pipelines), Pipeline([]))
    return pipelines
