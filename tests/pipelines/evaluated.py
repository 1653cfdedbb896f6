"""A small evaluated problem, in memory and in a temporary folder: what the evaluation nodes work on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.parameters import EvaluationParameters, PredictorParameters, SourceParameters

CLASSES = ["background", "cytoplasm", "nucleus"]
SHAPES = [(64, 64), (50, 70), (64, 64), (33, 41), (64, 64), (96, 80), (64, 64), (40, 40), (64, 64), (64, 48)]


def scene(shape: tuple[int, int], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw discs within discs: three gray levels with noise, and their mask with an ignored corner."""
    rows, columns = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    for _ in range(3):
        row, column, radius = random.uniform(0, shape[0]), random.uniform(0, shape[1]), random.uniform(5, 14)
        distance = np.hypot(rows - row, columns - column)
        mask[(distance < radius) & (mask == 0)] = 1
        mask[distance < radius / 2] = 2
    image = np.array([60, 130, 200])[mask] + random.normal(0, 25, shape)
    mask[:4, :4] = 255
    color = np.clip(image[..., None] * (1.0, 0.9, 1.1), 0, 255).astype(np.uint8)
    return color, mask


def problem(folder: Path) -> SimpleNamespace:
    """Make samples, packed arrays and parameters."""
    random = np.random.default_rng(0)
    ids = [f"plate {number}/well <{number}>" for number in range(len(SHAPES))]
    packed = pack(folder / "packed", {name: scene(shape, random) for name, shape in zip(ids, SHAPES, strict=True)})
    split = ["train", "validation"] + ["test"] * (len(ids) - 2)
    samples = pd.DataFrame({"sample_id": ids, "split": split, "masks": [["mask.png"]] * len(ids)})
    pixels = [[int(count) for count in np.bincount(packed.mask(name).ravel(), minlength=256)] for name in ids]
    inspected = pd.DataFrame(
        {
            "sample_id": ids,
            "height": [shape[0] for shape in SHAPES],
            "width": [shape[1] for shape in SHAPES],
            "channel_mean": [packed.image(name).mean(axis=(0, 1)).tolist() for name in ids],
            "class_pixels": [counts[:3] for counts in pixels],
            "ignored_pixels": [counts[255] for counts in pixels],
        }
    )
    source = SourceParameters(folder="/data", images="{id}.png", license="MIT", citation="Nobody et al. <1999>")
    return SimpleNamespace(
        samples=samples,
        inspected=inspected,
        packed=packed,
        classes=CLASSES,
        inference=PredictorParameters(),
        evaluation=EvaluationParameters(gallery_samples=2),
        source=source,
    )
