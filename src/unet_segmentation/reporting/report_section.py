"""What the nodes of the report pass on to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReportSection:
    """A part of the report.

    Attributes:
        blocks: HTML by the name of its place on the page.
        charts: Plotly figures as JSON, by the name of their element.
    """

    blocks: Mapping[str, str]
    charts: Mapping[str, str] = field(default_factory=dict)
