"""`kedro serve`: a model over HTTP."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command
from unet_segmentation.cli.session import open_store, read_parameters


@click.command("serve", cls=Command)
@env_option
@click.option(
    "--model", default="champion", show_default=True, help="champion; a run (id or name); a .safetensors file."
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0: all of this machine."
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen at.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(min=1), help="Seconds for a request.")
@click.option(
    "--max-queue",
    "queue",
    default=32,
    show_default=True,
    type=click.IntRange(1),
    help="Requests in progress or waiting.",
)
@click.option(
    "--max-body-mib", default=32, show_default=True, type=click.IntRange(1), help="MiB that an image file may have."
)
@click.option("--access-log", is_flag=True, help="A line for every request.")
def serve(env: str | None, model: str, max_body_mib: int, **settings: Any) -> None:  # noqa: ANN401 - see Options
    """Serve a model: a page where one drops an image and sees the mask, and POST /predict for programs.

    The champion is followed: after a release or a rollback the new one answers, and no request is lost.
    """
    _, uri, problem = open_store(env)
    from unet_segmentation.deployment.serving.server import Options, run_server

    inference = read_parameters(env).get("predictor", {})
    options = Options(**settings, body=max_body_mib * 2**20)
    run_server(model, uri=uri, problem=problem, inference=inference, options=options)
