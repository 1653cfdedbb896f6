"""Kedro hooks: what happens around a run. Heavy imports stay inside the methods."""

from __future__ import annotations

import logging
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

from unet_segmentation import tracking
from unet_segmentation.errors import ConfigurationError, find_project_error
from unet_segmentation.parameters.serialization import to_builtin
from unet_segmentation.tracking.run_metadata import weights_sha256
from unet_segmentation.tracking.spool import new_name
from unet_segmentation.tracking.unfinished import (
    FOLDERS,
    SHARED,
    SWEEPS,
    TRAINING_NODE,
    Training,
    begin_training,
    mark_delivered,
)
from unet_segmentation.utils.memory import MemoryWatch

log = logging.getLogger(__name__)

DATA = "data"  # the artifacts that say what the run works on
WORTH_SAYING = 1.0  # seconds; a node that took longer says so
HEADLINES = ("dice/mean", "iou/mean")
KEEPING = (
    "article_claims.",
    "cross_validation.",
    "inference.",
)  # pipelines that go on with what an earlier run has finished

_last_outcome: Any = None  # of the run that was closed
_training: Training | None = None  # that this run has begun
_keeping = False  # whether a pipeline of KEEPING runs


class TrackingHooks:
    """Opens one MLflow run per `kedro run`, logs what the catalog's metadata says, and closes it as it ended.

    A catalog entry says `metadata: {mlflow: {artifact: FOLDER}}` to be logged as a file, and
    `metadata: {mlflow: {metrics: PREFIX}}` to have its numbers logged as `PREFIX/name`.
    """

    def __init__(self) -> None:
        self._context: Any = None
        self._run: Any = None
        self._pending: tuple[Mapping[str, Any], str | None] | None = None  # parameters of the run; the node that trains
        self._given: set[str] = set()  # datasets that the run starts from, until they are loaded
        self._opening = threading.Lock()

    @hook_impl
    def after_context_created(self, context: Any) -> None:  # noqa: ANN401 - a Kedro context
        """Remember where the settings are."""
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any) -> None:  # noqa: ANN401
        """Open the run, before anything is downloaded; with --only-missing-outputs, before the first node that runs.

        Raises:
            TrackingError: the store cannot be reached.
            ConfigurationError: mlflow.yml is wrong, or this problem is being trained by another process.
        """
        global _last_outcome, _training, _keeping  # noqa: PLW0603
        if self._run is not None and tracking.current() is self._run:  # stopped in a notebook, say
            finish_run("KILLED", "Interrupted.")
        _last_outcome = _training = None
        _keeping = any(node.name.startswith(KEEPING) for node in pipeline.nodes)
        self._run, self._pending = None, (run_params, training_node(pipeline))
        self._given = set(pipeline.inputs())
        if not run_params.get("only_missing_outputs"):
            self._open()

    @hook_impl
    def before_node_run(self) -> None:
        """Stop the run if a local store, opened beside it, turned out not to work."""
        self._open()
        if self._run is not None:
            self._run.check()

    def _open(self) -> None:
        global _training  # noqa: PLW0603
        with self._opening:
            if self._pending is None:
                return
            (run_params, trained_by), self._pending = self._pending, None
            settings = tracking_settings(self._context.config_loader)
            parameters = to_builtin(self._context.params)
            if trained_by:
                dataset = FOLDERS[trained_by]
                folder, shared = self._folder(dataset), dataset in SHARED
                others = {name for name in SWEEPS if name != trained_by.partition(".")[0]}
                matter = {name: value for name, value in parameters.items() if name not in others}
                spool = new_name() if settings.enabled else None
                _training = begin_training(folder, matter, command_line(), spool, shared=shared)
            if settings.enabled:
                try:
                    self._run = self._start(settings, parameters, run_params)
                except BaseException:
                    if _training is not None:
                        _training.withdraw()
                    raise

    def _start(self, settings: Any, parameters: Mapping[str, Any], run_params: Mapping[str, Any]) -> Any:  # noqa: ANN401
        from unet_segmentation.tracking.run import start_run

        names = run_params.get("pipeline_names") or ["__default__"]
        return start_run(
            settings,
            root=self._root,
            problem=str(parameters.get("problem", "unnamed")),
            parameters=parameters,
            command=command_line(),
            tags={"pipelines": ", ".join(sorted(names))},
            training=_training,
        )

    @property
    def _root(self) -> Path:
        return Path(self._context.project_path)

    def _folder(self, name: str) -> Path:
        """Where the catalog has the problem's models, or those of a sweep."""
        folder = _path_of(self._catalog[name]) if name in self._catalog else None
        return self._root / (folder or Path("data", "06_models", str(self._context.params.get("problem", ""))))

    @hook_impl
    def after_node_run(self, node: Any) -> None:  # noqa: ANN401 - a Kedro node
        """Settle that an unfinished run was taken up, if the training has not said otherwise."""
        if node.name == TRAINING_NODE:
            tracking.current().resumes(True)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Log a result as its catalog entry says."""
        run = tracking.current()
        if not run.enabled:
            return
        with _never_stopping_the_run(dataset_name):
            self._log(run, dataset_name, data)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Log what an earlier run has made of the data, where this one starts from it: its page holds all of it."""
        run = tracking.current()
        if not run.enabled or dataset_name not in self._given:
            return
        self._given.discard(dataset_name)
        with _never_stopping_the_run(dataset_name):
            if self._wanted(dataset_name).get("artifact") == DATA:
                self._log(run, dataset_name, data)

    def _wanted(self, name: str) -> Mapping[str, Any]:
        return (getattr(self._catalog[name], "metadata", None) or {}).get("mlflow") or {}

    def _log(self, run: tracking.Run, name: str, data: Any) -> None:  # noqa: ANN401
        dataset, wanted = self._catalog[name], self._wanted(name)
        path = _path_of(dataset)
        if "metrics" in wanted:
            from unet_segmentation.tracking.run import numbers_of

            run.log_metrics(numbers_of(data, wanted["metrics"]))
        if "artifact" in wanted and path is not None and path.exists():
            plotly = type(dataset).__name__ == "PlotlyDataset"
            (run.log_figure_html if plotly else run.log_artifact)(path, wanted["artifact"])
        if name == "samples":
            parameters = to_builtin(self._context.params)
            run.log_dataset(data, str(parameters["problem"]), _origin(parameters.get("source") or {}))
        if name == "dataset_statistics" and (data_sha256 := getattr(data, "data_sha256", None)):
            run.set_tags({"data.sha256": data_sha256})
        if name == "best_model" and path is not None:
            run.set_tags({"weights.sha256": weights_sha256(path)})

    @hook_impl
    def after_catalog_created(self, catalog: Any) -> None:  # noqa: ANN401 - a Kedro catalog
        """Remember the catalog: its entries say what is logged."""
        self._catalog = catalog

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close the run, and tell the training that its result was delivered."""
        finish_run("FINISHED")
        if _training is not None:
            mark_delivered(_training.folder)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Close the run with the reason."""
        known = find_project_error(error)
        finish_run("FAILED", str(known) if known else f"{type(error).__name__}: {error}")


class ConsoleHooks:
    """Says what a person wants to know of a run: which node is at work, and at the end where to look."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._saved: set[str] = set()
        self._count = self._total = 0
        self._context: Any = None
        self._catalog: Any = None
        self._begin = time.perf_counter()
        self._metrics: Mapping[str, Any] = {}
        self._intervals: dict[str, str] = {}
        self._once = SayOnce()

    @hook_impl
    def after_context_created(self, context: Any) -> None:  # noqa: ANN401
        """Remember the problem's name."""
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:  # noqa: ANN401
        """Make sure that what the run starts from is there.

        Raises:
            ConfigurationError: an input was not made yet; the message says by which pipeline.
        """
        plain_lines_in_files()
        self._once.begin()
        self._begin, self._count, self._total = time.perf_counter(), 0, len(pipeline.nodes)
        self._memory = MemoryWatch()
        self._catalog = catalog
        self._saved.clear()
        self._metrics, self._intervals = {}, {}
        if not run_params.get("only_missing_outputs"):
            check_inputs(pipeline, catalog, self._problem)
        log.info("%s: %d nodes", self._problem, self._total)

    @property
    def _problem(self) -> str:
        return str(self._context.params.get("problem", "")) if self._context else ""

    @hook_impl
    def before_node_run(self, node: Any) -> None:  # noqa: ANN401 - a Kedro node
        """Say which node starts."""
        self._count += 1
        self._started[node.name] = time.perf_counter()
        log.info("%*d/%d %s", len(str(self._total)), self._count, self._total, node.name)

    @hook_impl
    def after_node_run(self, node: Any) -> None:  # noqa: ANN401
        """Describe how long it took, if it was long."""
        seconds = time.perf_counter() - self._started.pop(node.name)
        if seconds >= WORTH_SAYING:
            log.info("%s %s took %s", " " * (2 * len(str(self._total)) + 1), node.name, duration(seconds))
        self._memory.look()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:  # noqa: ANN401
        """Remember what this run has made."""
        self._saved.add(dataset_name)
        if dataset_name == "metrics" and isinstance(data, Mapping):
            self._metrics = data
        if dataset_name == "intervals":
            rows = data.dropna(subset=["low", "high"])
            limits = zip(rows["score"], rows["low"], rows["high"], strict=True)
            self._intervals = {name: f" [{low:.4f}, {high:.4f}]" for name, low, high in limits}

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Describe how it went and where to look."""
        scores = [
            f"{name} {self._metrics[name]:.4f}{self._intervals.get(name, '')}"
            for name in HEADLINES
            if self._metrics.get(name) is not None
        ]
        seconds = duration(time.perf_counter() - self._begin)
        lines = [f"Done in {seconds}" + (f": {', '.join(scores)}" if scores else "")]
        if self._count == 0:
            lines = ["Nothing to do: every output is there."]
        lines += self._made("report", "Report")
        lines += self._made("sweep_page", "Comparison")
        lines += self._audit()
        lines.append(f"Kedro-Viz  kedro viz run --env {self._problem}")
        lines += last_words()
        _say(lines)

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Say where the findings can be looked at, if it was the data that stopped the run."""
        if "samples" not in self._saved:
            _say(self._audit())
        _say(self._made("sweep_page", "Comparison"))

    def _audit(self) -> list[str]:
        return self._made("audit", "Audit")

    def _made(self, name: str, title: str) -> list[str]:
        """Say where a page is that this run has made."""
        return [f"{title:<10} {_path_of(self._catalog[name])}"] if name in self._saved else []


def _say(lines: list[str]) -> None:
    from rich import get_console

    console = get_console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


# -- tracking


def tracking_settings(config_loader: Any) -> Any:  # noqa: ANN401 - a TrackingSettings
    """Read the settings of mlflow.yml through Kedro's configuration.

    Raises:
        ConfigurationError: a setting is wrong or not known.
    """
    from kedro.config import MissingConfigException

    from unet_segmentation.tracking.settings import read_settings

    try:
        return read_settings(config_loader["mlflow"])
    except MissingConfigException:
        return read_settings({})


def finish_run(status: str, reason: str | None = None) -> None:
    """Close the open run, if there is one, and remember what is to be said about it."""
    global _last_outcome  # noqa: PLW0603 - one run per process
    run: Any = tracking.current()
    if run.enabled:
        _last_outcome = run.finish(status, reason)
    if _training is not None:
        _training.finish(status)


def training_node(pipeline: Any) -> str | None:  # noqa: ANN401 - a Kedro pipeline
    """Name the node of a pipeline that trains what an interrupted run is taken up for; None where there is none."""
    return next((name for name in FOLDERS if any(node.name == name for node in pipeline.nodes)), None)


def goes_on() -> bool:
    """Whether the run of this process has begun something that the next one takes up if it ends early."""
    return _training is not None or _keeping


def last_words() -> list[str]:
    """Say where the closed run can be seen, and whether anything of it is still to be sent."""
    if _last_outcome is None:
        return []
    hint = "   (start it with: make mlflow)" if (_last_outcome.link or "").startswith("http://127.0.0.1:5000/") else ""
    lines = [f"MLflow     {_last_outcome.link}{hint}"] if _last_outcome.link else []
    return lines + ([_last_outcome.message] if _last_outcome.message else [])


def unsent() -> str | None:
    """Describe what of the closed run is still to be sent, or was refused."""
    return _last_outcome.message if _last_outcome is not None else None


@contextmanager
def _never_stopping_the_run(what: str) -> Iterator[None]:
    """Tracking that fails, once a run is under way, is said and passed over."""
    try:
        yield
    except Exception as error:
        log.warning("%s was not tracked: %s", what, error)
        log.debug("%s was not tracked", what, exc_info=True)


def command_line() -> str:
    """Return what the user called."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _path_of(dataset: Any) -> Path | None:  # noqa: ANN401 - a Kedro dataset
    for name in ("_filepath", "_path"):
        if (path := getattr(dataset, name, None)) is not None:
            return Path(str(path))
    return None


def _origin(source: Any) -> str:  # noqa: ANN401 - parameters of the source
    """Say in one address where the data came from."""
    if archive := source.get("archive"):
        return archive if isinstance(archive, str) else ", ".join(archive)
    for archive in source.get("archives") or ():
        return str(archive.get("url") or archive["page"])
    return str(source.get("folder") or f"generator:{(source.get('generator') or {}).get('name', 'cells')}")


# -- before a run


def check_inputs(pipeline: Any, catalog: Any, problem: str) -> None:  # noqa: ANN401 - Kedro's
    """Refuse a partial run whose inputs were not made yet.

    Raises:
        ConfigurationError: names each missing input, its file, and the pipeline that makes it.
    """
    names = [name for name in pipeline.inputs() if not name.startswith(("params:", "parameters")) and name in catalog]
    missing = sorted(
        name for name in names if not catalog.exists(name) and not getattr(catalog[name], "optional", False)
    )
    if not missing:
        return
    makers = {name: _maker(name) for name in missing}
    lines = [f"  {name} ({_path_of(catalog[name])}), made by {makers[name] or 'no pipeline'}" for name in missing]
    needed = ",".join(sorted({maker for maker in makers.values() if maker}))
    environment = f" --env {problem}" if problem else ""
    raise ConfigurationError(
        "This run starts from what is not there yet:\n"
        + "\n".join(lines)
        + f"\nRun what makes it first: kedro run --pipelines {needed}{environment}"
    )


def _maker(dataset: str) -> str | None:
    """Name the pipeline that makes a dataset."""
    from kedro.framework.project import pipelines

    pipelines.set_requested(None)
    found = [name for name, pipeline in pipelines.items() if dataset in pipeline.outputs() | _inner(pipeline)]
    return next((name for name in found if name != "__default__"), None)


def _inner(pipeline: Any) -> set[str]:  # noqa: ANN401 - a Kedro pipeline
    return pipeline.datasets() - pipeline.inputs()


# -- the console


class SayOnce(logging.Filter):
    """Shows a line that was logged with `extra={"once": ...}` once a run: what holds for all of many trainings."""

    def begin(self) -> None:
        """Begin a run, for all that shows lines."""
        self._said: set[str | None] = set()
        for handler in logging.getLogger().handlers:
            handler.filters = [other for other in handler.filters if not isinstance(other, SayOnce)] + [self]

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is shown; the record remembers it, for other handlers."""
        known = vars(record)
        key = known.get("once")
        if "shown" not in known:
            known["shown"] = key is None or key not in self._said
            self._said.add(key)
        return bool(known["shown"])


def plain_lines_in_files() -> None:
    """Write plain lines where the output is no terminal: rich ones would be cut at 80 columns there."""
    from rich import get_console

    if get_console().is_terminal:
        return
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if type(handler).__name__ == "RichHandler"]:
        plain = logging.StreamHandler(sys.stdout)
        plain.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        root.removeHandler(handler)
        root.addHandler(plain)


def duration(seconds: float) -> str:
    """Write a duration as people say it: `8.3 s`, `2 min 5 s`, `1 h 12 min`.

    >>> duration(8.31), duration(125), duration(4320)
    ('8.3 s', '2 min 5 s', '1 h 12 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
