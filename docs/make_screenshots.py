"""Make the README's pictures from the newest run: predictions, the graph in Kedro-Viz, the run in MLflow.

Needs a finished `kedro run` and Chromium; `make screenshots` calls it. Nothing is drawn by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the benchmark that breaks data
BIN = Path(sys.executable).parent
PICTURES = ROOT / "docs" / "pictures"
HINTS = ".feature-hints, .feature-hints__highlight, [class*='update-reminder'], [class*='banner']"


def free_port() -> int:
    """Find a port below 49152: Kedro-Viz takes no other."""
    while True:
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(20_000, 49_000)))
            return listener.getsockname()[1]


@contextmanager
def server(command: list[str], path: str) -> Iterator[str]:
    """Run a local web server on a free port (`{port}` in the command) and give its address."""
    port = free_port()
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        [part.format(port=port) for part in command], cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(address + path, timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Kedro-Viz serves from a child, which outlives a plain terminate
        process.wait(timeout=20)


def kedro_viz(page: Page, problem: str) -> None:
    """The whole graph, left to right."""
    command = [str(BIN / "kedro"), "viz", "run", "--env", problem, "--no-browser", "--port", "{port}"]
    with server(command, "/api/main") as address:
        page.add_init_script("localStorage.setItem('KedroViz', JSON.stringify({theme: 'light'}))")
        page.goto(address)
        page.wait_for_selector(".pipeline-node", timeout=60_000)
        page.add_style_tag(content=HINTS + " {display: none !important}")
        page.locator(".pipeline-menu-button--menu").first.click()  # fold the list of names: room for the graph
        page.wait_for_timeout(1500)
        page.get_by_label("Reset zoom").first.click()
        page.mouse.move(700, 5)
        page.wait_for_timeout(2500)
        page.screenshot(path=PICTURES / "kedro_viz.png")


def audit(page: Page) -> None:
    """The audit of a data set drawn by the generator, in which a few things were made wrong."""
    from benchmarks import corruption

    good = next(good for good in corruption.GOOD if good.name == "official")
    with tempfile.TemporaryDirectory() as folder:
        copy = corruption.Copy(good, Path(folder) / "cells", corruption.good_pairs(), seed=1)
        for number, name in ((5, "undeclared_value"), (9, "identical_in_two_splits"), (14, "masks_swapped")):
            copy.number = number
            copy.image, copy.mask = good.paths(copy.folder, number)
            corruption.CORRUPTIONS[name](copy)
        _, _, text, _ = corruption.audit_copy(copy, Path(folder) / "work")
        file = Path(folder) / "audit.html"
        file.write_text(text.replace(folder, ""), encoding="utf-8")
        page.set_viewport_size({"width": 1100, "height": 1250})
        page.goto(file.as_uri())
        page.get_by_role("heading", name="Findings").scroll_into_view_if_needed()
        page.evaluate("window.scrollBy(0, window.innerHeight - 120)")
        page.screenshot(path=PICTURES / "audit.png")


def mlflow(page: Page, problem: str) -> None:
    """The newest run's curves."""
    import mlflow

    store = f"sqlite:///{ROOT / 'mlflow.db'}"
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name(problem)
    [run] = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=1)
    command = [str(BIN / "mlflow"), "server", "--backend-store-uri", store, "--port", "{port}", "--workers", "1"]
    with server(command, "/health") as address:
        place = f"experiments/{experiment.experiment_id}/runs/{run.info.run_id}/model-metrics"
        page.goto(f"{address}/#/{place}?workflowType=machine_learning")
        page.wait_for_selector(".js-plotly-plot .main-svg", timeout=90_000)
        assistant = page.locator(
            "button[aria-label='Close'], [data-component-id*='assistant'][data-component-id*='close']"
        )
        if assistant.count():
            assistant.first.click()
        page.get_by_placeholder("Search metric charts").fill("validation/")
        page.wait_for_timeout(5000)
        page.screenshot(path=PICTURES / "mlflow.png")


def side_by_side(gallery: Image.Image) -> Image.Image:
    """The gallery's three parts (worst, median, best), which stand above each other, beside each other."""
    legend = round(gallery.height * 0.012)
    height = (gallery.height - legend) // 3
    wide = Image.new("RGB", (3 * gallery.width, legend + height), "white")
    wide.paste(gallery.crop((0, 0, gallery.width, legend)), (0, 0))
    for part in range(3):
        top = legend + part * height
        wide.paste(gallery.crop((0, top, gallery.width, top + height)), (part * gallery.width, legend))
    wide.thumbnail((1600, 1200))
    return wide


def main() -> None:
    """Make all pictures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--problem", default="cells")
    problem = arguments.parse_args().problem
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    reporting = ROOT / "data" / "08_reporting" / problem
    if browser_path is None or not (reporting / "metrics.json").exists():
        sys.exit(f"Chromium and a finished `kedro run --env {problem}` are needed.")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Image.open(reporting / "gallery.png") as gallery:
        side_by_side(gallery.convert("RGB")).save(PICTURES / "gallery.png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        kedro_viz(browser.new_page(viewport={"width": 1100, "height": 1300}), problem)
        mlflow(browser.new_page(viewport={"width": 1600, "height": 900}), problem)
        audit(browser.new_page())
        browser.close()
    for path in PICTURES.glob("*.png"):
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(256).save(path, optimize=True)
    print(json.dumps({path.name: path.stat().st_size for path in sorted(PICTURES.glob("*.png"))}))


if __name__ == "__main__":
    main()
