"""One model at a time, always answering: its process is started again when it dies, a new champion replaces it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from unet_segmentation.deployment.serving.model_worker import Answer, Worker, WorkerDiedError
from unet_segmentation.errors import ProjectError

ATTEMPTS = 2  # a request whose process died is tried once more; it may be what killed it
BUSY, LATE = 503, 504  # HTTP's numbers


@dataclass(frozen=True)
class ServedModel:
    """A model to be served."""

    uri: str  # as MLflow has it, or the model's folder
    version: str  # for clients: the number of the registered version, or the beginning of a run's id
    title: str  # for people
    run_id: str  # MLflow's run that made it; empty for a file


class Service:
    """Answers requests with the model that is to be served at the moment. Belongs to one event loop."""

    def __init__(
        self,
        target: ServedModel,
        *,
        launch: Callable[[str], Worker],
        say: Callable[[str], None],
        timeout: float = 60.0,
        queue: int = 32,
    ) -> None:
        """Start the model's process.

        `launch` starts the process of a model by its address, and waits until it can answer; `say` prints a line for
        people. A request may take `timeout` seconds; `queue` of them may be in flight, each with its image in memory.

        Raises:
            TrackingError: the model cannot be loaded.
        """
        self._launch, self._say = launch, say
        self.timeout, self.queue = timeout, queue
        self.inside = 0
        self._serving = target, launch(target.uri)
        self._replacing = asyncio.Lock()
        self._refused: ServedModel | None = None
        self._ended = False

    @property
    def target(self) -> ServedModel:
        """Return the model that is served."""
        return self._serving[0]

    @property
    def worker(self) -> Worker:
        """Return the process that serves it."""
        return self._serving[1]

    async def answer(self, data: bytes) -> tuple[ServedModel, Answer]:
        """Segment an image file, with the model that is served when its turn comes; return that model, too."""
        deadline = time.time() + self.timeout
        died = 0
        try:
            async with asyncio.timeout(self.timeout):
                while died < ATTEMPTS and not self._ended:
                    target, worker = self._serving
                    try:
                        answer = await asyncio.to_thread(worker.ask, data, deadline)
                    except WorkerDiedError:
                        await self._restart(worker)
                        continue
                    try:
                        return target, await asyncio.wrap_future(answer)
                    except WorkerDiedError:
                        died += 1
                        await self._restart(worker)
                return self.target, Answer(BUSY, "The model's process ended at this image, twice. Is it very large?")
        except TimeoutError:
            return self.target, Answer(LATE, f"There was no answer within {self.timeout:g} s.")
        except ProjectError as error:
            return self.target, Answer(BUSY, str(error))

    async def follow(self, find: Callable[[], ServedModel | None], seconds: float) -> None:
        """Poll for the model to serve, and change to a new one without losing a request; without one, the old stays."""
        unheard = False
        while True:
            await asyncio.sleep(seconds)
            try:
                target = await asyncio.to_thread(find)
                unheard = False
            except Exception as error:  # the store is away: it may come back
                if not unheard:
                    self._say(f"{self.target.title} stays: the champion cannot be asked for ({_short(error)})")
                unheard = True
                continue
            if target is not None and target not in {self.target, self._refused}:
                await self._change(target)

    def close(self) -> None:
        """Answer what is in work, then end."""
        self._ended = True
        self.worker.close(wait=True)

    async def _change(self, new: ServedModel) -> None:
        """Start the new model while the old one serves, then switch; the old one still answers its open requests."""
        begun = time.monotonic()
        try:
            worker = await asyncio.to_thread(self._launch, new.uri)
        except ProjectError as error:
            self._refused = new
            self._say(f"{self.target.title} stays: {error}")
            return
        async with self._replacing:
            before, old = self._serving
            self._serving, self._refused = (new, worker), None
        old.close()
        self._say(f"Now {new.title}, instead of {before.title} ({time.monotonic() - begun:.1f} s)")

    async def _restart(self, dead: Worker) -> None:
        """Start the process again, once for all requests that have missed it."""
        async with self._replacing:
            if self.worker is dead and not self._ended:
                self._say(f"The process of {self.target.title} has ended; it is started again")
                self._serving = self.target, await asyncio.to_thread(self._launch, self.target.uri)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
