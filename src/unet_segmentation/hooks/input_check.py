"""Refuses a partial run whose inputs were not made yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kedro.framework.hooks import hook_impl

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.hooks.state import path_of

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline


class InputCheckHooks:
    """Makes sure that what a run starts from exists."""

    def __init__(self) -> None:
        self._problem = ""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the problem's name."""
        self._problem = str(context.params.get("problem", ""))

    @hook_impl
    def before_pipeline_run(self, run_params: Mapping[str, object], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check the inputs, unless only what is missing is made."""
        if not run_params.get("only_missing_outputs"):
            check_inputs(pipeline, catalog, self._problem)


def check_inputs(pipeline: Pipeline, catalog: DataCatalog, problem: str) -> None:
    """Raise ConfigurationError with each input that was not made yet, its file and the pipeline that makes it."""
    names = [name for name in pipeline.inputs() if not name.startswith(("params:", "parameters")) and name in catalog]
    missing = sorted(
        name for name in names if not catalog.exists(name) and not getattr(catalog[name], "optional", False)
    )
    if not missing:
        return
    makers = {name: _find_maker(name) for name in missing}
    lines = [f"  {name} ({path_of(catalog[name])}), made by {makers[name] or 'no pipeline'}" for name in missing]
    needed = ",".join(sorted({maker for maker in makers.values() if maker}))
    environment = f" --env {problem}" if problem else ""
    raise ConfigurationError(
        "This run starts from what is not there yet:\n"
        + "\n".join(lines)
        + f"\nRun what makes it first: kedro run --pipelines {needed}{environment}"
    )


def _find_maker(dataset: str) -> str | None:
    """Return the pipeline that makes a dataset."""
    from kedro.framework.project import pipelines

    pipelines.set_requested(None)
    makers = (name for name, pipeline in pipelines.items() if dataset in pipeline.all_outputs())
    return next((name for name in makers if name != "__default__"), None)
