"""The nodes of the preparation pipeline: thin adapters of ``unet_segmentation.samples``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import (
    ImageParameters,
    InspectionParameters,
    MaskParameters,
    SourceParameters,
    SplitParameters,
)

logger = logging.getLogger(__name__)


def inspect(
    indexed: pd.DataFrame,
    extracted: dict[str, Any],
    source: SourceParameters,
    classes: list[str],
    images: ImageParameters,
    masks: MaskParameters,
    inspection: InspectionParameters,
    packing_dir: Path,
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
        packing_dir: where packed arrays are kept, by content.
    """
    from unet_segmentation.data.audit.verdict import check_allowed
    from unet_segmentation.data.io.filesystem import FileStore
    from unet_segmentation.data.layout.layout import Layout
    from unet_segmentation.data.preparation.inspect_and_pack import inspect_samples
    from unet_segmentation.data.preparation.sample_inspection import DataSpec

    check_allowed(inspection.allow)
    storage = FileStore(extracted["root"], source.storage_options)
    declaration = DataSpec(classes, images, masks, Layout.of(source))
    return inspect_samples(indexed, storage, declaration, inspection, packing_dir)


def split(
    inspected: pd.DataFrame,
    findings: pd.DataFrame,
    split: SplitParameters,
    splitting_dir: Path,
    classes: list[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return every sample a split; find what leaks from one into another.

    Args:
        inspected: a row per sample.
        findings: of the inspection. Samples with an error get no split; near-identical images should share one.
        split: seed and shares.
        splitting_dir: remembers which sample is on which side.
        classes: names, in the order of their ids.
    """
    from unet_segmentation.data.audit.findings import findings_table
    from unet_segmentation.data.split.split import count_splits, split_samples

    pairs = findings.loc[findings["kind"] == "near_identical", ["sample_id", "other"]]
    bad = findings.loc[findings["severity"] == "error", "sample_id"]
    usable = ~inspected["sample_id"].isin(bad)
    samples, found = split_samples(inspected, usable, split, splitting_dir, pairs, classes)
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
    from unet_segmentation.data.audit.verdict import apply_allow_list, audit_result
    from unet_segmentation.data.io.filesystem import FileStore
    from unet_segmentation.data.layout.layout import Layout
    from unet_segmentation.data.preparation.sample_inspection import DataSpec, decode_for_display, plain_row
    from unet_segmentation.reporting.audit_page import render_audit, sample_thumbnail

    findings = pd.concat([inspection_findings, split_findings], ignore_index=True)
    verdict = audit_result(inspected, findings, classes, masks, inspection)
    logger.info("Audit: %s", verdict["status"])
    for message in verdict["messages"]:
        if message.startswith("warning: "):
            logger.warning(message.removeprefix("warning: "))
    storage = FileStore(extracted["root"], source.storage_options)
    declaration = DataSpec(classes, images, masks, Layout.of(source))
    rows = inspected.set_index("sample_id", drop=False)

    def thumbnail(sample_id: str) -> Any:  # noqa: ANN401 - a PIL image, or None
        if sample_id in packed:
            return sample_thumbnail(packed.image(sample_id), packed.mask(sample_id))
        row: dict[str, Any] = dict(rows.loc[sample_id].items())  # type: ignore[arg-type]
        return sample_thumbnail(*decode_for_display(plain_row(row), storage, declaration))

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
    return verdict, apply_allow_list(findings, verdict), page


def enforce_audit(samples: pd.DataFrame, verdict: dict[str, Any]) -> pd.DataFrame:
    """Stop the run where the data cannot be trained on; hand on the samples that can.

    Args:
        samples: the samples with their split.
        verdict: of the audit.

    Returns:
        The samples without those that were set aside.
    """
    from unet_segmentation.data.audit.verdict import raise_if_failed as judge_verdict

    judge_verdict(verdict)
    return samples[~samples["sample_id"].isin(verdict["set_aside"])]


def compute_statistics(
    samples: pd.DataFrame, inspected: pd.DataFrame, classes: list[str], images: ImageParameters
) -> dict[str, Any]:
    """Compute the statistics of the training split from the table.

    Args:
        samples: the samples with their split.
        inspected: what inspection measured of them.
        classes: names, in the order of their ids.
        images: how image values were taken; prediction takes them likewise.
    """
    from unet_segmentation.data.statistics import dataset_statistics

    taken = images.model_dump(mode="json")
    read = {"range": taken["range"], "bands": taken["bands"], "images": taken}
    found = dataset_statistics(samples, inspected, classes) | read
    if absent := [name for name, share in found["class_shares"].items() if share == 0]:
        logger.warning("No pixel of the training split is of: %s. What is not there is not learned", ", ".join(absent))
    return found
