"""Bootstrap confidence intervals, wherever scores or differences of scores get one."""

from typing import Literal

from pydantic import Field

from unet_segmentation.parameters.base import StrictModel


class BootstrapParameters(StrictModel):
    """How the intervals of scores, and of differences between runs, are computed.

    Attributes:
        method: `bca`, corrected for bias and skewness, or `percentile`. Differences between two runs take `bca`.
        confidence: share of the intervals, over many test splits, that contain the true value.
        resamples: how many times the images (or groups) are drawn.
        seed: of the drawing, and of permutation tests.
    """

    method: Literal["bca", "percentile"] = "bca"
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    resamples: int = Field(default=10_000, ge=100, le=1_000_000)
    seed: int = Field(default=0, ge=0)
