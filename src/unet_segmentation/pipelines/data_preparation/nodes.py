"""Nodes of the preparation pipeline: adapters of the data packages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.ingestion.records import ExtractedFiles
from unet_segmentation.data.label_map import LabelMap
from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import (
    ImageParameters,
    InspectionParameters,
    MaskParameters,
    SourceParameters,
    SplitParameters,
)

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)


def define_label_map(classes: list[str]) -> LabelMap:
    """Build the label map of the problem: names, ids, colors and slugs of its classes."""
    return LabelMap.from_names(classes)


def inspect(
    indexed: pd.DataFrame,
    extracted: ExtractedFiles,
    source: SourceParameters,
    label_map: LabelMap,
    images: ImageParameters,
    masks: MaskParameters,
    inspection: InspectionParameters,
    packing_dir: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, PackedSamples]:
    """Decode every file once: measurements of each sample, findings and the packed arrays."""
    from unet_segmentation.data.audit.resolution import check_allowed
    from unet_segmentation.data.data_source import DataSource
    from unet_segmentation.data.preparation.inspect_and_pack import inspect_samples

    check_allowed(inspection.allow)
    data_source = DataSource.from_parameters(extracted.root, source, label_map.names, images, masks)
    return inspect_samples(indexed, data_source, inspection, packing_dir)


def split(
    inspected: pd.DataFrame,
    findings: pd.DataFrame,
    split: SplitParameters,
    splitting_dir: Path,
    label_map: LabelMap,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the samples, and find what leaks from one split into another.

    Samples with an error get no split; near-identical images should share one.
    """
    from unet_segmentation.data.audit.findings import findings_table
    from unet_segmentation.data.split.split import count_splits, split_samples

    pairs = findings.loc[findings["kind"] == "near_identical", ["sample_id", "other"]]
    with_error = findings.loc[findings["severity"] == "error", "sample_id"]
    usable = ~inspected["sample_id"].isin(with_error)
    samples, split_findings = split_samples(inspected, usable, split, splitting_dir, pairs, label_map.names)
    counts = ", ".join(f"{count} {name}" for name, count in count_splits(samples["split"]).items())
    logger.info("Samples: %s", counts)
    return samples, findings_table(split_findings)


def audit(
    problem: str,
    inspected: pd.DataFrame,
    samples: pd.DataFrame,
    inspection_findings: pd.DataFrame,
    split_findings: pd.DataFrame,
    packed: PackedSamples,
    extracted: ExtractedFiles,
    source: SourceParameters,
    label_map: LabelMap,
    images: ImageParameters,
    masks: MaskParameters,
    inspection: InspectionParameters,
) -> tuple[AuditResult, pd.DataFrame, str]:
    """Resolve all findings and render them as a page, also where the run will stop because of them.

    Returns:
        The result, the findings as resolved, and the page.
    """
    from unet_segmentation.data.audit.resolution import resolve_findings
    from unet_segmentation.data.audit.verdict import audit_result
    from unet_segmentation.data.data_source import DataSource
    from unet_segmentation.data.preparation.sample_inspection import IndexedSample, decode_for_display
    from unet_segmentation.reporting.audit_page import render_audit, sample_thumbnail

    findings = pd.concat([inspection_findings, split_findings], ignore_index=True)
    resolved = resolve_findings(findings, inspected, inspection)
    result = audit_result(resolved, inspected, label_map.names, masks, inspection)
    logger.info("Audit: %s", result.status)
    for message in result.messages:
        if message.startswith("warning: "):
            logger.warning(message.removeprefix("warning: "))
    data_source = DataSource.from_parameters(extracted.root, source, label_map.names, images, masks)
    rows = inspected.set_index("sample_id", drop=False)

    def thumbnail(sample_id: str) -> Image | None:
        if sample_id in packed:
            return sample_thumbnail(packed.image(sample_id), packed.mask(sample_id))
        sample = IndexedSample.from_row({str(name): value for name, value in rows.loc[sample_id].items()})
        return sample_thumbnail(*decode_for_display(sample, data_source))

    splits = samples.set_index("sample_id")["split"]
    page = render_audit(
        problem=problem,
        result=result,
        findings=resolved,
        samples=inspected.assign(split=inspected["sample_id"].map(splits)),
        source=source,
        classes=label_map.names,
        masks=masks,
        thumbnail=thumbnail,
    )
    return result, resolved.table, page


def enforce_audit(samples: pd.DataFrame, audit_result: AuditResult) -> pd.DataFrame:
    """Stop the run where the data cannot be trained on; else return the samples that are not set aside."""
    audit_result.raise_if_failed()
    return samples[~samples["sample_id"].isin(audit_result.set_aside)]


def compute_statistics(
    samples: pd.DataFrame, inspected: pd.DataFrame, label_map: LabelMap, images: ImageParameters
) -> DatasetStatistics:
    """Compute the statistics of the training split from the tables."""
    from unet_segmentation.data import statistics as dataset

    statistics = dataset.compute_statistics(samples, inspected, label_map.names, images)
    if absent := [name for name, share in statistics.class_shares.items() if share == 0]:
        logger.warning("No pixel of the training split is of: %s. What is not there is not learned", ", ".join(absent))
    return statistics
