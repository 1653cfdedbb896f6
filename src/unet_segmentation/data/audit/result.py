"""The result of the audit, as it is stored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from unet_segmentation.errors import DataError
from unet_segmentation.utils.strict_model import StrictModel


class SuggestedLine(StrictModel):
    """A line of `parameters.yml` that would settle findings.

    Attributes:
        kinds: of the findings.
        text: YAML.
        remark: what the suggestion rests on, or what else is possible.
    """

    kinds: tuple[str, ...]
    text: str
    remark: str


class AuditResult(StrictModel):
    """Return whether a data set can be trained on, and without which samples.

    Attributes:
        status: `failed` where an error remains that is neither allowed nor set aside.
        samples: number of samples inspected.
        set_aside: ids of the samples that are not to be used.
        allowed: the entries of `inspection.allow` that applied to a finding.
        counts: findings by severity, after errors were allowed or set aside.
        kinds: findings by kind.
        messages: one line for each kind of warning or note.
        values: share of the pixels by mask value, where the masks could be decoded.
        proposals: declarations that would settle the errors.
        message: why the audit failed; empty where it did not.
    """

    status: Literal["passed", "passed with warnings", "failed"]
    samples: int
    set_aside: tuple[str, ...]
    allowed: tuple[str, ...]
    counts: Mapping[str, int]
    kinds: Mapping[str, int]
    messages: tuple[str, ...]
    values: Mapping[str, float]
    proposals: tuple[SuggestedLine, ...]
    message: str = ""

    def raise_if_failed(self) -> None:
        """Raise where the data cannot be trained on.

        Raises:
            DataError: groups the errors by kind, lists files and values, and shows the YAML that would declare them.
        """
        if self.status == "failed":
            raise DataError(self.message)
