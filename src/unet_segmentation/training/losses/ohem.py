"""Online hard example mining: the cross-entropy of the hardest pixels (https://arxiv.org/abs/1604.03540)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from unet_segmentation.training.losses.base import (
    Loss,
    LossInputs,
    LossSettings,
    pixel_nll,
    register_loss,
    weighted_mean,
)

if TYPE_CHECKING:
    from torch import Tensor


@register_loss("ohem")
class OhemLoss(Loss):
    """The weighted mean of -log p[target] over the hardest pixels of the batch.

    Shrivastava et al. 2016, for pixels as in Wu et al. 2016 (https://arxiv.org/abs/1604.04339): the pixels with the
    largest w[target] * -log p[target], as many as the fraction, rounded up, of those that are not ignored. With 1 it
    is the cross-entropy.

    It is no ratio of sums: several processes compute it each of their own share of the batch.
    """

    formula = "cross-entropy of the hardest fraction of the pixels"
    source = "Shrivastava et al. 2016, Wu et al. 2016"

    class Settings(LossSettings):
        """`fraction`: the hardest pixels of a batch, as a fraction of the pixels that are not ignored."""

        fraction: float = Field(default=0.25, gt=0, le=1)

    settings: Settings

    def compute(self, inputs: LossInputs, sums: Tensor | None) -> Tensor:
        """Compute the loss; 0 where every pixel is ignored."""
        import torch

        nll, weight = (values.flatten() for values in pixel_nll(*inputs))
        valid = inputs.target.any(dim=1).flatten()
        # sorted, not topk: only the device has the number, and to wait for it would cost time
        order = torch.where(valid, nll.detach(), -1.0).argsort(descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        hardest = rank < (self.settings.fraction * valid.sum()).ceil()
        return weighted_mean(torch.stack([(nll * hardest).sum(), (weight * hardest).sum()]))
