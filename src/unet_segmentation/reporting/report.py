"""One HTML page about a run: it opens without a network, on a phone, and prints."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image

from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.label_map import class_slugs
from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.metrics.definitions import find_metric
from unet_segmentation.parameters.predictor import PredictorParameters
from unet_segmentation.parameters.source import SourceParameters
from unet_segmentation.reporting import cards, html
from unet_segmentation.reporting.audit_page import HEADLINES as VERDICTS
from unet_segmentation.reporting.audit_page import class_table
from unet_segmentation.reporting.error_analysis_charts import TITLES, pattern_charts
from unet_segmentation.reporting.html import ReportSection
from unet_segmentation.reporting.prediction_gallery import PARTS, Shown, encode_pictures
from unet_segmentation.reporting.score_charts import interval_chart
from unet_segmentation.visualization import class_colors

TILES = ("dice/mean", "iou/mean", "iou/foreground_mean", "accuracy/pixel", "soft_dice/smooth1")
MEASURES = {"dice": "Dice", "iou": "IoU", "precision": "Precision", "recall": "Recall"}
METHODS = {"bca": "BCa"}
DRAWN_CLASSES = 30  # with their intervals, the weakest where there are more
REMARKS = 3  # shown
OPTIONAL_CHARTS = {  # name: heading, and what is to be seen
    "reliability": (
        "Reliability",
        "How often the network is right, by how sure it is of the class it names. On the diagonal it is as often right "
        "as it says; below it, it is too sure of itself.",
    ),
    "precision_recall": (
        "Precision against recall",
        "Each point is a threshold on the probability of the foreground. Which one is used was chosen on validation.",
    ),
    "object_recall": ("Recall by the size of objects", "An object is found if more than half of its pixels are."),
}
WORST_IMAGES, FINDINGS = 20, 50  # rows shown
PICTURE_BYTES = 4_500_000  # of the galleries: the page stays below 12 MB, of which Plotly's code is 5
SHEET_SIDE = 1600  # longest of the picture of the augmentation, in pixels

Interval = dict[str, Any]


def render_report(problem: str, split: str, sections: Sequence[ReportSection]) -> str:
    """Render the page, which fetches nothing. The same run gives the same page: no date, duration or id of a run."""
    blocks = {name: block for section in sections for name, block in section.blocks.items()}
    charts = {name: chart for section in sections for name, chart in section.charts.items()}
    return html.render(
        "report.html", problem=problem, split=split, blocks=blocks, plotly=html.plotly_code(), charts=charts
    )


def render_data_section(
    *,
    source: SourceParameters,
    classes: Sequence[str],
    samples: pd.DataFrame,
    verdict: AuditResult | None,
    findings: pd.DataFrame,
    statistics: DatasetStatistics | None,
    variants: Mapping[str, Any] | None = None,
    data: str = "",
) -> ReportSection:
    """Render the audit of the data, the data card, and a sweep of the problem where there was one.

    `variants`: see `experiments.sweep.report_page.summary`; `data`: see `data.statistics.hash_data`: a sweep of
    other data says so.
    """
    blocks = html.render_blocks(
        "report_data.html",
        audit=_audit(verdict),
        data_card=cards.data_card(source, statistics, verdict),
        class_table=class_table(samples, classes),
        finding_kinds=cards.findings_by_kind(findings),
        findings=findings.head(FINDINGS).to_dict("records"),
        more_findings=max(0, len(findings) - FINDINGS),
        tones=cards.TONES,
        variants=variants,
        data=data,
    )
    charts = {} if variants is None else {"variants": html.figure_json(go.Figure(variants["chart"]))}
    return ReportSection(blocks, charts)


def render_training_section(
    *,
    problem: str,
    classes: Sequence[str],
    inference: PredictorParameters,
    curves: go.Figure,
    augmentation: Path,
    statistics: DatasetStatistics | None,
    network: Mapping[str, Any],
    plan: Mapping[str, Any],
    model: Mapping[str, Any],
    code: Mapping[str, str],
) -> ReportSection:
    """Render the training curves, the augmentation, the model card, and how to reproduce the run.

    `augmentation`: picture of the first augmented batches; `model`: `epoch`, `file` and `sha256` of the weights, and
    `code`: `commit`, `changed`, `lock_sha256` and `versions`, both as far as known.
    """
    blocks = html.render_blocks(
        "report_training.html",
        problem=problem,
        augmentation=_sheet(augmentation),
        model_card=cards.model_card(network, plan, inference, model, classes),
        network=html.rows(network, skipped={"classes", "mean", "std"}),
        plan=html.rows(plan, skipped={"samples", "parameters", "measured"}),
        parameters=html.rows(plan.get("parameters", {})),
        reproduction=cards.reproduction(code, statistics, plan, model),
        commit=code.get("commit"),
        changed=code.get("changed"),
    )
    return ReportSection(blocks, {"curves": html.figure_json(curves)} if curves.data else {})


def render_evaluation_section(
    *,
    problem: str,
    source: SourceParameters,
    classes: Sequence[str],
    split: str,
    metrics: Mapping[str, float | None],
    image_scores: pd.DataFrame,
    pixels: NDArray[Any],
    charts: Mapping[str, go.Figure],
    statistics: DatasetStatistics | None,
    network: Mapping[str, Any],
    intervals: pd.DataFrame | None = None,
) -> ReportSection:
    """Render the scores of the split and of each class, and what the model is for.

    `metrics` is None where a score is undefined; `image_scores` has a row per image, the worst first; `pixels`
    (classes,) are counted in the split; `charts` are named confusion and classes, and as in `OPTIONAL_CHARTS`;
    `intervals` has the columns score, value, low, high, method, confidence, units, trusted, remark.
    """
    by_score = _intervals(intervals)
    per_class = _per_class(classes, metrics, pixels, by_score)
    drawn = {name: figure for name, figure in charts.items() if figure.data}
    if intervals is not None and by_score:
        drawn["intervals"] = interval_chart(intervals, _titles(metrics, classes))
    limits = cards.uses_and_limits(
        problem=problem, source=source, classes=classes, split=split, images=len(image_scores), statistics=statistics,
        network=network, per_class=per_class,
    )  # fmt: skip
    blocks = html.render_blocks(
        "report_evaluation.html",
        subtitle=_subtitle(classes, image_scores, split, network),
        verdict=_verdict(per_class, image_scores, metrics, by_score),
        cautions=_cautions(image_scores, split, per_class, intervals),
        tiles=[_describe_score(name, metrics[name], by_score) for name in TILES if name in metrics],
        all_scores=[_describe_score(name, value, by_score) for name, value in metrics.items() if "/class/" not in name],
        method=_method(intervals),
        measures=MEASURES,
        per_class=per_class,
        means={measure: metrics.get(f"{measure}/mean") for measure in MEASURES},
        optional=[(name, *words) for name, words in OPTIONAL_CHARTS.items() if name in drawn],
        calibration_error=metrics.get("calibration/ece"),
        limits=limits,
    )
    return ReportSection(blocks, {name: html.figure_json(figure) for name, figure in drawn.items()})


def render_gallery_section(
    *,
    classes: Sequence[str],
    metrics: Mapping[str, float | None],
    image_scores: pd.DataFrame,
    gallery: Iterable[Shown],
    class_gallery: Iterable[tuple[str, Shown]],
    gallery_score: str,
    facts: pd.DataFrame,
    patterns: pd.DataFrame,
) -> ReportSection:
    """Render samples of the split, and what the error of an image correlates with.

    `image_scores` has a row per image, the worst first; `gallery` the worst, the median and the best samples, whose
    score is `gallery_score`; `class_gallery` class and sample, those of a class together. For `facts` and `patterns`
    see `image_features` and `find_patterns` of `metrics.error_analysis`.
    """
    album, charts = _Album(), pattern_charts(facts)
    per_class = _per_class(classes, metrics, np.zeros(len(classes), np.int64), {})
    iou_by_class = {row["name"]: row["iou"] for row in per_class}
    blocks = html.render_blocks(
        "report_gallery.html",
        per_class=per_class,
        worst=image_scores.head(WORST_IMAGES).astype(object).where(image_scores.notna(), None).to_dict("records"),
        gallery=[
            (section, [album.example(sample, f"{gallery_score} {sample.score:.3f}") for sample in members])
            for section, members in groupby(gallery, key=lambda sample: sample.section)
        ],
        class_gallery=[
            (
                name,
                iou_by_class.get(name),
                [album.example(sample, f"{sample.section}, IoU {sample.score:.3f}") for _, sample in members],
            )
            for name, members in groupby(class_gallery, key=lambda entry: entry[0])
        ],
        without_picture=album.without_picture,
        patterns=[
            (name, TITLES[name], words) for name, words in zip(patterns["pattern"], patterns["sentence"], strict=True)
        ],
        charts={f"pattern-{name}" for name in charts},
    )
    return ReportSection(blocks, {f"pattern-{name}": html.figure_json(figure) for name, figure in charts.items()})


class _Album:
    """Samples as pictures on the page, until it is as large as it may be."""

    def __init__(self) -> None:
        self._left = PICTURE_BYTES
        self.without_picture = 0

    def example(self, sample: Shown, caption: str) -> dict[str, Any]:
        """Return a sample's id, its caption and its pictures; none where there is no room left."""
        pictures: list[bytes] = encode_pictures(sample) if self._left > 0 else []
        self._left -= sum(map(len, pictures))
        self.without_picture += not pictures
        uris = [html.data_uri(picture, "image/webp") for picture in pictures]
        return {"sample_id": sample.sample_id, "caption": caption, "pictures": list(zip(PARTS, uris, strict=False))}


def _subtitle(classes: Sequence[str], image_scores: pd.DataFrame, split: str, network: Mapping[str, Any]) -> str:
    name = cards.network_name(network)
    return f"Semantic segmentation into {len(classes)} classes by {name}, scored on {_images(image_scores)} ({split})"


def _verdict(
    per_class: Sequence[Mapping[str, Any]],
    image_scores: pd.DataFrame,
    metrics: Mapping[str, float | None],
    intervals: Mapping[str, Interval],
) -> dict[str, str]:
    """Describe in two sentences how good the model is."""
    scored = [row for row in per_class if row["iou"] is not None]
    sentences = []
    if scored:
        weakest = min(scored, key=lambda row: row["iou"])
        sentences.append(f"Weakest class: {weakest['name']} (IoU {weakest['iou']:.3f}).")
    if len(image_scores) and pd.notna(image_scores["iou/per_image_mean"].iloc[0]):
        worst = image_scores.iloc[0]
        sentences.append(f"Worst image: {worst['sample_id']} (IoU {worst['iou/per_image_mean']:.3f}).")
    dice, interval = metrics["dice/mean"], intervals.get("dice/mean")
    bounds = f" [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else ""
    headline = "No score is defined" if dice is None else f"Mean Dice {dice:.3f}{bounds} on {_images(image_scores)}"
    return {"headline": headline, "sentence": " ".join(sentences)}


def _audit(result: AuditResult | None) -> dict[str, str]:
    """Describe the audit of the data: tone, sign, headline and a sentence."""
    tone, sign, headline = ("", "?", "no result") if result is None else VERDICTS[result.status]
    counts = {} if result is None else result.counts
    parts = [f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items() if count and name != "note"]
    sentence = f"{' and '.join(parts).capitalize() or 'Nothing to object to'}."
    if result is not None and result.set_aside:
        sentence += f" {len(result.set_aside):,} of {result.samples:,} samples were set aside."
    headline = f"Audit of the data: {headline[:1].lower()}{headline[1:]}"
    return {"tone": tone, "sign": sign, "headline": headline, "sentence": sentence}


def _images(image_scores: pd.DataFrame) -> str:
    return html.count(len(image_scores), "image")


def _cautions(
    image_scores: pd.DataFrame,
    split: str,
    per_class: Sequence[Mapping[str, Any]],
    intervals: pd.DataFrame | None,
) -> list[str]:
    cautions = []
    if len(image_scores) < cards.FEW_IMAGES:
        cautions.append(
            f"Only {_images(image_scores)} were scored: another choice of test images could give quite other figures."
        )
    if split != "test":
        cautions.append(f"These are scores of the {split} split, not of images that training never touched.")
    missing = [row["name"] for row in per_class if not row["pixels"]]
    if missing:
        cautions.append(f"Without a pixel in the {split} split, and so without a fair score: {', '.join(missing)}.")
    if intervals is not None:
        doubtful = intervals[~intervals["trusted"].astype(bool) & intervals["low"].notna()]
        remarks = [(str(remark), list(scores)) for remark, scores in doubtful.groupby("remark")["score"]]
        remarks.sort(key=lambda entry: -len(entry[1]))
        for remark, scores in remarks[:REMARKS]:
            which = f"{len(scores)} scores" if len(scores) > 3 else ", ".join(scores)
            cautions.append(f"Marked with ? ({which}): {remark}.")
        if more := sum(len(scores) for _, scores in remarks[REMARKS:]):
            cautions.append(f"So are {more} further scores, for the like reason: see intervals.csv.")
    return cautions


def _intervals(intervals: pd.DataFrame | None) -> dict[str, Interval]:
    """Return low, high, trusted and remark of every score that has an interval."""
    if intervals is None:
        return {}
    defined = intervals.dropna(subset=["low", "high"])
    return {str(row["score"]): {str(key): value for key, value in row.items()} for row in defined.to_dict("records")}


def _method(intervals: pd.DataFrame | None) -> str:
    """Describe how the intervals were made."""
    if intervals is None or intervals.empty:
        return ""
    first = intervals.iloc[0]
    method = METHODS.get(str(first["method"]), str(first["method"]))
    over = f" over {first['unit']}" if "unit" in intervals else ""
    return f"In brackets: intervals of {100 * float(first['confidence']):g} %, by the {method} bootstrap{over}."


def _titles(metrics: Mapping[str, float | None], classes: Sequence[str]) -> dict[str, str]:
    """Name the scores whose intervals are drawn: the headlines, then the IoU of the classes."""
    titles = {name: metric.title for name in TILES if name in metrics and (metric := find_metric(name)) is not None}
    by_class = {f"iou/class/{slug}": f"IoU: {name}" for name, slug in zip(classes, class_slugs(classes), strict=True)}
    values = {name: value for name in by_class if (value := metrics.get(name)) is not None}
    weakest = sorted(values, key=lambda name: values[name])[:DRAWN_CLASSES]
    return titles | {name: title for name, title in by_class.items() if name in weakest}


def _describe_score(name: str, value: float | None, intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {"name": name, "value": value, "metric": find_metric(name), "interval": intervals.get(name)}


def _per_class(
    classes: Sequence[str],
    metrics: Mapping[str, float | None],
    pixels: NDArray[Any],
    intervals: Mapping[str, Interval],
) -> list[dict[str, Any]]:
    total = max(1, int(pixels.sum()))
    colors = class_colors(len(classes))
    return [
        {
            "name": name,
            "color": "#" + bytes(color).hex(),
            "pixels": int(count),
            "share": int(count) / total,
            **{measure: metrics.get(f"{measure}/class/{slug}") for measure in MEASURES},
            "intervals": {measure: intervals.get(f"{measure}/class/{slug}") for measure in MEASURES},
        }
        for name, slug, color, count in zip(classes, class_slugs(classes), colors, pixels, strict=True)
    ]


def _sheet(path: Path) -> str:
    """Make the address of a picture for people, compressed and not larger than a screen."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SHEET_SIDE, SHEET_SIDE))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=84)
    return html.data_uri(stream.getvalue(), "image/webp")
