"""Leakage between splits, and classes that a split lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.audit.findings import Finding

RARE_PIXELS = 100  # of a class in a held-out split: a score from fewer says little
_RANKS = {"train": 0, "validation": 1, "test": 2}  # what is least for training has the highest


def find_split_leakage(samples: pd.DataFrame, official: pd.Series, block: pd.Series | None) -> list[Finding]:
    """Find identical images, and groups, in different official splits.

    Args:
        samples: `sample_id`, `image`, `group` (as declared), `image_sha256`, `pixel_key`.
        official: by sample, the official split or None.
        block: by sample, the name of its spatial block.
    """
    ranks = np.array([_RANKS.get(name, -1) for name in official], dtype=np.int64)
    ids, files = samples["sample_id"].to_numpy(), samples["image"].to_numpy()
    by_sample: dict[int, Finding] = {}
    for keys in image_keys(samples):
        for position, other in _crossing(keys, ranks):
            message = f"shows the same as {files[other]}, which is officially for {official[other]}"
            about = {"sample_id": ids[position], "file": files[position], "other": ids[other]}
            by_sample.setdefault(position, Finding("identical_across_splits", message, **about))
    findings = [by_sample[position] for position in sorted(by_sample)]
    for names in [samples["group"]] if block is None else [samples["group"], block]:
        for position, other in {names[pair[0]]: pair for pair in _crossing(names, ranks)}.values():
            message = f"{names[position]} lies in {official[position]} and {official[other]}"
            about = {"sample_id": ids[position], "file": files[position], "other": ids[other]}
            findings.append(Finding("group_across_splits", message, **about))
    return findings


def image_keys(samples: pd.DataFrame) -> list[pd.Series]:
    """Return the columns by which images are identical (`image_sha256`, `pixel_key`), None where that is unknown."""
    keys = (samples[column].astype(object) for column in ("image_sha256", "pixel_key"))
    return [key.where(key != "", None) for key in keys]


def _crossing(names: pd.Series, ranks: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield every sample that shares its name with one of a higher rank, and the first of the highest."""
    codes = pd.factorize(names)[0]
    positions = np.flatnonzero((codes >= 0) & (ranks >= 0))
    by_rank = positions[np.argsort(-ranks[positions], kind="stable")]
    _, first, inverse = np.unique(codes[by_rank], return_index=True, return_inverse=True)
    highest = by_rank[first[inverse]]
    crosses = ranks[by_rank] < ranks[highest]
    yield from sorted(zip(by_rank[crosses].tolist(), highest[crosses].tolist(), strict=True))


def class_findings(samples: pd.DataFrame, all_pixels: pd.Series, classes: Sequence[str] | None = None) -> list[Finding]:
    """Find classes that the training split lacks, and those of which a held-out split has little.

    A class that occurs nowhere at all is inspection's to tell: `all_pixels` has `class_pixels` of every sample that was
    inspected, `samples` has those that are used, with their `split`.
    """
    occurring = np.array(all_pixels.tolist(), dtype=np.int64).sum(axis=0) > 0
    names = classes or [f"class {number}" for number in range(len(occurring))]
    pixels = np.array(samples["class_pixels"].tolist(), dtype=np.int64)
    findings = []
    for split in _RANKS:
        rows = (samples["split"] == split).to_numpy()
        counts = pixels[rows].sum(axis=0)
        for name, count in zip(names, np.where(occurring, counts, RARE_PIXELS).tolist(), strict=True):
            if split == "train" and count == 0:
                message = f"{name}: no pixel in the {rows.sum()} training samples"
                findings.append(Finding("absent_in_training", message))
            elif split != "train" and count < RARE_PIXELS:
                message = f"{name}: {count or 'no'} pixels in the {rows.sum()} {split} samples"
                findings.append(Finding("rare_in_split", message))
    return findings


def near_identical_pairs(samples: pd.DataFrame, pairs: pd.DataFrame | None) -> list[Finding]:
    """Find near-identical images (pairs of `sample_id` and `other`) in different splits, of samples that are used."""
    if pairs is None or pairs.empty:
        return []
    splits = dict(zip(samples["sample_id"], samples["split"], strict=True))
    files = dict(zip(samples["sample_id"], samples["image"], strict=True))
    findings = []
    for pair in zip(pairs["sample_id"], pairs["other"], strict=True):
        if len({splits.get(sample_id) for sample_id in pair} - {None}) < 2:
            continue
        first, second = sorted(pair, key=lambda sample_id: _RANKS[splits[sample_id]])
        message = f"in {splits[first]}, looks like {files[second]} in {splits[second]}"
        findings.append(Finding("near_identical_across_splits", message, first, files[first], other=second))
    return findings
