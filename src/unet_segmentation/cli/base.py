"""What all commands share: errors as one message, interrupts that close the tracked run, options, tables."""

from __future__ import annotations

import difflib
import errno
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from kedro.framework.cli.project import run as kedro_run

from unet_segmentation.errors import find_project_error, iter_causes

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}  # as shells have it

params_option = next(option for option in kedro_run.params if option.name == "params")


class Command(click.Command):
    """A command whose errors end as one message, and whose tracked run is closed when it is interrupted."""

    def invoke(self, context: click.Context) -> object:
        """Invoke the command."""
        _use_project_logging(context.params.get("conf_source"))
        with plain_errors(), interruptible():
            return super().invoke(context)


def _use_project_logging(conf_source: str | None) -> None:
    """Read `logging.yml` where Kedro does not look for it: from a subfolder, or in another conf folder."""
    if os.environ.get("KEDRO_LOGGING_CONFIG") or Path("conf/logging.yml").is_file():
        return
    import yaml
    from kedro.framework.project import LOGGING
    from kedro.utils import find_kedro_project

    root = find_kedro_project(Path.cwd()) or Path.cwd()
    file = Path(conf_source or root / "conf") / "logging.yml"
    if file.is_file():
        LOGGING.configure(yaml.safe_load(file.read_text(encoding="utf-8")))


# -- errors


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show a known error as one message, with exit status 1; UNET_TRACEBACK=1 shows where it came from."""
    try:
        yield
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get("UNET_TRACEBACK"):
            raise
        click.echo(f"\n{click.style('Error:', fg='red', bold=True)} {message}", err=True)
        sys.exit(1)


def explain(error: BaseException) -> str | None:
    """Return what went wrong in words for the user; None where only a programmer can tell."""
    if known := find_project_error(error):
        return str(known)
    for cause in iter_causes(error):
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            where = f" {cause.filename} could not be written." if cause.filename else ""
            return f"The disk is full.{where} Free some space, or move the project's data folder, and run again."
        if isinstance(cause, FileNotFoundError) and cause.filename and _is_data(cause.filename):
            return f"{cause.filename} is not there: run the pipeline that makes it first (kedro run --pipelines ...)."
        if isinstance(cause, ValueError) and (message := _unknown_name(str(cause))):
            return message
    return None


def _is_data(path: object) -> bool:
    return "data" in Path(str(path)).parts


def _unknown_name(message: str) -> str | None:
    """Turn Kedro's complaint about a pipeline, node, tag or dataset that does not exist into one that helps."""
    from kedro.framework.project import pipelines

    if match := re.search(r"Failed to find the pipeline named '([^']+)'", message):
        pipelines.set_requested(None)
        return _nearest("pipeline", match[1], [name for name in pipelines if name != "__default__"])
    if match := re.search(r"Pipeline does not contain nodes? named \[?'([^']+)'", message):
        return _nearest("node", match[1], [node.name for node in pipelines["__default__"].nodes])
    if match := re.search(r"Pipeline does not contain datasets? named \[?'([^']+)'", message):
        return _nearest("dataset", match[1], sorted(pipelines["__default__"].datasets()))
    if re.search(r"Pipeline contains no nodes (after applying|with)", message):
        return message.splitlines()[0]
    return None


def _nearest(kind: str, name: str, names: list[str]) -> str:
    last_parts = {entry.rpartition(".")[2]: entry for entry in names}  # `train` for `training.train`
    near = difflib.get_close_matches(name.rpartition(".")[2], last_parts, n=1, cutoff=0.5)
    near = [last_parts[near[0]]] if near else difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    shown = [entry for entry in names if not entry.startswith("params:")]
    return f"There is no {kind} {name!r}. {hint}Known: {', '.join(shown)}."


# -- interrupts


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM; whatever a library makes of it, close the run as KILLED."""
    signals: list[signal.Signals] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        signals.append(signal.Signals(number))
        raise KeyboardInterrupt

    try:
        previous = {number: signal.signal(number, interrupt) for number in EXIT_STATUS}
    except ValueError:  # not in the main thread: signals are somebody else's matter
        previous = {}
    try:
        yield
    except BaseException as error:
        if not signals and isinstance(error, KeyboardInterrupt):
            signals.append(signal.SIGINT)
        if not signals and isinstance(error, SystemExit) and error.code == EXIT_STATUS[signal.SIGTERM]:
            signals.append(signal.SIGTERM)  # a library had its own handler
        if signals:
            _exit_interrupted(signals[0], str(error) if isinstance(error, KeyboardInterrupt) else "")
        _finish_run("FAILED", "The run ended with an error outside its nodes.")
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit_interrupted(number: signal.Signals, hint: str) -> NoReturn:
    """Close the run, say so in one line, and exit with the status that shells expect."""
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    resumable = _finish_run("KILLED", f"Interrupted by {name}.")
    from unet_segmentation.hooks.state import command_line

    how = "will resume" if resumable else "starts again"
    hint = hint or f"What was finished is kept; {command_line()} {how}."
    click.echo(f"\nInterrupted by {name}. {hint}", err=True)
    sys.exit(EXIT_STATUS[number])


def _finish_run(status: str, reason: str) -> bool:
    """Close the tracked run, if one is open; return whether the next one resumes it."""
    from unet_segmentation.hooks import find_run_state

    if (state := find_run_state()) is None:
        return False
    state.finish(status, reason)
    if state.result is not None and state.result.message:
        click.echo(state.result.message, err=True)
    return state.is_resumable


# -- tables


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a table: drawn on a terminal, in plain columns elsewhere."""
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    console = get_console()
    if console.is_terminal:
        table = Table(*(title.capitalize() for title in header), box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
