"""The server's addresses: the page, the prediction, what is served, whether it lives."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.requests import ClientDisconnect

from unet_segmentation.deployment.serving.model_service import BUSY, ServedModel, Service
from unet_segmentation.deployment.serving.model_worker import Answer
from unet_segmentation.visualization import class_colors

LOOK_SECONDS = 3.0  # between two looks whether there is another champion
BODY_SECONDS = 30.0  # for the whole body to come
DISCARDED = 4  # times the limit of a body: so much is still read of a larger one, for its client to hear the answer
HTML = Path(__file__).with_name("page.html")
PNG = "image/png"
FORMS = ("multipart/form-data", "application/json")  # bodies that are no image file, though they may hold one
POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'"
)


class RefusedError(Exception):
    """A request that gets no mask: HTTP's status and the reason, in a sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def make_app(service: Service, problem: str, find: Callable[[], ServedModel | None] | None, *, body: int) -> FastAPI:
    """Make the application; `find` returns the model that is to be served (None: it is always the same).

    An image file may have as many bytes as `body` says.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(service.follow(find, LOOK_SECONDS)) if find else None
        yield
        if following:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        await asyncio.to_thread(service.close)

    app = FastAPI(title=f"{problem}: segmentation", lifespan=living, docs_url=None, redoc_url=None)

    @app.exception_handler(RefusedError)
    async def refuse(request: Request, error: RefusedError) -> Response:
        headers = {"Retry-After": "1"} if error.status == BUSY else {}
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(HTML.read_text(encoding="utf-8"), headers={"Content-Security-Policy": POLICY})

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "version": service.target.version})

    @app.get("/model")
    async def model() -> Response:
        return JSONResponse(_describe(service, problem, body))

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        if service.inside >= service.queue:
            raise RefusedError(BUSY, f"{service.queue} requests are in progress or waiting. Try again in a moment.")
        service.inside += 1
        try:
            data = await _body(request, body)
            target, answer = await service.answer(data)
        finally:
            service.inside -= 1
        return _response(request, target.version, answer)

    return app


def _response(request: Request, version: str, answer: Answer) -> Response:
    headers = {"X-Model-Version": version}
    if answer.status != 200:
        status = 422 if answer.status == 400 else answer.status
        headers |= {"Retry-After": "1"} if status == BUSY else {}
        return JSONResponse({"error": answer.content}, status, headers)
    if PNG in request.headers.get("accept", ""):
        return Response(base64.b64decode(answer.content["mask"]), headers=headers, media_type=PNG)
    return JSONResponse({**answer.content, "version": version}, headers=headers)


def _describe(service: Service, problem: str, body: int) -> dict[str, Any]:
    target, model = service.target, service.worker.description
    return {
        "problem": problem,
        "title": target.title,
        "version": target.version,
        "run_id": target.run_id or None,
        "classes": model["classes"],
        "colors": [f"#{bytes(color.tolist()).hex()}" for color in class_colors(len(model["classes"]))],
        "channels": model["channels"],
        "computes": model["computes"],
        "max_pixels": model["max_pixels"],
        "maximum_bytes": body,
        "process": service.worker.process_id,
    }


async def _body(request: Request, limit: int) -> bytes:
    """Read the body, not more of it than is allowed; refuse one that is too large, empty, a form, or does not come."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= limit:
                    data += part
                elif size > DISCARDED * limit:
                    break
    except TimeoutError:
        raise RefusedError(408, f"The image did not come within {BODY_SECONDS:g} s.") from None
    except ClientDisconnect:
        raise RefusedError(400, "The client has left.") from None
    if size > limit:
        raise RefusedError(413, f"The image file is larger than {limit / 2**20:g} MiB, the most that is taken.")
    if kind in FORMS:
        raise RefusedError(
            415, f"The body is {kind}. Send the image file itself as the body: curl --data-binary @image.png"
        )
    if not data:
        raise RefusedError(400, "The body is empty. Send an image file as the body: curl --data-binary @image.png")
    return bytes(data)
