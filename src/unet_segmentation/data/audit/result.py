"""The result of the audit, as it is stored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from unet_segmentation.errors import DataError
from unet_segmentation.utils.strict_model import StrictModel


class SuggestedLine(StrictModel):
    """A line of `parameters.yml` that would resolve findings."""

    kinds: tuple[str, ...]  # of the findings
    text: str  # YAML
    remark: str  # what the suggestion rests on, or what else is possible


class AuditResult(StrictModel):
    """Whether a data set can be trained on, and without which samples."""

    status: Literal["passed", "passed with warnings", "failed"]  # failed: an error is neither allowed nor set aside
    samples: int  # that were inspected
    set_aside: tuple[str, ...]  # ids of the samples that are not to be used
    allowed: tuple[str, ...]  # the entries of `inspection.allow` that applied to a finding
    counts: Mapping[str, int]  # findings by severity, after errors were allowed or set aside
    kinds: Mapping[str, int]  # findings by kind
    messages: tuple[str, ...]  # one line for each kind of warning or note
    values: Mapping[str, float]  # share of the pixels by mask value, where the masks could be decoded
    proposals: tuple[SuggestedLine, ...]  # declarations that would resolve the errors
    message: str = ""  # why the audit failed

    def raise_if_failed(self) -> None:
        """Raise a `DataError` where the data cannot be trained on: the errors by kind, and what to declare."""
        if self.status == "failed":
            raise DataError(self.message)
