"""The project's commands. Kedro imports this package at every command, so nothing heavy may be imported here."""

from __future__ import annotations

import click

from unet_segmentation.cli import export, mlflow, predict, problem, release, runs, search, serve, sweep
from unet_segmentation.cli.run import run

__all__ = ["cli", "run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, name=__file__)
def cli() -> None:
    """Commands of the unet-segmentation project."""


COMMANDS: tuple[click.Command, ...] = (
    run,
    problem.problem_group,
    sweep.sweep,
    search.search,
    runs.compare,
    runs.leaderboard,
    runs.reproduce,
    release.release,
    release.rollback,
    predict.predict,
    serve.serve,
    export.export,
    mlflow.mlflow_group,
)
for command in COMMANDS:
    cli.add_command(command)
