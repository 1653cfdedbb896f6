"""The nodes of the preparation pipeline: thin adapters of ``unet_segmentation.samples``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.parameters import (
    ImageParameters,
    InspectionParameters,
    MaskParameters,
    SourceParameters,
    SplitParameters,
)
from unet_segmentation.samples.packing import PackedSamples

logger = logging.getLogger(__name__)


def inspect(
    indexed: pd.DataFrame,
    extracted: dict[str, Any],
    source: SourceParameters,
    classes: list[str],
    images: ImageParameters,
    masks: MaskParameters,
    inspection: InspectionParameters,
    packing_folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, PackedSamples]:
    """Decode every file once: per-image statistics, findings and the packed arrays.

    Args:
        indexed: a row per sample; paths relative to `extracted["root"]`.
        extracted: where the raw files lie.
        source: the layout, and how a store is reached.
        classes: names, in the order of their ids.
        images: how image values are taken.
        masks: how masks are encoded.
        inspection: threads, and what is worth a finding.
        packing_folder: where packed arrays are kept, by content.
    """
    from unet_segmentation.samples.inspection import inspect_samples
    from unet_segmentation.samples.judging import check_allowed
    from unet_segmentation.samples.sample import Declaration
    from unet_segmentation.sources.layout import Layout
    from unet_segmentation.storage import Storage

    check_allowed(inspection.allow)
    storage = Storage(extracted["root"], source.storage_options)
    declaration = Declaration(classes, images, masks, Layout.of(source))
    return inspect_samples(indexed, storage, declaration, inspection, packing_folder)


def split(
    inspected: pd.DataFrame,
    findings: pd.DataFrame,
    split: SplitParameters,
    splitting_folder: Path,
    classes: list[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every sample a split; find what leaks from one into another.

    Args:
        inspected: a row per sample.
        findings: of the inspection. Samples with an error get no split; near-identical images should share one.
        split: seed and shares.
        splitting_folder: remembers which sample is on which side.
        classes: names, in the order of their ids.
    """
    from unet_segmentation.samples.findings import findings_table
    from unet_segmentation.samples.splitting import count_splits, split_samples

    pairs = findings.loc[findings["kind"] == "near_identical", ["sample_id", "other"]]
    bad = findings.loc[findings["severity"] == "error", "sample_id"]
    usable = ~inspected["sample_id"].isin(bad)
    samples, found = split_samples(inspected, usable, split, splitting_folder, pairs, classes)
    counts = ", ".join(f"{count} {name}" for name, count in count_splits(samples["split"]).items())
    logger.info("Samples: %s", counts)
    return samples, findings_table(found)


def audit(
    problem: str,
    inspected: pd.DataFrame,
    samples: pd.DataFrame,
    inspection_findings: pd.DataFrame,
    split_findings: pd.DataFrame,
    packed: PackedSamples,
    extracted: dict[str, Any],
    source: SourceParameters,
    classes: list[str],
    images: ImageParameters,
    masks: MaskParameters,
    inspection: InspectionParameters,
) -> tuple[dict[str, Any], pd.DataFrame, str]:
    """Weigh all findings, and show them on one page: also where the run will stop because of them.

    Returns:
        The verdict, the findings of inspection and split, and the page.
    """
    from unet_segmentation.figures.audit import render_audit, sample_thumbnail
    from unet_segmentation.samples.judging import audit_verdict, settle_findings
    from unet_segmentation.samples.sample import Declaration, plain_row, read_again
    from unet_segmentation.sources.layout import Layout
    from unet_segmentation.storage import Storage

    findings = pd.concat([inspection_findings, split_findings], ignore_index=True)
    verdict = audit_verdict(inspected, findings, classes, masks, inspection)
    logger.info("Audit: %s", verdict["status"])
    for message in verdict["messages"]:
        if message.startswith("warning: "):
            logger.warning(message.removeprefix("warning: "))
    storage = Storage(extracted["root"], source.storage_options)
    declaration = Declaration(classes, images, masks, Layout.of(source))
    rows = inspected.set_index("sample_id", drop=False)

    def thumbnail(sample_id: str) -> Any:  # noqa: ANN401 - a PIL image, or None
        if sample_id in packed:
            return sample_thumbnail(packed.image(sample_id), packed.mask(sample_id))
        row: dict[str, Any] = dict(rows.loc[sample_id].items())  # type: ignore[arg-type]
        return sample_thumbnail(*read_again(plain_row(row), storage, declaration))

    splits = samples.set_index("sample_id")["split"]
    page = render_audit(
        problem=problem,
        verdict=verdict,
        findings=findings,
        samples=inspected.assign(split=inspected["sample_id"].map(splits)),
        source=source,
        classes=classes,
        masks=masks,
        thumbnail=thumbnail,
    )
    return verdict, settle_findings(findings, verdict), page


def judge(samples: pd.DataFrame, verdict: dict[str, Any]) -> pd.DataFrame:
    """Stop the run where the data cannot be trained on; hand on the samples that can.

    Args:
        samples: the samples with their split.
        verdict: of the audit.

    Returns:
        The samples without those that were set aside.
    """
    from unet_segmentation.samples.judging import judge as judge_verdict

    judge_verdict(verdict)
    return samples[~samples["sample_id"].isin(verdict["set_aside"])]


def profile(
    samples: pd.DataFrame, inspected: pd.DataFrame, classes: list[str], images: ImageParameters
) -> dict[str, Any]:
    """Compute the statistics of the training split from the table.

    Args:
        samples: the samples with their split.
        inspected: what inspection measured of them.
        classes: names, in the order of their ids.
        images: how image values were taken; prediction takes them likewise.
    """
    from unet_segmentation.samples.profiling import profile_samples

    taken = images.model_dump(mode="json")
    read = {"range": taken["range"], "bands": taken["bands"], "images": taken}
    found = profile_samples(samples, inspected, classes) | read
    if absent := [name for name, share in found["class_shares"].items() if share == 0]:
        logger.warning("No pixel of the training split is of: %s. What is not there is not learned", ", ".join(absent))
    return found
