"""The report: whole by itself, and right about the run."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from unet_segmentation.figures.charts import class_chart, confusion_chart
from unet_segmentation.figures.curves import training_curves
from unet_segmentation.figures.report import render_report
from unet_segmentation.parameters import SourceParameters
from unet_segmentation.scoring.counting import confusion_table
from unet_segmentation.scoring.metrics import image_scores, scores

CLASSES = ["background", "cell </script>", "<b>nucleus</b>", "never"]


class Links(HTMLParser):
    """Collects what a page would fetch, and its ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched, self.anchors, self.ids = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "srcset", "poster", "data", "action"):
                (self.anchors if (value or "").startswith("#") else self.fetched).append(value)
            if name == "id":
                self.ids.append(value)


def render(folder: Path, **changes) -> str:
    random = np.random.default_rng(0)
    matrices = random.integers(1, 40, (30, 4, 4)) + 200 * np.eye(4, dtype=np.int64)
    matrices[:, 3], matrices[:, :, 3] = 0, 0
    confusion = confusion_table((f"image {number}", matrix) for number, matrix in enumerate(matrices))
    soft = pd.DataFrame({"sample_id": [f"image {number}" for number in range(30)]})
    soft = soft.assign(intersection=90.0, truth=100.0, prediction=100.0)
    metrics = {name: None if np.isnan(value) else value for name, value in scores(confusion, soft, CLASSES).items()}
    picture = folder / "picture.png"
    Image.new("RGB", (300, 200), (200, 30, 30)).save(picture)
    history = pd.DataFrame({"epoch": [0, 1], "train/loss": [2.0, 1.0], "validation/dice/mean": [0.1, 0.2]})
    arguments = {
        "problem": "cells",
        "source": SourceParameters(folder="/data", images="{id}.png", licence="CC BY 4.0", citation="A & B <1999>"),
        "classes": CLASSES,
        "split": "test",
        "metrics": metrics,
        "image_scores": image_scores(confusion, soft, CLASSES),
        "pixels": matrices.sum(axis=(0, 2)),
        "charts": {
            "curves": training_curves(history),
            "confusion": confusion_chart(matrices.sum(axis=0), CLASSES),
            "classes": class_chart(metrics, CLASSES),
        },
        "pictures": {"gallery": picture, "augmentation": picture},
        "verdict": {"counts": {"error": 0, "warning": 2, "note": 1}, "messages": ["warning: rare <class>"]},
        "findings": pd.DataFrame([["warning", "rare_class", "a", "masks/<a>.png", "too rare"]] * 60).set_axis(
            ["severity", "kind", "sample_id", "file", "message"], axis=1
        ),
        "profile": {
            "samples": {"train": 10, "test": 30},
            "class_shares": {"background": 0.75},
            "height": {"minimum": 30, "median": 40.0, "maximum": 50},
            "data_sha256": "ab" * 32,
        },
        "network": {"architecture": "unet", "encoder": "resnet18", "parameters": 14_328_354, "mean": [1.0]},
        "plan": {"seed": 0, "loss": {"dice": 1.0}, "betas": [0.9, 0.999], "compiled": False},
    }
    return render_report(**{**arguments, **changes})


def test_report_fetches_nothing(tmp_path):
    page = render(tmp_path)
    links = Links(page)
    assert all(value.startswith("data:image/png;base64,") for value in links.fetched)
    assert {anchor.removeprefix("#") for anchor in links.anchors} <= set(links.ids)
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1  # inlined once
    without_plotly = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "http" not in without_plotly.replace("http-equiv", "")


def test_report_says_what_is_in_the_numbers(tmp_path):
    page = render(tmp_path)
    assert "Mean Dice 0." in page
    assert "30 images" in page
    assert "2 warnings" in page
    assert "never" in page.split("without a fair score: ")[1][:20]
    assert "75.00 %" in page
    assert "30 to 50 pixels, median 40" in page
    assert "14,328,354" in page
    assert "and 10 more" in page
    assert "CC BY 4.0" in page
    assert "kedro run --env cells" in page


def test_report_escapes_what_comes_from_outside(tmp_path):
    page = render(tmp_path)
    assert "<b>nucleus</b>" not in page
    assert "A &amp; B &lt;1999&gt;" in page
    figures = re.findall(r'<script type="application/json" id="figure-(\w+)">(.*?)</script>', page, flags=re.S)
    assert [name for name, _ in figures] == ["curves", "confusion", "classes"]
    assert json.loads(figures[1][1])["data"][0]["x"] == CLASSES


def test_report_of_a_run_without_findings_and_without_defined_scores(tmp_path):
    findings = pd.DataFrame({name: [] for name in ("severity", "kind", "sample_id", "file", "message")})
    page = render(tmp_path, findings=findings, verdict={}, profile={}, plan={}, network={})
    assert "None: every file was read" in page
    empty = dict.fromkeys(scores(confusion_table([]), pd.DataFrame(
        {"sample_id": [], "intersection": [], "truth": [], "prediction": []}), CLASSES))  # fmt: skip
    no_images = pd.DataFrame(columns=["sample_id", "iou/image_mean", "dice/image_mean", "accuracy/pixel"])
    page = render(tmp_path, metrics=empty, image_scores=no_images, pixels=np.zeros(4, np.int64), split="validation")
    assert "No score is defined" in page
    assert "validation split" in page


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_report_opens_in_a_browser_without_complaint(tmp_path, chromium, width):
    from playwright.sync_api import sync_playwright

    (tmp_path / "report.html").write_text(render(tmp_path), encoding="utf-8")
    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#chart-curves .plot-container")
        assert page.locator(".chart .plot-container").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing hangs over the edge
        page.locator("#gallery img.zoom").click()
        assert page.locator("dialog[open]").count() == 1
        browser.close()
    assert complaints == []


@pytest.mark.browser
def test_report_prints(tmp_path, chromium):
    (tmp_path / "report.html").write_text(render(tmp_path), encoding="utf-8")
    target = tmp_path / "report.pdf"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={target}"]
    subprocess.run([*command, (tmp_path / "report.html").as_uri()], check=True, capture_output=True, timeout=120)
    assert target.read_bytes().startswith(b"%PDF")
