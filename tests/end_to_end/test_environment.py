"""Notebooks, Kedro-Viz and the packaged project, as a user meets them."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.conftest import BIN, PATIENCE
from tests.end_to_end.conftest import run_notebook

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["01_look_at_the_data.ipynb", "02_look_at_the_runs.ipynb"])
def test_a_notebook_runs(finished, name, monkeypatch):
    run_notebook(finished.project, name, monkeypatch)


def free_port() -> int:
    """Find a port below 49152: Kedro-Viz takes no other."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(20_000, 49_000)))
            return listener.getsockname()[1]


@pytest.fixture(scope="module")
def viz(finished, tmp_path_factory):
    """The address of a running Kedro-Viz."""
    port = free_port()
    printed = tmp_path_factory.mktemp("viz") / "printed.txt"
    process = subprocess.Popen(
        [BIN / "kedro", "viz", "run", "--env", "test", "--no-browser", "--port", str(port)],
        cwd=finished.path, env=finished.project.environment(), stdin=subprocess.DEVNULL,
        stdout=printed.open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{address}/api/main", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, printed.read_text()
                time.sleep(0.25)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Kedro-Viz serves from a child, which outlives a plain terminate
        process.wait(timeout=PATIENCE)


def ask(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_viz_shows_namespaces_layers_and_no_orphan(viz):
    graph = ask(f"{viz}/api/main")
    names = {node["name"]: node for node in graph["nodes"]}
    for namespace in ("data_ingestion", "data_preparation", "augmentation", "training", "evaluation"):
        assert names[namespace]["type"] == "modularPipeline"
    assert len(graph["layers"]) == 7
    linked = {edge[end] for edge in graph["edges"] for end in ("source", "target")}
    assert not [node["name"] for node in graph["nodes"] if node["id"] not in linked]


def test_viz_shows_a_preview_behind_every_stage(viz):
    graph = ask(f"{viz}/api/main")
    ids = {node["name"]: node["id"] for node in graph["nodes"]}
    for shown in (
        "downloads", "sample_index", "inspected_samples", "packed_dataset", "samples", "dataset_statistics",
        "augmentation_preview", "training_history", "training_curves", "predictions", "metrics", "image_scores",
        "confusion_matrix", "class_scores", "gallery", "class_gallery", "image_features", "error_patterns",
        "error_analysis_charts", "report",
    ):  # fmt: skip
        detail = next((ids[name] for name in ids if name.lower().replace(" ", "_") == shown), None)
        assert detail, (shown, sorted(ids))
        assert ask(f"{viz}/api/nodes/{detail}").get("preview"), shown


@pytest.mark.browser
def test_the_report_opens_in_a_browser_without_an_error(finished, chromium):
    from playwright.sync_api import sync_playwright

    errors = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"file://{finished.data('08_reporting/report.html')}")
        page.wait_for_selector(".plotly .main-svg, .js-plotly-plot .main-svg", timeout=PATIENCE * 1000)
        wide = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert not errors
    assert wide <= 400, "the page scrolls sideways on a phone"


def test_the_packaged_project_runs_with_its_configuration(finished, tmp_path):
    """`kedro package`, then the wheel alone (no checkout on the path) with `--conf-source`."""
    project = finished.project
    package = project.kedro("package")
    assert package.returncode == 0, package.stdout[-3000:]
    [wheel] = (finished.path / "dist").glob("*.whl")
    [conf] = (finished.path / "dist").glob("conf-*.tar.gz")
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel], check=True
    )
    work = tmp_path / "work"
    work.mkdir()
    subprocess.run(["tar", "xzf", conf, "-C", work], check=True)
    [conf_source] = [path for path in work.iterdir() if path.is_dir()]
    answer = subprocess.run(
        [sys.executable, "-m", "unet_segmentation", "--conf-source", conf_source, "--env", "test"],
        cwd=work, env=project.environment(PYTHONPATH=os.fspath(target)), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-3000:]
    assert (work / "data/08_reporting/test/metrics.json").exists()
