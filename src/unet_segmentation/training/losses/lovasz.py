"""The Lovasz-softmax loss."""

from __future__ import annotations

import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return the mean, over the classes that occur in the batch, of the Lovasz extension of their Jaccard loss.

    Berman et al. 2018 (https://arxiv.org/abs/1705.08790, equations 9 to 12). With the errors of a class (1 - p where
    the pixel is of the class, p elsewhere) in falling order, it is their sum, each times the increase of the Jaccard
    loss when its pixel becomes a wrong one too. The article takes differences of neighbours for that (algorithm 1); in
    closed form, with I the pixels of the class that are left and U the pixels of the class plus the others so far, the
    increase is 1 / U at a pixel of the class and I / (U (U - 1)) at another: nothing is lost to rounding.

    It is no ratio of sums: several processes compute it each of their own share of the batch.

    Args:
        probabilities: (N, classes, H, W).
        truth: one-hot, bool, of the same shape; an ignored pixel has no class.

    Returns:
        A scalar; 0 where every pixel is ignored.
    """
    valid = truth.any(dim=1, keepdim=True)
    errors = torch.where(valid, (truth.float() - probabilities).abs(), 0.0)  # ignored: last, and 0 times anything
    errors, order = _by_class(errors).sort(dim=1, descending=True, stable=True)
    members = _by_class(truth).gather(1, order)
    present = members.any(dim=1)
    increase = _increase(members)
    return ((errors * increase).sum(dim=1) * present).sum() / present.sum().clamp(min=1)


def _by_class(pixels: Tensor) -> Tensor:
    return pixels.movedim(1, 0).flatten(1)


def _increase(members: Tensor) -> Tensor:
    """Compute by how much each pixel, in order, raises the Jaccard loss; (classes, pixels)."""
    seen = members.cumsum(dim=1)  # of integers: exact, and deterministic on every device
    left = seen[:, -1:] - seen
    union = left + torch.arange(1, members.shape[1] + 1, device=members.device)
    before = (union - 1).clamp(min=1)
    return torch.where(members, 1.0, left / before) / union
