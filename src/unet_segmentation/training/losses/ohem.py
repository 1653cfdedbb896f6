"""Online hard example mining: the cross-entropy of the hardest pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from unet_segmentation.training.losses.cross_entropy import pixel_cross_entropy, weighted_mean


def ohem_cross_entropy(
    log_probabilities: Tensor, truth: Tensor, share: float, class_weights: Tensor | None = None
) -> Tensor:
    """Return the weighted mean of -log p[truth] over the hardest pixels of the batch.

    Shrivastava et al. 2016 (https://arxiv.org/abs/1604.03540), for pixels as in Wu et al. 2016
    (https://arxiv.org/abs/1604.04339): the pixels with the largest w[truth] * -log p[truth], as many as the share,
    rounded up, of those that are not ignored. With share 1 it is the cross-entropy.

    It is no ratio of sums: several processes compute it each of their own share of the batch.

    Args:
        log_probabilities: p, (N, classes, H, W).
        truth: one-hot, bool, of the same shape; an ignored pixel has no class.
        share: above 0, at most 1.
        class_weights: w, one per class; None means 1 for each.

    Returns:
        A scalar; 0 where every pixel is ignored.
    """
    surprise, weight = (values.flatten() for values in pixel_cross_entropy(log_probabilities, truth, class_weights))
    valid = truth.any(dim=1).flatten()
    # sorted, not topk: how many is known to the device only, and to wait for it would cost time
    order = torch.where(valid, surprise.detach(), -1.0).argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    hardest = rank < (share * valid.sum()).ceil()
    return weighted_mean(torch.stack([(surprise * hardest).sum(), (weight * hardest).sum()]))
