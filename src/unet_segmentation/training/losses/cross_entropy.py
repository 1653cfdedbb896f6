"""Cross-entropy and focal loss: weighted means over pixels, each a ratio of two sums."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny


def cross_entropy_sums(log_probabilities: Tensor, truth: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Sum w[truth] * -log p[truth], and w[truth], over the pixels that are not ignored.

    Their ratio (:func:`weighted_mean`) is torch's cross-entropy. The truth enters as a one-hot product rather than by
    indexing: gathering has no deterministic backward on CUDA.

    Args:
        log_probabilities: p, (N, classes, H, W).
        truth: one-hot, bool, of the same shape; an ignored pixel has no class.
        class_weights: w, one per class; None means 1 for each.

    Returns:
        (2,): both sums.
    """
    weight = truth if class_weights is None else truth * class_weights.view(1, -1, 1, 1)
    # where, not a product: -inf * 0 would be NaN
    surprise = -torch.where(truth, log_probabilities, 0.0) * weight
    return torch.stack([surprise.sum(), weight.sum().float()])


def focal_sums(log_probabilities: Tensor, truth: Tensor, gamma: float, class_weights: Tensor | None = None) -> Tensor:
    """Sum w[truth] * -(1 - p[truth])^gamma log p[truth], and w[truth], over the pixels that are not ignored.

    The focal loss of Lin et al. 2017 (https://arxiv.org/abs/1708.02002, equations 4 and 5, the weight by class being
    their alpha) with the softmax in place of the sigmoid. With gamma 0 it is the cross-entropy.

    Args: as for :func:`cross_entropy_sums`.

    Returns:
        (2,): both sums.
    """
    surprise, weight = pixel_cross_entropy(log_probabilities, truth, class_weights)
    wrongness = -torch.expm1(torch.where(truth, log_probabilities, 0.0).sum(dim=1))  # 1 - p, exact near p = 1
    # clamped: at 0 the slope of a power below 1 is infinite
    return torch.stack([(wrongness.clamp(min=TINY) ** gamma * surprise).sum(), weight.sum()])


def pixel_cross_entropy(
    log_probabilities: Tensor, truth: Tensor, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return w[truth] * -log p[truth] and w[truth] of each pixel, two float32 tensors (N, H, W); 0 where ignored."""
    weight = truth.float() if class_weights is None else truth * class_weights.view(1, -1, 1, 1)
    surprise = -torch.where(truth, log_probabilities, 0.0) * weight
    return surprise.sum(dim=1), weight.sum(dim=1)


def weighted_mean(sums: Tensor) -> Tensor:
    """Divide the first of two sums by the second; 0 where both are."""
    return sums[0] / sums[1].clamp(min=TINY)
