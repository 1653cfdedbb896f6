"""The audit page: whole by itself, right about the findings, and bounded."""

import re
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import PATIENCE
from tests.reporting.test_report import Links
from unet_segmentation.data.audit.findings import KINDS, Finding, findings_table
from unet_segmentation.data.audit.resolution import resolve_findings
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.audit.verdict import audit_result
from unet_segmentation.parameters.data import InspectionParameters, MaskParameters
from unet_segmentation.parameters.source import SourceParameters
from unet_segmentation.reporting.audit_page import GAP, render_audit, sample_thumbnail
from unet_segmentation.visualization import class_colors

CLASSES = ["background", "<b>cell</b>", "nucleus"]
NASTY = '<img src=x onerror="alert(1)"> "Zellkörper" 細胞 \' & .png'


def _samples(count=12):
    splits = ["train"] * (count - 4) + ["validation"] * 2 + ["test"] * 2
    return pd.DataFrame(
        {
            "sample_id": [f"s{number}" for number in range(count)],
            "split": splits,
            "height": [100] * (count - 1) + [0],
            "width": [100 + 10 * number for number in range(count)],
            "channels": 3,
            "dtype": "uint8",
            "class_pixels": [[70, 20, 0] if split == "train" else [50, 25, 25] for split in splits],
            "ignored_pixels": [10 if split == "train" else 0 for split in splits],
        }
    )


def _thumbnail(sample_id):
    number = int(sample_id.removeprefix("s")) if sample_id[1:].isdecimal() else None
    return None if number is None else Image.new("RGB", (60 + number, 40), (200, 30, 30))


FOUND = [
    Finding("unreadable_image", "is damaged", sample_id="s3", file="images/s3.png"),
    Finding("missing_mask", "has no mask", sample_id=NASTY, file=f"images/{NASTY}"),
    *(Finding("undeclared_values", "200 (5 pixels)", sample_id=f"s{n}", file=f"masks/s{n}.png") for n in range(11)),
    Finding("identical_across_splits", "is identical to s10", sample_id="s1", file="images/s1.png", other="s10"),
    Finding("rare_class", "nucleus: 0.01%"),
    Finding("mask_values", "0, 100, 200", values={"0": 700, "100": 200, "200": 100}),
]


def _page(results=FOUND, samples=None, masks=None, thumbnail=_thumbnail, inspection=None, **options):
    samples = _samples() if samples is None else samples
    table = results if isinstance(results, pd.DataFrame) else findings_table(results)
    masks = masks or MaskParameters(values={0: CLASSES[0], 100: CLASSES[1]})
    inspection = InspectionParameters(**(inspection or {}))
    resolved = resolve_findings(table, samples, inspection)
    result = audit_result(resolved, samples, CLASSES, masks, inspection)
    return render_audit(
        problem="cells & <co>",
        result=AuditResult.model_validate_json(result.model_dump_json()),  # as it comes from its file
        findings=resolved,
        samples=samples,
        source=SourceParameters(folder="/data", images="{id}.png", license="CC BY 4.0", citation="A & B <1999>"),
        classes=CLASSES,
        masks=masks,
        thumbnail=thumbnail,
        **options,
    )


def _section(page, kind):
    return re.search(rf'<article class="[^"]*" id="{kind}">.*?</article>', page, flags=re.S).group()


def _text(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_page_fetches_nothing():
    page = _page()
    links = Links(page)
    assert links.fetched
    assert all(value.startswith("data:image/jpeg;base64,") for value in links.fetched)
    assert {anchor.removeprefix("#") for anchor in links.anchors} <= set(links.ids)
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_comes_from_outside_is_escaped():
    page = _page()
    assert "<img src=x" not in page
    assert "<b>cell</b>" not in page
    assert "cells &amp; &lt;co&gt;" in page
    assert "A &amp; B &lt;1999&gt;" in page
    assert "&#34;Zellkörper&#34; 細胞 &#39; &amp; .png" in page


@pytest.mark.parametrize(
    ("results", "headline", "sentence"),
    [
        (FOUND, "Failed: this data set cannot be trained on", "4 kinds of errors stop the run. 1 kind of warnings"),
        (FOUND[-2:], "Passed with warnings", "1 kind of warnings: have a look."),
        (FOUND[-1:], "Passed", "Every check came to nothing"),
        ([], "Passed", "Every check came to nothing"),
    ],
)
def test_the_verdict_stands_on_top_in_words(results, headline, sentence):
    page = _page(results)
    box = _text(re.search(r'<section id="verdict">.*?</div></div>', page, flags=re.S).group())
    assert headline in box
    assert sentence in box


def test_every_finding_has_its_section_with_the_fix():
    page = _page()
    for kind in {entry.kind for entry in FOUND}:
        text = _text(_section(page, kind).replace("&#39;", "'"))
        assert KINDS[kind].heading[1:] in text
        assert KINDS[kind].fix in text
        assert f"{KINDS[kind].severity} " in text
    assert 'href="#undeclared_values"' in page


def test_values_come_with_the_yaml_that_declares_them():
    page = _page()
    text = _text(_section(page, "undeclared_values"))
    assert "masks: {encoding: index, values: {0: background, 100: &lt;b&gt;cell&lt;/b&gt;}, ignore: [200]}" in text
    table = _text(re.search(r'id="values".*?</table>', page, flags=re.S).group())
    assert "0 background 70.00 %" in table
    assert "200 ✕ not declared 10.00 %" in table


def test_a_declaration_for_several_kinds_stands_once():
    page = _page([*FOUND, Finding("absent_class", "nucleus")])
    assert _text(page).count("ignore: [200]}") == 2  # in the message of the run, and in the first section
    assert 'under <a href="#undeclared_values">' in _section(page, "absent_class")


def test_pictures_of_the_first_samples_and_of_both_of_a_pair():
    page = _page(per_kind=3)
    assert _section(page, "undeclared_values").count("<figure>") == 3
    pair = _section(page, "identical_across_splits")
    assert pair.count("<img") == 2
    assert 'class="which">s10' in pair
    assert "<figure>" not in _section(page, "missing_mask")  # there is no picture of it


def test_the_data_card():
    page = _page(facts={"files": 24})
    text = _text(re.search(r'<section id="data">.*?</section>', page, flags=re.S).group())
    assert "8 train, 2 validation, 2 test" in text
    assert "CC BY 4.0" in text
    assert "100 to 200 pixels, median 150" in text  # of the eleven that could be read
    assert "100 pixels in all" in text
    assert "Not readable 1 image" in text
    assert "Files 24" in text
    rows = re.findall(r"(background|nucleus|ignored) ([\d.]+(?: %)?) ([\d.]+ %|0) ([\d.]+ %|0)", text)
    assert rows == [
        ("background", "70.00 %", "50.00 %", "50.00 %"),
        ("nucleus", "0", "25.00 %", "25.00 %"),
        ("ignored", "10.00 %", "0", "0"),
    ]


def test_what_was_set_aside_and_what_was_allowed_is_told():
    inspection = {"on_error": "quarantine", "allow": ["identical_across_splits"]}
    page = _page([FOUND[0], FOUND[-3], FOUND[-2]], inspection=inspection)
    assert "Passed with warnings" in page
    assert "1 of 12 samples was set aside because of errors. 2 kinds of warnings" in _text(page)
    assert "⊘ set aside" in _text(_section(page, "unreadable_image"))
    assert "✓ allowed" in _text(_section(page, "identical_across_splits"))
    assert page.index('id="set_aside"') < page.index('id="unreadable_image"')


def test_silence_is_told_too():
    page = _page(unchecked=["missing_roi"])
    checked, unchecked = page.split('<section id="checked">')[1].split("Not looked for")
    listed = set(re.findall(r'title="(\w+)"', checked))
    results = {entry.kind for entry in FOUND}
    assert listed == set(KINDS) - results - {"missing_roi", "set_aside"}
    assert re.findall(r'title="(\w+)"', unchecked) == ["missing_roi"]


def test_an_empty_data_set_and_a_table_without_measurements():
    page = _page([Finding("no_samples", "there is no sample")], samples=_samples(4).iloc[:0])
    assert "no samples" in page
    assert "Not readable" not in page
    page = _page(FOUND[:1], samples=pd.DataFrame({"sample_id": ["a", "b"]}))
    assert "2 not split" in page


@pytest.mark.slow
def test_a_hundred_thousand_findings_make_a_page_below_ten_megabytes():
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (900, 1800, 3), np.uint8))  # nothing compresses worse
    count = 100_000
    kinds = list(KINDS)
    rows = [
        (KINDS[kind].severity, kind, f"s{n}", "&<" * 2000, '"' * 2000, "", f"s{n + 1}")
        for n, kind in zip(range(count), kinds * (count // len(kinds) + 1), strict=False)
    ]
    table = pd.DataFrame(rows, columns=["severity", "kind", "sample_id", "file", "message", "values", "other"])
    drawn = []
    page = _page(table, thumbnail=lambda sample_id: drawn.append(sample_id) or noise)
    assert len(page.encode()) < 10_000_000
    assert 0 < len(drawn) <= 12 * len(kinds)
    assert f"and {count // len(kinds) - 20:,} more" in page


def test_a_thumbnail_shows_the_image_and_the_mask_over_it():
    image = np.full((30, 40, 3), 100, np.uint8)
    ids = np.zeros((30, 40), np.uint8)
    ids[10:20, 10:30] = 1
    ids[25:] = 255
    left, right = np.split(np.delete(np.asarray(sample_thumbnail(image, ids, side=40)), range(40, 43), axis=1), 2, 1)
    assert (left == 100).all()
    assert (right[:10] == 100).all()  # class 0 shows the image alone
    color = class_colors(2)[1]
    assert (right[10, 10:30] == color).all()  # outlined
    assert (right[15, 20] == np.round(0.65 * 100 + 0.35 * color)).all()
    assert (right[26:] != 100).all()  # hatched


def test_a_thumbnail_of_what_can_be_shown():
    image, ids = np.zeros((300, 600), np.uint16), np.zeros((600, 300), np.uint8)
    assert sample_thumbnail(None, None) is None
    assert sample_thumbnail(image, None).size == (240, 120)
    assert sample_thumbnail(None, ids).size == (120, 240)
    both = sample_thumbnail(image, ids)  # of different size: side by side, each by itself
    assert both.size == (240 + 3 + 120, 240)
    assert both.getpixel((241, 0)) == GAP
    assert sample_thumbnail(np.zeros((2, 5000, 1), np.uint8), np.zeros((2, 5000), np.uint8)).size == (483, 1)


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_in_a_browser_without_complaint(tmp_path, chromium, width, scheme):
    from playwright.sync_api import sync_playwright

    (tmp_path / "audit.html").write_text(_page(), encoding="utf-8")
    complaints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto((tmp_path / "audit.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing hangs over the edge
        assert page.evaluate("[...document.images].slice(0, -1).every(image => image.naturalWidth > 0)")
        assert page.locator("article").count() == len({entry.kind for entry in FOUND})
        paper, ink = page.evaluate(
            "(style => [style.backgroundColor, style.color])(getComputedStyle(document.querySelector('.verdict')))"
        )
        assert _contrast(paper, ink) >= 4.5  # what WCAG asks of text
        page.locator("figure img.zoom").first.click()
        assert page.locator("dialog[open]").count() == 1
        browser.close()
    assert complaints == []


def _contrast(*colors):
    """The contrast of two CSS colors after WCAG 2."""
    lightness = []
    for color in colors:
        parts = np.array([int(part) for part in re.findall(r"\d+", color)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        lightness.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lightness) / min(lightness)


@pytest.mark.browser
def test_the_page_prints(tmp_path, chromium):
    (tmp_path / "audit.html").write_text(_page(), encoding="utf-8")
    target = tmp_path / "audit.pdf"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={target}"]
    subprocess.run([*command, (tmp_path / "audit.html").as_uri()], check=True, capture_output=True, timeout=PATIENCE)
    assert target.read_bytes().startswith(b"%PDF")
