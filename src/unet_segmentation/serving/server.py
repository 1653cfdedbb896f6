"""The server: a model's process, the application, and the way in and out."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from unet_segmentation.errors import ResourceError
from unet_segmentation.serving.targets import CHAMPION, champion, find_target


class Address(NamedTuple):
    """Where the server listens."""

    host: str
    port: int


def run_server(
    address: Address,
    model: str,
    *,
    uri: str,
    problem: str,
    inference: Mapping[str, Any],
    options: Mapping[str, Any],
    body: int,
    access_log: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        address: to listen at.
        model: see `targets.find_target`.
        uri: MLflow's store.
        problem: the segmentation problem.
        inference: the predictor's parameters, for a model that is a file.
        options: `timeout` and `queue` of `service.Service`.
        body: bytes that an image file may have.
        access_log: a line for every request.

    Raises:
        ResourceError: the address is taken, or not of this machine.
        ReleaseError, TrackingError: there is no such model, or it cannot be loaded.
    """
    with _taken(address) as listening, tempfile.TemporaryDirectory() as folder:
        target = find_target(model, uri, problem, Path(folder), inference)
        click.echo(f"Loading {target.title}")
        try:
            asyncio.run(_serve(listening, address, target, uri, problem, model == CHAMPION, options, body, access_log))
        except KeyboardInterrupt:
            pass
    click.echo("Stopped.")


async def _serve(
    listening: socket.socket,
    address: Address,
    target: Any,  # noqa: ANN401
    uri: str,
    problem: str,
    follows: bool,
    options: Mapping[str, Any],
    body: int,
    access_log: bool,
) -> None:
    import uvicorn

    from unet_segmentation.serving.app import Limits, make_app
    from unet_segmentation.serving.service import Service
    from unet_segmentation.serving.worker import Worker

    launch = functools.partial(Worker, store=uri)
    service = Service(target, launch=launch, say=click.echo, **options)
    find = functools.partial(champion, uri, problem) if follows else None
    app = make_app(service, problem, find, Limits(body=body))
    config = uvicorn.Config(app, log_config=None, log_level="info" if access_log else "critical", access_log=access_log)
    click.echo(f"Serving {target.title} at http://{address.host}:{listening.getsockname()[1]} (Ctrl-C ends it)")
    try:
        await uvicorn.Server(config).serve([listening])
    finally:
        service.close()


def _taken(address: Address) -> socket.socket:
    """Take the address before the model is loaded: whoever cannot have it should not wait for that."""
    where = f"{address.host}:{address.port}"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = address.port + 1
            raise ResourceError(f"{where} is taken by another program. Take another port: --port {other}") from None
        raise ResourceError(f"The server cannot listen at {where}: {error.strerror or error}") from None
    return listening
