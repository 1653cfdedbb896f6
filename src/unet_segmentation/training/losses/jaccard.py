"""Jaccard (IoU) loss (Rahman and Wang 2016, https://doi.org/10.1007/978-3-319-50835-1_22)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_segmentation.training.losses.base import SMOOTH, RegionLoss, register_loss

if TYPE_CHECKING:
    from torch import Tensor


@register_loss("jaccard")
class JaccardLoss(RegionLoss):
    """The mean over classes of 1 - (sum(p t) + 1) / (sum p + sum t - sum(p t) + 1)."""

    formula = "mean over classes of 1 - (TP + 1) / (TP + FP + FN + 1)"
    source = "Rahman and Wang 2016"

    def from_sums(self, sums: Tensor, smooth: float = SMOOTH) -> Tensor:
        """Compute the loss from the sums by class."""
        true_positives, predicted, support = sums
        return 1.0 - ((true_positives + smooth) / (predicted + support - true_positives + smooth)).mean()
