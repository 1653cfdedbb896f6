"""Dice, Jaccard and Tversky losses: one ratio of sums per class, for the whole batch.

"Batch Dice", as in nnU-Net, smoothed by 1 as in the V-Net line of articles. A class that does not occur in the batch
stays in the mean, so that predicting it there costs something.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTH = 1.0


def overlap_sums(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Sum p t, p and t by class, over the pixels that are not ignored.

    Args:
        probabilities: p, (N, classes, H, W).
        truth: t, one-hot, bool, of the same shape; an ignored pixel has no class.

    Returns:
        (3, classes): right (p t), predicted (p), actual (t).
    """
    pixels = (0, 2, 3)
    valid = truth.any(dim=1, keepdim=True)
    right = (probabilities * truth).sum(pixels)
    return torch.stack([right, (probabilities * valid).sum(pixels), truth.sum(pixels).float()])


def dice(sums: Tensor, smooth: float = SMOOTH) -> Tensor:
    """Return the mean over classes of 1 - (2 sum(p t) + 1) / (sum p + sum t + 1).

    Milletari et al. 2016 (https://arxiv.org/abs/1606.04797), without the squares in the denominator, as in nnU-Net.
    """
    right, predicted, actual = sums
    return 1.0 - ((2.0 * right + smooth) / (predicted + actual + smooth)).mean()


def jaccard(sums: Tensor, smooth: float = SMOOTH) -> Tensor:
    """Return the mean over classes of 1 - (sum(p t) + 1) / (sum p + sum t - sum(p t) + 1).

    Rahman and Wang 2016 (https://doi.org/10.1007/978-3-319-50835-1_22).
    """
    right, predicted, actual = sums
    return 1.0 - ((right + smooth) / (predicted + actual - right + smooth)).mean()


def tversky(sums: Tensor, alpha: float, beta: float, smooth: float = SMOOTH) -> Tensor:
    """Return the mean over classes of 1 - (TP + 1) / (TP + alpha FP + beta FN + 1).

    Salehi et al. 2017 (https://arxiv.org/abs/1706.05721): TP = sum(p t), FP = sum p - TP, FN = sum t - TP. With alpha
    and beta 1 it is the Jaccard loss, with 1/2 the Dice loss but for the smoothing.
    """
    right, predicted, actual = sums
    wrong = alpha * (predicted - right) + beta * (actual - right)
    return 1.0 - ((right + smooth) / (right + wrong + smooth)).mean()
