"""Tversky loss (Salehi et al. 2017, https://arxiv.org/abs/1706.05721)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from unet_segmentation.training.losses.base import SMOOTH, LossSettings, RegionLoss, register_loss

if TYPE_CHECKING:
    from torch import Tensor


@register_loss("tversky")
class TverskyLoss(RegionLoss):
    """The mean over classes of 1 - (TP + 1) / (TP + alpha FP + beta FN + 1).

    TP = sum(p t), FP = sum p - TP, FN = sum t - TP. With alpha and beta 1 it is the Jaccard loss, with 1/2 the Dice
    loss but for the smoothing.
    """

    formula = "mean over classes of 1 - (TP + 1) / (TP + alpha FP + beta FN + 1)"
    source = "Salehi et al. 2017"

    class Settings(LossSettings):
        """`alpha`: what a false positive costs; `beta`: what a false negative costs."""

        alpha: float = Field(default=0.3, ge=0)
        beta: float = Field(default=0.7, ge=0)

    settings: Settings

    def from_sums(self, sums: Tensor, smooth: float = SMOOTH) -> Tensor:
        """Compute the loss from the sums by class."""
        true_positives, predicted, support = sums
        false_positives, false_negatives = predicted - true_positives, support - true_positives
        errors = self.settings.alpha * false_positives + self.settings.beta * false_negatives
        return 1.0 - ((true_positives + smooth) / (true_positives + errors + smooth)).mean()
