"""The project's commands. Kedro imports this module at every command, so nothing heavy may be imported here."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS

from unet_segmentation.errors import project_error


class _RunCommand(click.Command):
    """``kedro run`` whose project errors end as one message instead of a traceback."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        try:
            return super().invoke(context)
        except Exception as error:
            known = project_error(error)
            if known is None or os.environ.get("UNET_TRACEBACK"):
                raise
            click.echo(f"\n{click.style('Error:', fg='red', bold=True)} {known}", err=True)
            sys.exit(1)


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
