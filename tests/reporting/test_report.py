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

from tests.conftest import PATIENCE
from tests.data.fabricated_statistics import statistics_of
from tests.experiments.sweep.test_leaderboard import ranked, summary_of
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.metrics.confusion_matrix import confusion_table
from unet_segmentation.metrics.error_analysis import find_patterns, image_features
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.scores import compute_image_scores, compute_scores
from unet_segmentation.parameters import PredictorParameters, SourceParameters
from unet_segmentation.reporting import report
from unet_segmentation.reporting.prediction_gallery import Shown, encode_pictures
from unet_segmentation.reporting.score_charts import class_chart, confusion_chart
from unet_segmentation.reporting.training_curves import training_curves

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


def shown(section: str, number: int, side: int = 24) -> Shown:
    random = np.random.default_rng(number)
    image = random.integers(0, 255, (side, side, 3), np.uint8)
    return Shown(section, f"image <{number}>", 0.5, image, *random.integers(0, 3, (2, side, side)).astype(np.uint8))


def bounds(metrics: dict[str, float | None], **changes) -> pd.DataFrame:
    rows = [(name, value, value - 0.05, value + 0.05) for name, value in metrics.items() if value is not None]
    table = pd.DataFrame(rows, columns=["score", "value", "low", "high"])
    fixed = {"method": "bca", "confidence": 0.95, "unit": "images", "units": 30, "trusted": True, "remark": ""}
    return table.assign(**fixed | changes)


def render(folder: Path, **changes) -> str:
    random = np.random.default_rng(0)
    names = [f"image {number}" for number in range(30)]
    matrices = random.integers(1, 40, (30, 4, 4)) + 200 * np.eye(4, dtype=np.int64)
    matrices[:, 3], matrices[:, :, 3] = 0, 0
    confusion = confusion_table(zip(names, matrices, strict=True))
    soft = pd.DataFrame({"sample_id": names}).assign(intersection=90.0, truth=100.0, prediction=100.0)
    tables = EvaluationTables({"confusion": confusion, "soft": soft})
    metrics = {name: None if np.isnan(value) else value for name, value in compute_scores(tables, CLASSES).items()}
    by_image = compute_image_scores(tables, CLASSES)
    picture = folder / "picture.png"
    Image.new("RGB", (300, 200), (200, 30, 30)).save(picture)
    history = pd.DataFrame({"epoch": [0, 1], "train/loss": [2.0, 1.0], "validation/dice/mean": [0.1, 0.2]})
    samples = pd.DataFrame({"sample_id": names, "split": "test", "group": "", "height": 30, "width": 40})
    samples = samples.assign(
        channel_mean=[[value] for value in random.random(30)],
        class_pixels=[[900, 200, 90, 0]] * 30,
        ignored_pixels=10,
    )
    facts = image_features(by_image, samples, samples)
    arguments = {
        "problem": "cells",
        "source": SourceParameters(folder="/data", images="{id}.png", license="CC BY 4.0", citation="A & B <1999>"),
        "classes": CLASSES,
        "split": "test",
        "metrics": metrics,
        "image_scores": by_image,
        "pixels": matrices.sum(axis=(0, 2)),
        "charts": {
            "curves": training_curves(history),
            "confusion": confusion_chart(matrices.sum(axis=0), CLASSES),
            "classes": class_chart(metrics, CLASSES),
        },
        "gallery": [shown(section, number) for number, section in enumerate(["Worst", "Worst", "Median", "Best"])],
        "class_gallery": [(name, shown(part, 9)) for name in CLASSES[1:3] for part in ("worst", "median", "best")],
        "gallery_score": "IoU",
        "augmentation": picture,
        "facts": facts,
        "patterns": find_patterns(facts),
        "samples": samples,
        "verdict": AuditResult(
            status="passed with warnings",
            samples=40,
            set_aside=(),
            allowed=(),
            counts={"error": 0, "warning": 2, "note": 1},
            kinds={},
            messages=(),
            values={},
            proposals=(),
        ),
        "findings": pd.DataFrame([["warning", "rare_class", "a", "masks/<a>.png", "too rare"]] * 60).set_axis(
            ["severity", "kind", "sample_id", "file", "message"], axis=1
        ),
        "statistics": statistics_of(
            {
                "samples": {"train": 10, "test": 30},
                "class_shares": {"background": 0.9975, "<b>nucleus</b>": 0.0025, "never": 0.0},
                "height": {"minimum": 30, "median": 40.0, "maximum": 50},
                "width": {"minimum": 40, "median": 40.0, "maximum": 40},
                "data_sha256": "ab" * 32,
            }
        ),
        "network": {"architecture": "unet", "encoder": "resnet18", "parameters": 14_328_354, "mean": [1.0]},
        "plan": {"seed": 0, "loss": {"dice": 1.0}, "compiled": False, "measured": {"step": 0.123456}},
        "inference": PredictorParameters(),
        "model": {"epoch": 7, "file": "data/06_models/cells/best.safetensors", "sha256": "cd" * 32},
        "code": {"commit": "0123abcd" * 5, "changed": "", "lock_sha256": "ef" * 32, "versions": "torch 2.9"},
    }
    given = changes.pop("intervals", None)
    if callable(given):
        changes["intervals"] = given(metrics)
    arguments |= changes

    def some(*names):
        return {name: arguments[name] for name in names if name in arguments}

    charts = dict(arguments.pop("charts"))
    sections = [
        report.render_training_section(
            **some("problem", "classes", "inference", "augmentation", "statistics", "network", "plan", "model", "code"),
            curves=charts.pop("curves"),
        ),
        report.render_evaluation_section(
            **some("problem", "source", "classes", "split", "metrics", "image_scores", "pixels", "network"),
            **some("statistics", "intervals"), charts=charts,
        ),
        report.render_gallery_section(
            **some("classes", "metrics", "image_scores", "gallery", "class_gallery", "gallery_score", "facts"),
            **some("patterns"),
        ),
        report.render_data_section(
            **some("source", "classes", "samples", "verdict", "findings", "statistics", "variants", "data")
        ),
    ]  # fmt: skip
    return report.render_report(arguments["problem"], arguments["split"], sections)


def test_report_fetches_nothing(tmp_path):
    page = render(tmp_path)
    links = Links(page)
    assert all(value.startswith("data:image/webp;base64,") for value in links.fetched)
    assert {anchor.removeprefix("#") for anchor in links.anchors} <= set(links.ids)
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1  # inlined once
    without_plotly = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "http" not in without_plotly.replace("http-equiv", "")


def test_report_says_what_is_in_the_numbers(tmp_path):
    page = render(tmp_path)
    assert "Mean Dice 0." in page
    assert "30 images" in page
    assert "Audit of the data: passed with warnings" in page
    assert "2 warnings" in page
    assert "never" in page.split("without a fair score: ")[1][:20]
    assert "75.00 %" in page  # 900 of 1200 pixels
    assert "30 to 50 pixels, median 40" in page
    assert "14,328,354" in page
    assert "and 10 more" in page
    assert "CC BY 4.0" in page
    assert "kedro run --env cells" in page
    assert "kedro reproduce RUN_ID" in page
    for known in (
        "ab" * 32,
        "cd" * 32,
        "ef" * 32,
        "0123abcd" * 5,
        "data/06_models/cells/best.safetensors",
        "torch 2.9",
    ):
        assert known in page
    assert "Rare in training: &lt;b&gt;nucleus&lt;/b&gt; (0.25 %)" in page
    assert "Never seen in training: never." in page


def test_report_says_how_to_get_uncommitted_changes(tmp_path):
    assert "git apply" not in render(tmp_path)
    assert "git apply uncommitted.diff" in render(tmp_path, code={"commit": "0123abcd", "changed": ", and more"})


def test_report_holds_nothing_that_two_equal_runs_do_not_share(tmp_path):
    page = render(tmp_path)
    assert page == render(tmp_path)
    assert "0.1235" not in page  # how long a step took


def test_report_shows_galleries_with_their_captions(tmp_path):
    page = render(tmp_path)
    assert page.count('<figure class="example">') == 10
    assert page.count("image &lt;9&gt;, median, IoU 0.500: errors") == 2
    headings = re.findall(r"<h3>(Worst|Median|Best)</h3>", page)
    assert headings == ["Worst", "Median", "Best"]


def test_report_stays_small_however_many_classes_and_images(tmp_path, monkeypatch):
    from plotly.offline import get_plotlyjs

    rest = 600_000  # tables, charts, the picture of the augmentation
    assert 4 / 3 * report.PICTURE_BYTES + len(get_plotlyjs()) + rest < 12_000_000
    monkeypatch.setattr(report, "PICTURE_BYTES", 150_000)
    samples = [(name, shown(part, 9, 100)) for name in map(str, range(20)) for part in ("worst", "median", "best")]
    page = render(tmp_path, gallery=[], class_gallery=samples)
    one = sum(map(len, encode_pictures(samples[0][1])))
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', page.split('id="patterns"')[0])
    assert 150_000 <= sum(map(len, pictures)) * 3 / 4 < 150_000 + 1.1 * one
    assert f"{60 - len(pictures) // 4} samples are named without pictures" in page
    assert page.count("<figcaption>") == 60


def test_report_says_what_the_error_goes_with(tmp_path):
    page = render(tmp_path)
    assert "All 30 images have the same size." in page
    assert "The samples have no groups." in page
    assert page.count("Spearman&#39;s rho") == 1
    few = pd.DataFrame(columns=["sample_id", "error", "size", "brightness", "foreground", "group"])
    assert "Only 0 images: too few to tell." in render(tmp_path, facts=few, patterns=find_patterns(few))


def test_report_shows_intervals_and_which_are_not_to_be_trusted(tmp_path):
    page = render(tmp_path, intervals=bounds)
    dice = float(re.search(r"Mean Dice (0\.\d+) \[", page)[1])
    assert f"[{dice - 0.05:.3f}, {dice + 0.05:.3f}] on 30 images" in page
    assert "intervals of 95 %, by the BCa bootstrap over images." in page
    assert 'id="chart-intervals"' in page
    assert "Marked with ?" not in page
    doubtful = render(tmp_path, intervals=lambda metrics: bounds(metrics, trusted=False, remark="only 9 images"))
    assert re.search(r"Marked with \? \(\d+ scores\): only 9 images\.", doubtful)
    remarks = [f"only {number} images" for number in range(60)]
    several = render(
        tmp_path,
        intervals=lambda metrics: bounds(metrics, trusted=False).assign(remark=lambda table: remarks[: len(table)]),
    )
    assert several.count("Marked with ? (") == 3
    assert re.search(r"So are \d+ further scores", several)
    assert 'id="chart-intervals"' not in render(tmp_path)


def test_report_shows_the_charts_that_there_are(tmp_path):
    assert 'id="calibration"' not in render(tmp_path)
    import plotly.graph_objects as go

    some = go.Figure(go.Scatter(x=[0, 1], y=[0, 1]))
    history = pd.DataFrame({"epoch": [0, 1], "train/loss": [2.0, 1.0]})
    charts = {
        "curves": training_curves(history),
        "confusion": confusion_chart(np.eye(4, dtype=np.int64), CLASSES),
        "classes": class_chart({}, CLASSES),
        "reliability": some,
        "precision_recall": go.Figure(),  # as the evaluation of more than two classes leaves it
    }
    page = render(tmp_path, charts=charts)
    assert 'id="chart-reliability"' in page
    assert 'id="chart-precision_recall"' not in page


def test_report_escapes_what_comes_from_outside(tmp_path):
    page = render(tmp_path)
    assert "<b>nucleus</b>" not in page
    assert "A &amp; B &lt;1999&gt;" in page
    figures = re.findall(r'<script type="application/json" id="figure-([\w-]+)">(.*?)</script>', page, flags=re.S)
    assert [name for name, _ in figures[:3]] == ["curves", "confusion", "classes"]
    assert json.loads(figures[1][1])["data"][0]["x"] == CLASSES


def test_report_of_a_run_without_findings_and_without_defined_scores(tmp_path):
    findings = pd.DataFrame({name: [] for name in ("severity", "kind", "sample_id", "file", "message")})
    page = render(tmp_path, findings=findings, verdict=None, statistics=None, plan={}, network={}, model={}, code={})
    assert "None: every file was read" in page
    nothing = pd.DataFrame({"sample_id": [], "intersection": [], "truth": [], "prediction": []})
    tables = EvaluationTables({"confusion": confusion_table([]), "soft": nothing})
    empty = dict.fromkeys(compute_scores(tables, CLASSES))
    no_images = pd.DataFrame(columns=["sample_id", "iou/per_image_mean", "dice/per_image_mean", "accuracy/pixel"])
    page = render(tmp_path, metrics=empty, image_scores=no_images, pixels=np.zeros(4, np.int64), split="validation")
    assert "No score is defined" in page
    assert "validation split" in page


def test_report_shows_a_sweep_of_the_problem_where_there_was_one(tmp_path):
    assert 'id="variants"' not in render(tmp_path)
    runs, costs, table = ranked()
    swept = summary_of(runs, costs, table, data="these")
    page = render(tmp_path, variants=swept, data="these")
    section = page.split('<section id="variants">')[1].split("</section>")[0]
    for line in swept["score_lines"] + swept["cost_lines"]:
        assert all(f">{cell}<" in section for cell in line)
    assert "no such thing &lt;b&gt;" in section
    assert 'id="chart-variants"' in section
    assert 'id="figure-variants"' in page
    assert "on other data" not in section
    assert page == render(tmp_path, variants=swept, data="these")
    assert "on other data" in render(tmp_path, variants=swept, data="those")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_report_opens_in_a_browser_without_complaint(tmp_path, chromium, width):
    from playwright.sync_api import sync_playwright

    page = render(tmp_path, variants=summary_of(*ranked()))
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#chart-variants .plot-container")
        assert page.locator(".chart .plot-container").count() == page.locator(".chart").count() == 5
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing hangs over the edge
        page.locator("#gallery img.zoom").nth(1).click()
        assert page.locator("dialog[open]").count() == 1
        assert page.locator("dialog p").text_content() == "image <0>, IoU 0.500: truth (2 of 4)"
        page.locator("dialog img").click()
        assert "prediction (3 of 4)" in page.locator("dialog p").text_content()
        box = page.locator("dialog img").bounding_box()
        assert box["width"] <= width
        assert max(box["width"] / width, box["height"] / 900) > 0.85  # as large as the screen
        page.keyboard.press("ArrowRight")
        assert "errors (4 of 4)" in page.locator("dialog p").text_content()
        page.locator("dialog").click(position={"x": 2, "y": 2})
        assert page.locator("dialog[open]").count() == 0
        browser.close()
    assert complaints == []


@pytest.mark.browser
def test_report_prints(tmp_path, chromium):
    (tmp_path / "report.html").write_text(render(tmp_path), encoding="utf-8")
    target = tmp_path / "report.pdf"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={target}"]
    subprocess.run([*command, (tmp_path / "report.html").as_uri()], check=True, capture_output=True, timeout=PATIENCE)
    assert target.read_bytes().startswith(b"%PDF")
