"""Verification of a logged model: loaded in a process of its own, does it do what evaluation says of it?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.deployment.release.candidate import ReleaseCandidate
from unet_segmentation.deployment.serving import isolated_model
from unet_segmentation.errors import ProjectError
from unet_segmentation.metrics.confusion_matrix import confusion_matrices, confusion_matrix, confusion_table
from unet_segmentation.metrics.definitions import global_scores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelVerification:
    """Whether a logged model reproduces the counts of its evaluation."""

    passed: bool  # every count on the evaluation's device, all scores within the tolerance on another one
    sentence: str  # the same, with the figures
    same_arithmetic: bool = False  # whether it ran where evaluation ran
    images: int = 0
    images_different: int = 0  # in their counts
    score: str = ""  # the one that differs most
    difference: float | None = None  # of that score; None where it is defined in one of the two cases only


def verify_model(
    uri: str,
    challenger: ReleaseCandidate,
    confusion: pd.DataFrame,
    sample_ids: Sequence[str],
    packed: PackedSamples,
    tolerance: float,
) -> ModelVerification:
    """Load a logged model in a process of its own, predict, and compare the counts with those of evaluation.

    The images come in the order of the evaluation, so that batches are the same. The tolerance is that by which scores
    may differ on another device.
    """
    from unet_segmentation.utils.device import compute_environment  # importing torch takes seconds

    missing = [name for name in sample_ids if name not in packed]
    try:
        if missing:
            raise ProjectError(f"{len(missing)} of its {len(sample_ids)} samples are not here, such as {missing[0]}")
        by_shape = sorted(sample_ids, key=packed.shape)  # as evaluation sorts them
        masks = isolated_model.predict_in_subprocess(uri, challenger.model_id, map(packed.image, by_shape))
        counts = confusion_table(
            (name, confusion_matrix(packed.mask(name), mask, len(challenger.classes)))
            for name, mask in zip(by_shape, masks, strict=True)
        )
    except ProjectError as error:
        return ModelVerification(False, f"The scores could not be reproduced: {str(error).removesuffix('.')}.")
    arithmetic = challenger.environment, compute_environment()
    return verify_counts(confusion, counts, sample_ids, challenger.classes, arithmetic=arithmetic, tolerance=tolerance)


def verify_counts(
    stored: pd.DataFrame,
    counts: pd.DataFrame,
    sample_ids: Sequence[str],
    classes: Sequence[str],
    *,
    arithmetic: tuple[Mapping[str, str], Mapping[str, str]],
    tolerance: float,
) -> ModelVerification:
    """Compare the counts of evaluation with those of the logged model.

    Both are tables of sample_id, truth, prediction and count. The arithmetic is what evaluation computed with, and what
    the logged model (see `compute_environment`). Where they are the same, every count has to be; elsewhere scores may
    differ by the tolerance.
    """
    before, now = (confusion_matrices(table, len(classes), sample_ids) for table in (stored, counts))
    different = int((before != now).any(axis=(1, 2)).sum())
    same = bool(arithmetic[0]) and dict(arithmetic[0]) == dict(arithmetic[1])
    score, difference = _largest_difference(before.sum(axis=0), now.sum(axis=0), classes)
    passed = bool(different == 0 if same else difference <= tolerance)
    images = len(sample_ids)
    by = f"by {difference:.2g}" if np.isfinite(difference) else "beyond all measure"
    start = f"The logged model, in a clean process, counts {different} of {images} images differently; {score} "
    if different == 0:
        sentence = f"The logged model, in a clean process, gives the counts of all {images} images exactly."
    elif same:
        sentence = f"{start}differs {by}, on the same device ({_device(arithmetic[1])}), where nothing may."
    else:
        devices = f"here on {_device(arithmetic[1])}, evaluated on {_device(arithmetic[0])}"
        bound = "within" if passed else "more than"
        sentence = f"{start}differs most, {by}, {bound} the tolerance of {tolerance:g} for another device ({devices})."
    return ModelVerification(
        passed, sentence, same, images, different, score, difference if np.isfinite(difference) else None
    )


def _largest_difference(before: NDArray[np.int64], now: NDArray[np.int64], classes: Sequence[str]) -> tuple[str, float]:
    """Return the score that differs most; one that is defined in one case only differs by infinity."""
    first, second = global_scores(before, classes), global_scores(now, classes)
    differences = {
        name: 0.0 if np.isnan(value) and np.isnan(second[name]) else float(abs(second[name] - value))
        for name, value in first.items()
    }
    differences = {name: np.inf if np.isnan(value) else value for name, value in differences.items()}
    name = max(differences, key=lambda name: differences[name])
    return name, differences[name]


def _device(arithmetic: Mapping[str, str]) -> str:
    if not arithmetic:
        return "a device that was not logged"
    return f"{arithmetic['device']}, {arithmetic['precision']}, torch {arithmetic['torch']}"
