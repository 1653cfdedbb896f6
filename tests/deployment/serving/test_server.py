"""`kedro serve`, started for real over a real store: answers, refusals, a dying process, a swap under load, a page."""

from __future__ import annotations

import base64
import collections
import io
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from tests.conftest import PATIENCE
from tests.deployment.serving.served import (
    CLASSES,
    INFERENCE,
    PROBLEM,
    PROJECT,
    Server,
    bomb,
    free_port,
    kedro_serve,
    log,
    new_store,
    picture,
    png,
    release,
    weights,
)
from unet_segmentation.inference.predictor import Predictor

pytestmark = pytest.mark.slow
SHOWN = """() => {
    const canvas = document.getElementById("mask");
    const values = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return [canvas.width, canvas.height, values.filter((value, at) => at % 4 === 3 && value > 0).length];
}"""
DROP = """(data) => {
    const dropped = new DataTransfer();
    dropped.items.add(new File([data], "b.txt"));
    window.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
}"""
KEDRO = str(Path(sys.executable).with_name("kedro"))


class Served:
    """Two versions in a store, and a server of the first."""

    def __init__(self, folder: Path) -> None:
        self.uri = new_store(folder)
        self.files = [weights(folder / f"{seed}.safetensors", seed) for seed in (0, 1)]
        self.logged = [log(self.uri, file, folder / f"packed{number}") for number, file in enumerate(self.files)]
        release(self.uri, *self.logged[0], expected=0)
        self.server: Server = kedro_serve(self.uri, "--max-body-mib", "1", "--max-queue", "6")
        self.url = self.server.url

    def predict(self, body: bytes, **headers: str) -> requests.Response:
        return requests.post(f"{self.url}/predict", data=body, headers=headers, timeout=PATIENCE)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.server.stop(signal.SIGKILL)


def mask_in(answer: requests.Response) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["mask"]))))


def test_a_file_gives_the_mask_that_the_predictor_gives(served):
    image = picture()
    truth = Predictor.from_file(served.files[0], INFERENCE).predict(image)
    answer = served.predict(png(image))
    assert answer.status_code == 200
    assert answer.headers["X-Model-Version"] == answer.json()["version"] == "1"
    np.testing.assert_array_equal(mask_in(answer), truth)
    shares = {name: float((truth == number).mean()) for number, name in enumerate(CLASSES)}
    assert answer.json()["shares"] == pytest.approx(shares)
    assert (answer.json()["height"], answer.json()["width"]) == (40, 50)
    bare = served.predict(png(image), Accept="image/png")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(bare.content))), truth)
    described = requests.get(f"{served.url}/model", timeout=10).json()
    assert (described["classes"], described["run_id"]) == (CLASSES, served.logged[0][1])


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"", "image/png", 400, "body is empty"),
        (b"hello", "image/png", 422, "not an image of a known format"),
        (png(picture())[:200], "image/png", 422, "its end is missing"),
        (bomb(), "image/png", 422, "larger than 32 million pixels"),
        (b"\0" * 2**21, "image/png", 413, "larger than 1 MiB"),
        (b'{"image": 3}', "application/json", 415, "Send the image file itself"),
        (b"--x\r\n", "multipart/form-data; boundary=x", 415, "Send the image file itself"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence_and_the_server_lives_on(served, body, kind, status, words):
    answer = served.predict(body, **{"Content-Type": kind})
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert served.predict(png(picture())).status_code == 200


def test_more_requests_than_there_is_room_for_are_asked_to_come_again(served):
    process = requests.get(f"{served.url}/model", timeout=PATIENCE).json()["process"]
    answers: queue.Queue[requests.Response] = queue.Queue()
    threads = [threading.Thread(target=lambda: answers.put(served.predict(png(picture())))) for _ in range(16)]
    os.kill(process, signal.SIGSTOP)  # nothing is answered before all have come, however fast the machine
    try:
        for thread in threads:
            thread.start()
        refused = [answers.get(timeout=PATIENCE) for _ in range(10)]
    finally:
        os.kill(process, signal.SIGCONT)
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in refused] == [503] * 10
    assert refused[0].headers["Retry-After"] == "1"
    assert "6 requests" in refused[0].json()["error"]
    assert [answers.get(timeout=0).status_code for _ in range(6)] == [200] * 6


def test_a_process_that_is_killed_is_started_again_and_the_request_is_answered(served):
    process = requests.get(f"{served.url}/model", timeout=10).json()["process"]
    os.kill(process, signal.SIGKILL)
    assert served.predict(png(picture())).status_code == 200
    assert requests.get(f"{served.url}/model", timeout=10).json()["process"] != process
    assert any("started again" in line for line in served.server.lines)


def test_no_request_is_lost_while_the_champion_changes(served):
    statuses: collections.Counter = collections.Counter()
    over = threading.Event()
    truths = [Predictor.from_file(file, INFERENCE).predict(picture()) for file in served.files]
    assert (truths[0] != truths[1]).any()

    def client() -> None:
        with requests.Session() as session:
            while not over.is_set():
                answer = session.post(f"{served.url}/predict", data=png(picture()), timeout=PATIENCE)
                version = answer.headers.get("X-Model-Version")
                right = version is not None and (mask_in(answer) == truths[int(version) - 1]).all()
                statuses[answer.status_code, version, bool(right)] += 1

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    release(served.uri, *served.logged[1], expected=1)
    until = time.monotonic() + PATIENCE
    while (200, "2", True) not in statuses and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {(200, "1", True), (200, "2", True)}
    assert any(line.startswith("Now version 2") for line in served.server.lines)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_a_dropped_image_shows_its_mask_on_the_page(served, chromium, tmp_path, width, scheme):
    from playwright.sync_api import sync_playwright

    file = tmp_path / "a.png"
    file.write_bytes(png(picture()))
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(served.url)
        assert PROBLEM in page.inner_text("h1")
        page.set_input_files("#file", file)
        page.wait_for_selector("#result:not([hidden])")
        truth = mask_in(served.predict(file.read_bytes()))
        assert page.evaluate(SHOWN) == [50, 40, int((truth > 0).sum())]
        assert page.locator("#legend tr").count() == len(CLASSES)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_label("background").check()
        assert page.evaluate(SHOWN)[2] == truth.size
        assert complaints == []
        page.evaluate(DROP, "no image")
        page.wait_for_selector("#error:not([hidden])")
        assert "not an image" in page.inner_text("#error")
        browser.close()


def test_ctrl_c_ends_it_quietly(served):
    other = kedro_serve(served.uri, "--model", served.logged[0][1][:8])
    answer = requests.post(f"{other.url}/predict", data=png(picture()), timeout=PATIENCE)
    assert answer.headers["X-Model-Version"] == served.logged[0][1][:8]
    assert other.stop(signal.SIGINT) == 0
    time.sleep(0.2)
    assert [line.split()[0] for line in other.lines] == ["Loading", "Serving", "Stopped."]


def test_a_file_can_be_served_and_a_taken_port_is_said(served):
    other = kedro_serve(served.uri, "--model", str(served.files[1]), "--access-log")
    try:
        answer = requests.post(f"{other.url}/predict", data=png(picture()), timeout=PATIENCE)
        np.testing.assert_array_equal(
            mask_in(answer), Predictor.from_file(served.files[1], INFERENCE).predict(picture())
        )
        assert any("POST /predict 200" in line for line in other.lines)
        port = other.url.rpartition(":")[2]
        command = [KEDRO, "serve", "--env", PROBLEM, "--port", port]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == 1
        assert f"Take another port: --port {int(port) + 1}" in done.stderr
    finally:
        other.stop(signal.SIGKILL)


def test_without_a_champion_it_says_what_to_do(tmp_path):
    uri = new_store(tmp_path)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    command = [KEDRO, "serve", "--env", PROBLEM, "--port", str(free_port())]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "kedro release --env test" in done.stderr
    assert "Traceback" not in done.stderr
