"""Whether a model that was loaded afresh does what evaluation says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from unet_segmentation.metrics.confusion_matrix import confusion_matrices
from unet_segmentation.metrics.definitions import global_scores


def verify_counts(
    stored: pd.DataFrame,
    again: pd.DataFrame,
    sample_ids: Sequence[str],
    classes: Sequence[str],
    *,
    arithmetic: tuple[Mapping[str, str], Mapping[str, str]],
    tolerance: float,
) -> dict[str, Any]:
    """Compare the counts of evaluation with those of the model that was loaded afresh.

    Args:
        stored: counts of evaluation: sample_id, truth, prediction, count.
        again: those of the model that was loaded afresh.
        sample_ids: the images of both.
        classes: names of the classes.
        arithmetic: what evaluation computed with, and what the model now (see `learning.arithmetic`). Where they are
            the same, every count has to be.
        tolerance: elsewhere no score may differ by more.

    Returns:
        `passed`; `same_arithmetic`; `images` and `images_different`; `score` and `difference`, that of the score that
        differs most; and a `sentence`.
    """
    before, now = (confusion_matrices(table, len(classes), sample_ids) for table in (stored, again))
    different = int((before != now).any(axis=(1, 2)).sum())
    same = bool(arithmetic[0]) and dict(arithmetic[0]) == dict(arithmetic[1])
    score, difference = _largest_difference(before.sum(axis=0), now.sum(axis=0), classes)
    passed = different == 0 if same else difference <= tolerance
    found = {
        "passed": bool(passed),
        "same_arithmetic": same,
        "images": len(sample_ids),
        "images_different": different,
        "score": score,
        "difference": difference if np.isfinite(difference) else None,
    }
    return found | {"sentence": _sentence(found, arithmetic, tolerance)}


def _largest_difference(before: np.ndarray, now: np.ndarray, classes: Sequence[str]) -> tuple[str, float]:
    """Find the score that differs most; one that is defined in one case only differs by infinity."""
    first, second = global_scores(before, classes), global_scores(now, classes)
    apart = {
        name: 0.0 if np.isnan(value) and np.isnan(second[name]) else abs(second[name] - value)
        for name, value in first.items()
    }
    apart = {name: np.inf if np.isnan(value) else float(value) for name, value in apart.items()}
    name = max(apart, key=lambda name: apart[name])
    return name, apart[name]


def _sentence(found: Mapping[str, Any], arithmetic: tuple[Mapping[str, str], Mapping[str, str]], limit: float) -> str:
    images, different = found["images"], found["images_different"]
    if different == 0:
        return f"The logged model, loaded afresh, gives the counts of all {images} images exactly."
    by = "beyond all measure" if found["difference"] is None else f"by {found['difference']:.2g}"
    what = f"The logged model, loaded afresh, counts {different} of {images} images differently; {found['score']} "
    if found["same_arithmetic"]:
        return f"{what}differs {by}, on the same device ({_where(arithmetic[1])}), where nothing may."
    but = "within" if found["passed"] else "more than"
    where = f"here on {_where(arithmetic[1])}, evaluated on {_where(arithmetic[0]) or 'a device that was not noted'}"
    return f"{what}differs most, {by}, {but} the tolerance of {limit:g} for another device ({where})."


def _where(arithmetic: Mapping[str, str]) -> str:
    if not arithmetic:
        return ""
    return f"{arithmetic['device']}, {arithmetic['precision']}, torch {arithmetic['torch']}"
