"""`kedro run`, with the project's errors and interrupts."""

from __future__ import annotations

from kedro.framework.cli.project import run as kedro_run

from unet_segmentation.cli.base import Command

run = Command(
    name="run",
    params=kedro_run.params,
    callback=kedro_run.callback,
    help=kedro_run.help,
    context_settings=kedro_run.context_settings,
)
