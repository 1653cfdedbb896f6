"""`mlflow models serve` in an environment that has the libraries but not the project, and a client of it."""

from __future__ import annotations

import base64
import collections
import os
import signal
import subprocess
import sys
import sysconfig
import threading

import numpy as np
import pytest
import requests

from tests.conftest import PATIENCE
from tests.deployment.serving.served import (
    CLASSES,
    INFERENCE,
    PROBLEM,
    Server,
    bomb,
    free_port,
    log,
    new_store,
    picture,
    png,
    release,
    weights,
)
from unet_segmentation.inference.predictor import Predictor

pytestmark = pytest.mark.slow

IMAGE, SMALL = picture(), picture(20, 30, seed=1)
TEXT, SMALL_TEXT = (base64.b64encode(png(image)).decode() for image in (IMAGE, SMALL))


def fresh_environment(folder):
    """Make an environment with this one's libraries; its editable project is not among them."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    for name, module in {"mlflow": "mlflow.cli", "uvicorn": "uvicorn"}.items():
        program = folder / "bin" / name
        attribute = "cli" if name == "mlflow" else "main"
        program.write_text(f"#!{folder}/bin/python\nfrom {module} import {attribute}\n{attribute}()\n")
        program.chmod(0o755)
    result = [
        str(folder / "bin" / "python"),
        "-c",
        "import importlib.util as u; print(u.find_spec('unet_segmentation'))",
    ]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run(result, cwd=folder, env=clean, capture_output=True, text=True, check=True).stdout == "None\n"
    return clean | {"PATH": f"{folder}/bin:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow served")
    uri, file = new_store(folder), weights(folder / "0.safetensors")
    release(uri, *log(uri, file, folder / "packed"), expected=0)
    environment = fresh_environment(tmp_path_factory.mktemp("fresh"))
    port = free_port()
    program = environment["PATH"].partition(":")[0] + "/mlflow"
    command = [program, "models", "serve", "--env-manager", "local"]
    command += ["-m", f"models:/{PROBLEM}@champion", "-p", str(port)]
    server = Server(command, port, "ping", folder, **environment | {"PYTHONPATH": "", "MLFLOW_TRACKING_URI": uri})
    yield server, Predictor.from_file(file, INFERENCE)
    os.killpg(server.process.pid, signal.SIGKILL)


def invoke(server: Server, body, kind: str = "application/json") -> requests.Response:
    options = {"json": body} if isinstance(body, dict) else {"data": body, "headers": {"Content-Type": kind}}
    return requests.post(f"{server.url}/invocations", timeout=PATIENCE, **options)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["image"], "data": [[TEXT], [SMALL_TEXT]]}},
        {"dataframe_records": [{"image": TEXT}, {"image": SMALL_TEXT}]},
        {"inputs": [TEXT, SMALL_TEXT]},
        {"inputs": {"image": [TEXT, SMALL_TEXT]}},
        {"instances": [TEXT, SMALL_TEXT]},
        {"instances": [{"image": TEXT}, {"image": SMALL_TEXT}]},
    ],
)
def test_files_in_every_form_of_mlflow(served, body):
    server, predictor = served
    answer = invoke(server, {**body, "params": {"answer": "ids"}})
    assert answer.status_code == 200, answer.text
    for image, mask in zip((IMAGE, SMALL), answer.json()["predictions"], strict=True):
        np.testing.assert_array_equal(mask, predictor.predict(image))
    records = invoke(server, body).json()["predictions"]
    assert [(record["height"], record["width"]) for record in records] == [(40, 50), (20, 30)]
    assert records[0]["classes"] == CLASSES


def test_arrays_give_arrays(served):
    server, predictor = served
    answer = invoke(server, {"inputs": np.stack([IMAGE, IMAGE]).tolist()})
    np.testing.assert_array_equal(answer.json()["predictions"], np.stack([predictor.predict(IMAGE)] * 2))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": [base64.b64encode(bomb()).decode()]}, "larger than 32 million pixels"),
        ({"inputs": [TEXT[:200]]}, "damaged"),
        ({"inputs": ["/etc/passwd"]}, "no base64"),
        ({"inputs": []}, "no image"),
        ({"inputs": 3}, "an array"),
        ({"inputs": [TEXT], "params": {"answer": "poem"}}, "none of auto, ids, png, probabilities"),
        ({"inputs": np.zeros((1, 8, 8, 7), int).tolist()}, "7 channels"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence_and_the_server_lives_on(served, body, words):
    server, _ = served
    answer = invoke(server, body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error_code", "message"}
    assert words in answer.json()["message"]
    assert len(answer.json()["message"]) < 300, "the input is not sent back"
    assert requests.get(f"{server.url}/ping", timeout=10).ok


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[1]"])
def test_a_body_that_is_no_request_is_refused(served, body):
    assert invoke(served[0], body).status_code == 400
    assert invoke(served[0], {"inputs": [TEXT]}).status_code == 200


def test_sixteen_clients_at_once(served):
    server, _ = served
    result: collections.Counter = collections.Counter()
    truth = invoke(server, {"inputs": [TEXT]}).json()["predictions"][0]["mask"]

    def client() -> None:
        for _ in range(4):
            answer = invoke(server, {"inputs": [TEXT]})
            result[answer.status_code, answer.json()["predictions"][0]["mask"] == truth] += 1

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert result == {(200, True): 64}
