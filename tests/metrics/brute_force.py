"""Scores by brute force over saved predictions and true masks; nothing of it comes from `scoring`.

python -m tests.metrics.brute_force wbc         compares a problem's metrics.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from PIL import Image

MEASURES = ("iou", "dice", "precision", "recall")


def brute_force(pairs: Iterable[tuple[np.ndarray, np.ndarray]], slugs: list[str]) -> dict[str, float]:
    """Score pairs of masks, truth and prediction; 255 in the truth counts nowhere."""
    ids = range(len(slugs))
    images = np.array([
        [[((t == c) & (p == c)).sum(), (t == c).sum(), ((p == c) & (t != 255)).sum()] for c in ids] for t, p in pairs
    ])  # fmt: skip

    def measure(hit: int, true: int, predicted: int) -> list[float]:
        if true + predicted == 0:
            return [np.nan] * 4
        both = true + predicted
        return [hit / (both - hit), 2 * hit / both, hit / predicted if predicted else 0.0, hit / true if true else 0.0]

    split = images.sum(axis=0)
    by_class = np.array([measure(*counts) for counts in split])
    by_image = np.array([[measure(*counts) for counts in image] for image in images])
    scores = {}
    for number, name in enumerate(MEASURES):
        scores |= {f"{name}/class/{slug}": by_class[c, number] for c, slug in enumerate(slugs)}
        for prefix, first in (("", 0), ("foreground_", 1)):
            scores[f"{name}/{prefix}mean"] = np.nanmean(by_class[first:, number])
            scores[f"{name}/{prefix}per_image_mean"] = np.nanmean(_mean(by_image[:, first:, number]))
        scores[f"{name}/foreground_micro"] = measure(*split[1:].sum(axis=0))[number]
    hit, true, _ = split.T
    scores["iou/micro"] = measure(*split.sum(axis=0))[0]
    scores["iou/frequency_weighted"] = np.nansum(true * by_class[:, 0]) / true.sum()
    scores["iou/foreground_frequency_weighted"] = np.nansum((true * by_class[:, 0])[1:]) / true[1:].sum()
    scores["accuracy/pixel"] = hit.sum() / true.sum()
    scores["accuracy/class_mean"] = np.mean([h / t for h, t in zip(hit, true, strict=True) if t])
    scores["accuracy/foreground_class_mean"] = np.mean([h / t for h, t in zip(hit[1:], true[1:], strict=True) if t])
    return {name: float(value) for name, value in scores.items()}


def _mean(values: np.ndarray) -> list[float]:
    return [np.mean(row[~np.isnan(row)]) if (~np.isnan(row)).any() else np.nan for row in values]


def saved_pairs(problem: str, data: Path) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Read the test split of an evaluated problem: true masks, and the PNG files of the predictions."""
    from unet_segmentation.datasets import PackedSamplesDataset

    packed = PackedSamplesDataset(filepath=str(data / "03_primary" / problem / "packed_dataset.json")).load()
    samples = pd.read_parquet(data / "03_primary" / problem / "samples.parquet")
    for sample_id in samples.loc[(samples["split"] == "test") & (samples["masks"].map(len) > 0), "sample_id"]:
        file = (
            data / "07_model_output" / problem / "predictions" / (quote(sample_id, safe=" ~!$&'()+,;=@[]{}^") + ".png")
        )
        yield packed.mask(sample_id), np.array(Image.open(file))


def main(problem: str, data: Path = Path("data")) -> None:
    result = json.loads((data / "08_reporting" / problem / "metrics.json").read_text())
    slugs = [name.removeprefix("iou/class/") for name in result if name.startswith("iou/class/")]
    expected = brute_force(saved_pairs(problem, data), slugs)
    unequal = {name: (result[name], value) for name, value in expected.items() if not _same(result[name], value)}
    largest = max(abs(result[name] - value) for name, value in expected.items() if result[name] is not None)
    print(f"{problem}: {len(expected)} scores, largest difference {largest:.1e}")  # noqa: T201
    sys.exit(f"not equal: {unequal}" if unequal else 0)


def _same(result: float | None, expected: float) -> bool:
    return np.isnan(expected) if result is None else abs(result - expected) <= 1e-12


if __name__ == "__main__":
    main(*sys.argv[1:2])
