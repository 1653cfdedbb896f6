"""Cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from unet_segmentation.training.losses.base import Loss, LossInputs, LossSettings, register_loss

if TYPE_CHECKING:
    from torch import Tensor


@register_loss("cross_entropy")
class CrossEntropyLoss(Loss):
    """The mean over the pixels that are not ignored of w[target] * -log p[target], weighted by w."""

    formula = "sum(w -log p) / sum(w)"

    class Settings(LossSettings):
        """`weight`: of the cross-entropy in the sum."""

        weight: float = Field(default=1.0, ge=0)

    sums_key = "cross_entropy"

    def sums(self, inputs: LossInputs) -> Tensor:
        """Sum w[target] * -log p[target], and w[target], over the pixels that are not ignored.

        Their ratio is torch's cross-entropy. The target enters as a one-hot product: indexing has no deterministic
        backward on CUDA.
        """
        import torch

        log_probabilities, target, class_weights = inputs
        weight = target if class_weights is None else target * class_weights.view(1, -1, 1, 1)
        # where, not a product: -inf * 0 would be NaN
        nll = -torch.where(target, log_probabilities, 0.0) * weight
        return torch.stack([nll.sum(), weight.sum().float()])
