"""Shows what a person wants to know of a run: which node is at work, and at the end where to look."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, cast

from kedro.framework.hooks import hook_impl

from unet_segmentation.errors import DataError, find_project_error
from unet_segmentation.hooks.state import RunState, path_of
from unet_segmentation.utils.memory import MemoryWatch
from unet_segmentation.utils.strict_model import StrictModel

if TYPE_CHECKING:
    import pandas as pd
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from unet_segmentation.hooks.mlflow import MlflowHooks

log = logging.getLogger(__name__)

SLOW_NODE_SECONDS = 1.0  # a node that took longer is logged with its time
HEADLINES = ("dice/mean", "iou/mean")


class ConsoleMetadata(StrictModel):
    """What a catalog entry's `metadata: {console: ...}` may hold."""

    page: str | None = None  # title of a page that is named at the end of the run that has made it
    after_error: Literal["never", "data", "always"] = "never"  # whether it is also named after an error (of the data)
    scores: bool = False  # whether the last line shows scores of it
    intervals: bool = False  # whether it is the table of their confidence intervals (columns score, low, high)


class ConsoleHooks:
    """Shows the progress of a run, and at its end scores, pages and links."""

    def __init__(self, mlflow: MlflowHooks) -> None:
        self._mlflow = mlflow
        self._once = OnceFilter()

    @property
    def _state(self) -> RunState:
        assert self._mlflow.state is not None, "Kedro makes a context first"
        return self._mlflow.state

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Begin to count nodes."""
        use_plain_handler_when_piped()
        self._once.begin()
        self._started: dict[str, float] = {}
        self._begin, self._count, self._total = time.perf_counter(), 0, len(pipeline.nodes)
        self._memory = MemoryWatch()
        self._pages: dict[str, ConsoleMetadata] = {}  # that this run has made
        self._scores: Mapping[str, float | None] = {}
        self._intervals: dict[str, str] = {}
        log.info("%s: %d nodes", self._state.problem, self._total)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Log which node starts."""
        self._count += 1
        self._started[node.name] = time.perf_counter()
        log.info("%*d/%d %s", len(str(self._total)), self._count, self._total, node.name)

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Log how long it took, if it was long."""
        seconds = time.perf_counter() - self._started.pop(node.name)
        if seconds >= SLOW_NODE_SECONDS:
            log.info("%s %s took %s", " " * (2 * len(str(self._total)) + 1), node.name, format_duration(seconds))
        self._memory.trim_if_grown()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: object) -> None:
        """Remember pages and scores."""
        metadata = ConsoleMetadata.model_validate(self._state.metadata(dataset_name, "console"))
        if metadata.page is not None:
            self._pages[dataset_name] = metadata
        if metadata.scores and isinstance(data, Mapping):
            self._scores = data
        if metadata.intervals:
            self._intervals = _format_intervals(cast("pd.DataFrame", data))

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Show how it went and where to look."""
        scores = [
            f"{name} {self._scores[name]:.4f}{self._intervals.get(name, '')}"
            for name in HEADLINES
            if self._scores.get(name) is not None
        ]
        seconds = format_duration(time.perf_counter() - self._begin)
        first = f"Done in {seconds}" + (f": {', '.join(scores)}" if scores else "")
        if self._count == 0:
            first = "Nothing to do: every output is there."
        viz = f"Kedro-Viz  kedro viz run --env {self._state.problem}"
        _print([first, *self._page_lines(), viz, *self._state.summary_lines])

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Show pages that tell more of the error."""
        shown = {"always", "data"} if isinstance(find_project_error(error), DataError) else {"always"}
        _print(self._page_lines(shown))

    def _page_lines(self, after_error: Iterable[str] = ("always", "data", "never")) -> list[str]:
        """Format where the pages are that this run has made, the last one first."""
        return [
            f"{metadata.page:<10} {path_of(self._state.catalog[name])}"
            for name, metadata in reversed(self._pages.items())
            if metadata.after_error in after_error
        ]


def _format_intervals(table: pd.DataFrame) -> dict[str, str]:
    rows = table.dropna(subset=["low", "high"])
    limits = zip(rows["score"], rows["low"], rows["high"], strict=True)
    return {name: f" [{low:.4f}, {high:.4f}]" for name, low, high in limits}


def _print(lines: list[str]) -> None:
    from rich import get_console

    console = get_console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


class OnceFilter(logging.Filter):
    """Shows a line that was logged with `extra={"once": ...}` once a run, whichever of many training runs logs it."""

    def begin(self) -> None:
        """Begin a run, for all handlers."""
        self._seen: set[str] = set()
        for handler in logging.getLogger().handlers:
            handler.filters = [other for other in handler.filters if not isinstance(other, OnceFilter)] + [self]

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is shown; the record remembers it, for other handlers."""
        attributes = vars(record)
        key = attributes.get("once")
        if "shown" not in attributes:
            attributes["shown"] = key is None or key not in self._seen
            self._seen.add(str(key))
        return bool(attributes["shown"])


def use_plain_handler_when_piped() -> None:
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


def format_duration(seconds: float) -> str:
    """Format a duration as people write it: `8.3 s`, `2 min 5 s`, `1 h 12 min`.

    >>> format_duration(8.31), format_duration(125), format_duration(4320)
    ('8.3 s', '2 min 5 s', '1 h 12 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
