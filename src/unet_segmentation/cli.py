"""The project's commands. Kedro imports this module at every command, so nothing heavy may be imported here."""

from __future__ import annotations

import difflib
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS, env_option

from unet_segmentation.errors import ProjectError, find_project_error, iter_causes
from unet_segmentation.sessions import open_session, project_root

INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}  # exit status, as shells have it


class _Command(click.Command):
    """A command whose errors that a user can mend end as one message instead of a traceback."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        with plain_errors():
            return super().invoke(context)


class _RunCommand(_Command):
    """``kedro run``: also closes the tracked run when it is interrupted."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401
        _use_project_logging(context.params.get("conf_source"))
        with _interruptible():
            return super().invoke(context)


def _use_project_logging(conf_source: str | None) -> None:
    """Read `logging.yml` where Kedro does not look for it: from a subfolder, or beside another conf folder."""
    if os.environ.get("KEDRO_LOGGING_CONFIG") or Path("conf/logging.yml").is_file():
        return
    import yaml
    from kedro.framework.project import LOGGING
    from kedro.utils import find_kedro_project

    root = find_kedro_project(Path.cwd()) or Path.cwd()
    file = Path(conf_source or root / "conf") / "logging.yml"
    if file.is_file():
        LOGGING.configure(yaml.safe_load(file.read_text(encoding="utf-8")))


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
    """Describe what went wrong in words for the user; None where only a programmer can tell."""
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


def _is_data(path: Any) -> bool:  # noqa: ANN401 - text or a path
    return "data" in Path(str(path)).parts


def _unknown_name(message: str) -> str | None:
    """Turn Kedro's complaint about a pipeline, node, tag or dataset that is not there into one that helps."""
    from kedro.framework.project import pipelines

    if found := re.search(r"Failed to find the pipeline named '([^']+)'", message):
        pipelines.set_requested(None)
        return _not_there("pipeline", found[1], [name for name in pipelines if name != "__default__"])
    if found := re.search(r"Pipeline does not contain nodes? named \[?'([^']+)'", message):
        return _not_there("node", found[1], [node.name for node in pipelines["__default__"].nodes])
    if found := re.search(r"Pipeline does not contain datasets? named \[?'([^']+)'", message):
        return _not_there("dataset", found[1], sorted(pipelines["__default__"].datasets()))
    if re.search(r"Pipeline contains no nodes (after applying|with)", message):
        return message.splitlines()[0]
    return None


def _not_there(kind: str, name: str, known: list[str]) -> str:
    ends = {entry.rpartition(".")[2]: entry for entry in known}  # `train` for `training.train`
    near = difflib.get_close_matches(name.rpartition(".")[2], ends, n=1, cutoff=0.5)
    near = [ends[near[0]]] if near else difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    shown = [entry for entry in known if not entry.startswith("params:")]
    return f"There is no {kind} {name!r}. {hint}Known: {', '.join(shown)}."


@contextmanager
def _interruptible() -> Iterator[None]:
    """End on Ctrl-C and SIGTERM with the run closed as KILLED, whatever a library makes of the signal."""
    received: list[signal.Signals] = []

    def remember(number: int, frame: Any) -> None:  # noqa: ANN401 - an interpreter frame
        received.append(signal.Signals(number))
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(INTERRUPTED[signal.SIGTERM])

    try:
        before = {number: signal.signal(number, remember) for number in INTERRUPTED}
    except ValueError:  # not in the main thread: signals are somebody else's matter
        before = {}
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, KeyboardInterrupt) and not received:
            received.append(signal.SIGINT)
        if isinstance(stop, SystemExit) and stop.code == INTERRUPTED[signal.SIGTERM] and not received:
            received.append(signal.SIGTERM)  # a library had taken the signal's handler
        if not received:  # an error that was shown already
            _close_tracking("FAILED", "The run ended with an error outside its nodes.")
            raise
        _interrupted(received[0])
    except Exception:
        if received:  # a library made an error of the signal
            _interrupted(received[0])
        _close_tracking("FAILED", "The run ended with an error outside its nodes.")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupted(number: signal.Signals) -> NoReturn:
    """Close the run, say so in one line, and leave with the status that shells expect."""
    word = "Ctrl-C" if number == signal.SIGINT else number.name
    _close_tracking("KILLED", f"Interrupted by {word}.")
    from unet_segmentation.hooks import command_line, goes_on

    how = "will resume" if goes_on() else "starts again"
    click.echo(f"\nInterrupted by {word}. What was finished is kept; {command_line()} {how}.", err=True)
    sys.exit(INTERRUPTED[number])


def _close_tracking(status: str, reason: str) -> None:
    from unet_segmentation.hooks import finish_run, unsent

    finish_run(status, reason)
    if message := unsent():
        click.echo(message, err=True)


@click.group(context_settings=CONTEXT_SETTINGS, name=__file__)
def cli() -> None:
    """Commands of the unet-segmentation project."""


run = _RunCommand(
    name="run",
    params=kedro_run.params,
    callback=kedro_run.callback,
    help=kedro_run.help,
    context_settings=kedro_run.context_settings,
)
cli.add_command(run)


def _project(environment: str | None) -> tuple[Path, Any]:
    """Return the project's root and its tracking settings."""
    from unet_segmentation.hooks import tracking_settings

    with open_session(environment) as session:
        return project_root(), tracking_settings(session.load_context().config_loader)


def parameters_of(environment: str | None) -> dict[str, Any]:
    """Return the parameters of a problem, as its files say."""
    with open_session(environment) as session:
        return dict(session.load_context().config_loader["parameters"])


def problem_store(environment: str | None) -> tuple[Path, str, str]:
    """Return the project's root, MLflow's store and the problem, for commands that read runs; check that it answers."""
    from kedro.framework.project import settings as project_settings

    from unet_segmentation.tracking.sender import prepare_environment
    from unet_segmentation.tracking.settings import check_store, store_uri

    root, settings = _project(environment)
    uri = store_uri(settings, root)
    check_store(uri, settings.timeout_seconds)
    prepare_environment(settings.timeout_seconds)
    known = environment or os.environ.get("KEDRO_ENV") or project_settings.CONFIG_LOADER_ARGS["default_run_env"]
    return root, uri, known


@cli.command("mlflow-ui", cls=_Command)
@env_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=5000, show_default=True, help="Port to listen at.")
def mlflow_ui(env: str | None, host: str, port: int) -> None:
    """Show all runs in the browser: MLflow's pages over the project's store."""
    from unet_segmentation.tracking.settings import check_store, is_server, store_uri

    root, settings = _project(env)
    uri = store_uri(settings, root)
    check_store(uri, settings.timeout_seconds)
    page = "/#/experiments?workflowType=machine_learning"
    if is_server(uri):
        click.echo(f"The runs are on a server already: {uri}{page}")
        return
    click.echo(f"MLflow starts at http://{host}:{port}{page} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (root / "mlartifacts").as_uri(), "--host", host, "--port", str(port)]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    try:
        done = subprocess.run([*command, "--workers", "1"], check=False, env={**os.environ, **environment})
    except KeyboardInterrupt:
        return
    sys.exit(done.returncode)


@cli.group("tracking")
def tracking_group() -> None:
    """What runs have told MLflow, or still have to."""


@tracking_group.command("send", cls=_Command)
@env_option
def tracking_send(env: str | None) -> None:
    """Send to MLflow what earlier runs could not, because its server was away."""
    from unet_segmentation.tracking.sender import prepare_environment, send_leftovers

    root, settings = _project(env)
    prepare_environment(settings.timeout_seconds)
    complete, waiting = send_leftovers(root)
    if waiting:
        raise ProjectError(f"{waiting} of {complete + waiting} runs could not be sent: their MLflow server is away.")
    click.echo(f"Sent what {complete} runs had left." if complete else "Nothing is left to send.")


@cli.group("problem")
def problem_group() -> None:
    """Problems: start one from a folder of images, check its data, list all."""


@problem_group.command("new", cls=_Command)
@click.argument("name")
@click.option("--images", required=True, help="Folder of the images; or the one that holds images and masks.")
@click.option("--masks", help="Folder of the masks, where it is not below that of the images.")
@click.option("--classes", help="Names of the classes, with commas, in the order of the mask values.")
@click.option("--ignore-values", help="Mask values whose pixels count nowhere, with commas.")
@click.option("--overwrite", is_flag=True, help="Overwrite a problem of this name.")
def problem_new(
    name: str, images: str, masks: str | None, classes: str | None, ignore_values: str | None, overwrite: bool
) -> None:
    """Work out a folder of images and masks, and write conf/NAME.

    On a terminal it asks what pixels cannot tell, unless --classes and --ignore-values say it.
    """
    from unet_segmentation.data.onboarding.create_problem import Request, create_problem

    root = project_root()
    request = Request(name, images, masks, _names(classes), _numbers(ignore_values), overwrite)
    ask = None
    if sys.stdin.isatty() and sys.stdout.isatty():
        from unet_segmentation.data.onboarding.prompts import Questions

        ask = Questions(request)
    for line in create_problem(request, root, root / "conf", ask):
        click.echo(line)


def _names(given: str | None) -> list[str] | None:
    """Read names with commas between them."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")]
    if "" in names:
        raise ProjectError(f"--classes {given!r}: a name is empty. Write the names with commas, as in: background,cell")
    return names


def _numbers(given: str | None) -> list[int] | None:
    """Read whole numbers with commas between them."""
    if given is None:
        return None
    try:
        return [int(part) for part in given.split(",") if part.strip()]
    except ValueError:
        raise ProjectError(f"--ignore-values {given!r}: write whole numbers with commas, as in: 0,255") from None


@problem_group.command("audit", cls=_RunCommand)
@click.argument("name")
def problem_check(name: str, params: dict[str, Any]) -> None:
    """Look at every file of a problem, without training; an audit page says what was found."""
    page = project_root() / "data" / "08_reporting" / name / "audit.html"
    before = page.stat().st_mtime_ns if page.is_file() else 0
    untracked = {**params, "mlflow": {"enabled": False}}
    with open_session(name, untracked) as session:
        catalog = session.load_context().catalog
        try:
            session.run(pipeline_names=["data_ingestion", "data_preparation"])
        finally:
            if page.is_file() and page.stat().st_mtime_ns != before:
                _summarise(catalog, page)


problem_check.params += [option for option in kedro_run.params if option.name == "params"]


def _summarise(catalog: Any, page: Path) -> None:  # noqa: ANN401 - a Kedro catalog
    from unet_segmentation.data.onboarding.check_summary import summarise

    names = ("inspected_samples", "split_samples", "findings", "audit_result", "label_map")
    inspected, samples, findings, audit, label_map = (catalog.load(name) for name in names)
    click.echo()
    for line in summarise(inspected, samples, findings, audit, label_map.names):
        click.echo(line)
    click.echo(f"Audit     {page}")


@problem_group.command("list", cls=_Command)
def problem_list() -> None:
    """Show all problems: classes, samples, license, and whether their data is here."""
    from unet_segmentation.data.onboarding.list_problems import list_problems

    root = project_root()
    header = ("NAME", "CLASSES", "SAMPLES", "DATA", "LICENSE", "TITLE")
    rows = [
        (problem.name, _count(problem.classes), _count(problem.samples), problem.data, problem.license, problem.title)
        for problem in list_problems(root, root / "conf")
    ]
    _show_table(header, rows)


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _show_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
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


# What they take from here is there by now.
from unet_segmentation import (  # noqa: E402
    commands_export,
    commands_predict,
    commands_release,
    commands_runs,
    commands_serve,
    commands_sweep,
)

for commands in (commands_runs, commands_release, commands_predict, commands_serve, commands_export, commands_sweep):
    commands.register(cli)
