"""What the service does when processes die or cannot be started, or the champion changes; its processes are made up."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future

import pytest

from tests.deployment.serving.served import new_store
from unet_segmentation.deployment.serving.model_service import ServedModel, Service
from unet_segmentation.deployment.serving.model_worker import Answer, Worker, WorkerDiedError
from unet_segmentation.errors import TrackingError

FIRST, SECOND = (ServedModel(f"models:/m-{number}", number, f"version {number}", "run") for number in "12")


class Fake:
    """Answers with its address, or dies at its first requests."""

    def __init__(self, uri: str, deaths: int = 0, seconds: float = 0.0) -> None:
        self.uri, self.deaths, self.seconds = uri, deaths, seconds
        self.closed = False
        self.asked: list[Future[Answer]] = []

    def ask(self, data: bytes, deadline: float) -> Future[Answer]:
        if self.closed:
            raise WorkerDiedError
        answer: Future[Answer] = Future()
        if self.deaths:
            self.deaths, self.closed = self.deaths - 1, True
            answer.set_exception(WorkerDiedError())
        elif not self.seconds:
            answer.set_result(Answer(200, self.uri))
        self.asked.append(answer)
        return answer

    def close(self, *, wait: bool = False) -> None:
        self.closed = True


class House:
    """Starts made-up processes, in the order they are given, then plain ones."""

    def __init__(self, *first) -> None:
        self.first, self.started, self.said = list(first), [], []

    def launch(self, uri: str):
        made = self.first.pop(0) if self.first else Fake(uri)
        if isinstance(made, Exception):
            raise made
        self.started.append(made)
        return made

    def service(self, **options) -> Service:
        return Service(FIRST, launch=self.launch, say=self.said.append, **options)


def test_a_request_whose_process_died_is_tried_once_more_and_all_wait_for_one_restart():
    house = House(Fake(FIRST.uri, deaths=1))

    async def ask():
        service = house.service()
        return await asyncio.gather(*(service.answer(b"") for _ in range(5)))

    answers = asyncio.run(ask())
    assert [answer.status for _, answer in answers] == [200] * 5
    assert len(house.started) == 2
    assert house.said == ["The process of version 1 has ended; it is started again"]


def test_a_request_at_which_two_processes_die_is_given_up():
    house = House(Fake(FIRST.uri, deaths=1), Fake(FIRST.uri, deaths=1))

    async def ask():
        service = house.service()
        return await service.answer(b""), await service.answer(b"")

    (_, first), (_, second) = asyncio.run(ask())
    assert (first.status, second.status) == (503, 200)
    assert "twice" in first.content


def test_a_process_that_cannot_be_started_again_is_said_and_tried_again_at_the_next_request():
    house = House(Fake(FIRST.uri, deaths=1), TrackingError("the store is away"))

    async def ask():
        service = house.service()
        return await service.answer(b""), await service.answer(b"")

    (_, first), (_, second) = asyncio.run(ask())
    assert first == Answer(503, "the store is away")
    assert second.status == 200


def test_no_answer_in_time_is_said():
    async def ask():
        begun = time.monotonic()
        _, answer = await House(Fake(FIRST.uri, seconds=9)).service(timeout=0.2).answer(b"")
        return answer, time.monotonic() - begun

    answer, took = asyncio.run(ask())
    assert answer == Answer(504, "There was no answer within 0.2 s.")
    assert took < 2


@pytest.mark.parametrize(
    ("expected", "starts", "served", "words"),
    [
        (SECOND, [], "2", "Now version 2, instead of version 1"),
        (None, [], "1", ""),
        (SECOND, [TrackingError("it is damaged")], "1", "version 1 stays: it is damaged"),
        (OSError("no route"), [], "1", "version 1 stays: the champion cannot be asked for (no route)"),
    ],
)
def test_the_champion_is_followed(expected, starts, served, words):
    house = House(Fake(FIRST.uri, seconds=9), *starts)
    views = []

    def find():
        views.append(1)
        if isinstance(expected, Exception):
            raise expected
        return expected

    async def follow():
        service = house.service()
        working = asyncio.create_task(service.answer(b""))
        following = asyncio.create_task(service.follow(find, 0.01))
        while len(views) < 4:
            await asyncio.sleep(0.01)
        following.cancel()
        house.started[0].asked[0].set_result(Answer(200, "the old one"))
        return service.target, await working

    target, (by, answer) = asyncio.run(follow())
    assert target.version == served
    assert (by, answer.content) == (FIRST, "the old one"), "what was begun is finished by whom it was given to"
    assert [line[: len(words)] for line in house.said] == ([words] if words else []), "said once"
    assert house.started[0].closed == (served == "2")


@pytest.mark.slow
def test_a_model_that_is_not_there_is_said(tmp_path):
    with pytest.raises(TrackingError, match=r"models:/m-0.* cannot be served: .*m-0"):
        Worker("models:/m-00000000000000000000000000000000", new_store(tmp_path))
