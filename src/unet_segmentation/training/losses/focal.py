"""Focal loss (Lin et al. 2017, https://arxiv.org/abs/1708.02002)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from unet_segmentation.training.losses.base import TINY, Loss, LossInputs, LossSettings, pixel_nll, register_loss

if TYPE_CHECKING:
    from torch import Tensor


@register_loss("focal")
class FocalLoss(Loss):
    """The cross-entropy, each pixel weighted by (1 - p[target])^gamma.

    Equations 4 and 5 of the paper, the class weights being its alpha, with the softmax in place of the sigmoid. With
    gamma 0 it is the cross-entropy.
    """

    formula = "sum(w (1 - p)^gamma -log p) / sum(w)"
    source = "Lin et al. 2017, with softmax"

    class Settings(LossSettings):
        """`gamma`: how much less the loss cares for pixels that are right already."""

        gamma: float = Field(default=2.0, ge=0)

    sums_key = "focal"

    settings: Settings

    def sums(self, inputs: LossInputs) -> Tensor:
        """Sum w[target] * -(1 - p[target])^gamma log p[target], and w[target]."""
        import torch

        log_probabilities, target, class_weights = inputs
        nll, weight = pixel_nll(log_probabilities, target, class_weights)
        error = -torch.expm1(torch.where(target, log_probabilities, 0.0).sum(dim=1))  # 1 - p, exact near p = 1
        # clamped: at 0 the slope of a power below 1 is infinite
        return torch.stack([(error.clamp(min=TINY) ** self.settings.gamma * nll).sum(), weight.sum()])
