"""What Dice, Jaccard and Tversky losses share: one ratio of sums per class, for the whole batch.

"Batch Dice", as in nnU-Net, smoothed by 1 as in the V-Net line of articles. A class that does not occur in the batch
stays in the mean, so that predicting it there costs something.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from unet_segmentation.training.losses.base import Loss, LossInputs

if TYPE_CHECKING:
    from torch import Tensor

SMOOTH = 1.0


class RegionLoss(Loss):
    """The mean over classes of 1 - a ratio of true positives, predicted pixels and the class's pixels."""

    sums_key = "region"

    def sums(self, inputs: LossInputs) -> Tensor:
        """Sum p t, p and t by class, see :func:`region_sums`."""
        return region_sums(inputs.log_probabilities.exp(), inputs.target)

    def compute(self, inputs: LossInputs, sums: Tensor | None) -> Tensor:
        """Compute the loss from the sums."""
        assert sums is not None
        return self.from_sums(sums)

    @abstractmethod
    def from_sums(self, sums: Tensor, smooth: float = SMOOTH) -> Tensor:
        """Compute the loss from what :func:`region_sums` returns."""


def region_sums(probabilities: Tensor, target: Tensor) -> Tensor:
    """Sum over the pixels that are not ignored: true positives (p t), predicted (p) and support (t), (3, classes).

    Args:
        probabilities: p, (N, classes, H, W).
        target: t, one-hot, bool, of the same shape; an ignored pixel has no class.
    """
    import torch

    pixels = (0, 2, 3)
    valid = target.any(dim=1, keepdim=True)
    true_positives = (probabilities * target).sum(pixels)
    return torch.stack([true_positives, (probabilities * valid).sum(pixels), target.sum(pixels).float()])
