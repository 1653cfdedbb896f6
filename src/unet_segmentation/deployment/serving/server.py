"""The server: a model's process, the application, and the way in and out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_segmentation.deployment.serving.model_resolver import CHAMPION, champion, find_target
from unet_segmentation.deployment.serving.model_service import ServedModel, Service
from unet_segmentation.errors import ResourceError

if TYPE_CHECKING:
    from fastapi import Request, Response


@dataclass(frozen=True)
class Options:
    """How a model is served."""

    host: str = "127.0.0.1"
    port: int = 8000
    timeout: float = 60.0  # seconds that a request may take
    queue: int = 32  # how many requests may be in progress or waiting
    body: int = 32 * 2**20  # bytes that an image file may have
    access_log: bool = False


def run_server(model: str, *, uri: str, problem: str, inference: Mapping[str, Any], options: Options) -> None:
    """Serve a model (the reference of `model_resolver.find_target`) until Ctrl-C or SIGTERM.

    Raises:
        ResourceError: the address is taken, or not of this machine.
        ReleaseError, TrackingError: there is no such model, or it cannot be loaded.
    """
    with _bind(options.host, options.port) as listening, tempfile.TemporaryDirectory() as folder:
        target = find_target(model, uri, problem, Path(folder), inference)
        find = functools.partial(champion, uri, problem) if model == CHAMPION else None
        click.echo(f"Loading {target.title}")
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(listening, target, find, uri, problem, options))
    click.echo("Stopped.")


async def _serve(
    listening: socket.socket,
    target: ServedModel,
    find: Callable[[], ServedModel | None] | None,
    uri: str,
    problem: str,
    options: Options,
) -> None:
    import uvicorn

    from unet_segmentation.deployment.serving.app import make_app
    from unet_segmentation.deployment.serving.model_worker import Worker

    launch = functools.partial(Worker, store=uri)
    service = Service(target, launch=launch, say=click.echo, timeout=options.timeout, queue=options.queue)
    app = make_app(service, problem, find, body=options.body)
    if options.access_log:
        app.middleware("http")(_tell)
    config = uvicorn.Config(app, log_config=None, log_level="critical", access_log=False)
    click.echo(f"Serving {target.title} at http://{options.host}:{listening.getsockname()[1]} (Ctrl-C ends it)")
    try:
        await uvicorn.Server(config).serve([listening])
    finally:
        service.close()


async def _tell(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Log every request with its status and duration."""
    begun = time.perf_counter()
    response = await answer(request)
    took = (time.perf_counter() - begun) * 1000
    client = request.client.host if request.client else "-"
    line = f"{client} {request.method} {request.url.path} {response.status_code} {took:.0f} ms"
    click.echo(f"{time.strftime('%H:%M:%S')} {line}")
    return response


def _bind(host: str, port: int) -> socket.socket:
    """Bind the address before the model is loaded: an address in use is reported at once."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ResourceError(
                f"{host}:{port} is taken by another program. Take another port: --port {port + 1}"
            ) from None
        raise ResourceError(f"The server cannot listen at {host}:{port}: {error.strerror or error}") from None
    return listening
