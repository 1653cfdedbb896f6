"""Opens one MLflow run per `kedro run`, logs what the catalog's metadata says, and closes it as it ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kedro.framework.hooks import hook_impl
from pydantic import Field, ValidationError

from unet_segmentation.errors import ConfigurationError, find_project_error
from unet_segmentation.hooks.state import RunState, command_line, path_of
from unet_segmentation.models.model_file import weights_sha256
from unet_segmentation.tracking import active_run
from unet_segmentation.utils.strict_model import StrictModel

if TYPE_CHECKING:
    import pandas as pd
    from kedro.config import AbstractConfigLoader
    from kedro.framework.context import KedroContext
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from unet_segmentation.tracking.run import OpenRun
    from unet_segmentation.tracking.settings import TrackingSettings

log = logging.getLogger(__name__)

DATA = "data"  # folder of the artifacts that are logged even when their dataset is only loaded
RESUMABLE_PIPELINES = ("article_claims.", "cross_validation.", "inference.")  # they skip what an earlier run has done


class ResumeMetadata(StrictModel):
    """Marks a dataset as a training result: a run that produces it takes the training lock and can be resumed."""

    folder: str  # trained into; lock and marker are in it
    shared: bool = False  # several processes may train into it; the first one takes the lock
    ignore: tuple[str, ...] = ()  # sections of parameters without effect on the result


class MlflowMetadata(StrictModel):
    """What a catalog entry's `metadata: {mlflow: ...}` may hold."""

    artifact: str | None = None  # folder of the artifacts that gets the file
    metrics: str | None = None  # prefix; numbers of the dataset are logged as `PREFIX/name`
    tags: dict[str, str] = Field(default_factory=dict)  # tag to the key, or attribute, that holds its value
    weights_tag: str | None = None  # gets the hash of the file's weights
    input: bool = False  # whether the table of samples is logged as the run's dataset
    resume: ResumeMetadata | None = None  # read with tracking off, too


class MlflowHooks:
    """Tracks a run in MLflow, and owns the `RunState` that all hooks and the command line share.

    With tracking off it still takes the lock of a training, and marks the training's results as delivered.
    """

    def __init__(self) -> None:
        self.state: RunState | None = None

    @property
    def _state(self) -> RunState:
        assert self.state is not None, "Kedro makes a context first"
        return self.state

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Make the state of a new run; one that was stopped in a notebook, say, is closed."""
        if self.state is not None:
            self.state.finish("KILLED", "Interrupted.")
        self.state = RunState(context)

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Remember the catalog: its entries say what is logged."""
        self._state.catalog = catalog

    @hook_impl
    def before_pipeline_run(self, run_params: Mapping[str, object], pipeline: Pipeline) -> None:
        """Open the run, before anything is downloaded; with --only-missing-outputs, before the first node that runs.

        Raises:
            TrackingError: the store cannot be reached.
            ConfigurationError: mlflow.yml is wrong, another process trains this problem, or the runner starts
                processes.
        """
        if "ParallelRunner" in str(run_params.get("runner")):
            raise ConfigurationError(
                "--runner ParallelRunner: all nodes log to one MLflow run, from one process; use --runner "
                "ThreadRunner, or none"
            )
        state, names = self._state, run_params.get("pipeline_names")
        names = names if isinstance(names, list) else []  # the command line gives an empty list for the default
        state.pipeline_names = [str(name) for name in names] or ["__default__"]
        state.is_resumable = any(node.name.startswith(RESUMABLE_PIPELINES) for node in pipeline.nodes)
        state.unlogged_inputs = set(pipeline.inputs())
        state.unopened = pipeline
        if not run_params.get("only_missing_outputs"):
            self._open()

    @hook_impl
    def before_node_run(self) -> None:
        """Open the run, if this is the first node."""
        self._open()

    def _open(self) -> None:
        state = self._state
        with state.opening:  # nodes may run in threads
            if state.unopened is None:
                return
            pipeline, state.unopened = state.unopened, None
            settings = read_tracking_settings(state.context.config_loader)
            if (resume := self._resume_metadata(pipeline)) is not None:
                from unet_segmentation.tracking.resume import claim_training

                parameters = {name: value for name, value in state.parameters.items() if name not in resume.ignore}
                folder = state.root / resume.folder
                state.claim = claim_training(folder, parameters, command_line(), shared=resume.shared)
                state.is_resumable |= state.claim is not None
            if settings.enabled:
                try:
                    state.run = self._start_run(settings)
                except BaseException:
                    if state.claim is not None:
                        state.claim.roll_back()
                    raise

    def _resume_metadata(self, pipeline: Pipeline) -> ResumeMetadata | None:
        """Return how the run is resumed; of several, the one whose folder holds the others' counts."""
        entries = [self._metadata(name).resume for name in pipeline.all_outputs()]
        resumes = sorted(filter(None, entries), key=lambda resume: (len(Path(resume.folder).parts), resume.folder))
        return next(iter(resumes), None)

    def _start_run(self, settings: TrackingSettings) -> OpenRun:
        from unet_segmentation.tracking.run import start_run

        state = self._state
        return start_run(
            settings,
            root=state.root,
            problem=state.problem or "unnamed",
            parameters=state.parameters,
            command=command_line(),
            tags={"pipelines": ", ".join(sorted(state.pipeline_names))},
            claim=state.claim,
        )

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Continue the interrupted MLflow run by default, unless the training node decided otherwise."""
        if any(self._metadata(name).resume for name in node.outputs):
            active_run().decide_resumption(True)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: object) -> None:
        """Log a result as its catalog entry says."""
        if active_run().enabled:
            with _warn_instead(dataset_name):
                self._log(dataset_name, data)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: object) -> None:
        """Log what describes the data even where this run only loads it, so that each run in MLflow is complete."""
        inputs = self._state.unlogged_inputs
        if not active_run().enabled or dataset_name not in inputs:
            return
        inputs.discard(dataset_name)
        with _warn_instead(dataset_name):
            if self._metadata(dataset_name).artifact == DATA:
                self._log(dataset_name, data)

    def _metadata(self, dataset: str) -> MlflowMetadata:
        try:
            return MlflowMetadata.model_validate(self._state.metadata(dataset, "mlflow"))
        except ValidationError as error:
            raise ConfigurationError(f"The catalog's entry {dataset}, metadata.mlflow: {error}") from None

    def _log(self, name: str, data: object) -> None:
        run, dataset, metadata = active_run(), self._state.catalog[name], self._metadata(name)
        path = path_of(dataset)
        if metadata.metrics is not None:
            from unet_segmentation.tracking.run import numeric_metrics

            run.log_metrics(numeric_metrics(cast("Mapping[str, object] | str", data), metadata.metrics))
        if metadata.artifact is not None and path is not None and path.exists():
            plotly = type(dataset).__name__ == "PlotlyDataset"
            (run.log_figure_html if plotly else run.log_artifact)(path, metadata.artifact)
        if metadata.input:
            source = dataset_source(self._state.parameters.get("source") or {})
            run.log_dataset(cast("pd.DataFrame", data), self._state.problem, source)
        of = data.get if isinstance(data, Mapping) else lambda key: getattr(data, key, None)
        if tags := {tag: value for tag, key in metadata.tags.items() if (value := of(key)) is not None}:
            run.set_tags(tags)
        if metadata.weights_tag is not None and path is not None:
            run.set_tags({metadata.weights_tag: weights_sha256(path)})

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close the run, and mark the training's results as delivered."""
        self._state.finish("FINISHED")
        if self._state.claim is not None:
            from unet_segmentation.training.run_directory import mark_delivered

            mark_delivered(self._state.claim.folder)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Close the run with the reason."""
        expected = find_project_error(error)
        self._state.finish("FAILED", str(expected) if expected else f"{type(error).__name__}: {error}")


def read_tracking_settings(config_loader: AbstractConfigLoader) -> TrackingSettings:
    """Read the settings of mlflow.yml through Kedro's configuration.

    Raises:
        ConfigurationError: a setting is wrong or does not exist.
    """
    from kedro.config import MissingConfigException

    from unet_segmentation.tracking.settings import read_settings

    try:
        return read_settings(config_loader["mlflow"])
    except MissingConfigException:
        return read_settings({})


def dataset_source(source: Any) -> str:  # noqa: ANN401 - a tree of parameters
    """Return where the data came from: an address, a folder, or a generator."""
    if archive := source.get("archive"):
        return archive if isinstance(archive, str) else ", ".join(archive)
    for archive in source.get("archives") or ():
        return str(archive.get("url") or archive["page"])
    return str(source.get("folder") or f"generator:{(source.get('generator') or {}).get('name', 'cells')}")


@contextmanager
def _warn_instead(dataset: str) -> Iterator[None]:
    """Log that something could not be tracked: once a run is under way, that does not stop it."""
    try:
        yield
    except Exception as error:
        log.warning("%s was not tracked: %s", dataset, error)
        log.debug("%s was not tracked", dataset, exc_info=True)
