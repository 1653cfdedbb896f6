"""Dice loss (Milletari et al. 2016, https://arxiv.org/abs/1606.04797)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from unet_segmentation.training.losses.base import SMOOTH, LossSettings, RegionLoss, register_loss

if TYPE_CHECKING:
    from torch import Tensor


@register_loss("dice")
class DiceLoss(RegionLoss):
    """The mean over classes of 1 - (2 sum(p t) + 1) / (sum p + sum t + 1).

    Without the squares in the denominator, as in nnU-Net.
    """

    formula = "mean over classes of 1 - (2 TP + 1) / (2 TP + FP + FN + 1)"
    source = "Milletari et al. 2016"

    class Settings(LossSettings):
        """`weight`: of the Dice loss in the sum."""

        weight: float = Field(default=1.0, ge=0)

    def from_sums(self, sums: Tensor, smooth: float = SMOOTH) -> Tensor:
        """Compute the loss from the sums by class."""
        true_positives, predicted, support = sums
        return 1.0 - ((2.0 * true_positives + smooth) / (predicted + support + smooth)).mean()
