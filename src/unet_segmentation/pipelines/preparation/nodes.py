"""The nodes of the preparation pipeline: thin adapters of ``unet_segmentation.samples``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.parameters.preparation import InspectionParameters, MaskParameters, SplitParameters
from unet_segmentation.samples import judging
from unet_segmentation.samples.inspection import inspect_samples
from unet_segmentation.samples.packing import PackedSamples
from unet_segmentation.samples.profiling import profile_samples
from unet_segmentation.samples.splitting import count_splits, split_samples

logger = logging.getLogger(__name__)


def inspect(
    indexed: pd.DataFrame,
    extracted: dict[str, Any],
    classes: list[str],
    masks: MaskParameters,
    inspection: InspectionParameters,
    packing_folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, PackedSamples]:
    """Decode every file once: per-image statistics, findings and the packed arrays.

    Args:
        indexed: a row per sample; paths relative to `extracted["root"]`.
        extracted: where the raw files lie.
        classes: names, in the order of their ids.
        masks: how masks are encoded.
        inspection: threads, and which class counts as rare.
        packing_folder: where packed arrays are kept, by content.
    """
    return inspect_samples(indexed, Path(extracted["root"]), classes, masks, inspection, packing_folder)


def judge(inspected: pd.DataFrame, findings: pd.DataFrame, classes: list[str], masks: MaskParameters) -> dict[str, Any]:
    """Stop the run where the data cannot be trained on; say what to declare.

    Args:
        inspected: a row per sample.
        findings: what inspection found.
        classes: names, in the order of their ids.
        masks: how masks are declared.
    """
    verdict = judging.audit_verdict(inspected, findings, classes, masks, InspectionParameters())
    judging.judge(verdict)
    for message in verdict["messages"]:
        if message.startswith("warning: "):
            logger.warning(message.removeprefix("warning: "))
    return verdict


def split(inspected: pd.DataFrame, verdict: dict[str, Any], split: SplitParameters) -> pd.DataFrame:
    """Give every sample a split.

    Args:
        inspected: a row per sample.
        verdict: shows that the data were judged; only data that passed come this far.
        split: seed and shares.
    """
    samples = split_samples(inspected, split)
    counts = ", ".join(f"{count} {name}" for name, count in count_splits(samples["split"]).items())
    logger.info("Samples: %s (inspection: %s)", counts, verdict["status"])
    return samples


def profile(samples: pd.DataFrame, inspected: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Compute the statistics of the training split from the table.

    Args:
        samples: the samples with their split.
        inspected: what inspection measured of them.
        classes: names, in the order of their ids.
    """
    return profile_samples(samples, inspected, classes)
