"""What cross-entropy, focal loss and OHEM share: the negative log-likelihood by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TINY = 2.0**-126  # the smallest normal float32


def pixel_nll(log_probabilities: Tensor, target: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute w[target] * -log p[target] and w[target] of each pixel, both float32 (N, H, W); 0 where ignored."""
    import torch

    weight = target.float() if class_weights is None else target * class_weights.view(1, -1, 1, 1)
    nll = -torch.where(target, log_probabilities, 0.0) * weight
    return nll.sum(dim=1), weight.sum(dim=1)


def weighted_mean(sums: Tensor) -> Tensor:
    """Divide the first of two sums by the second; 0 where both are."""
    return sums[0] / sums[1].clamp(min=TINY)
