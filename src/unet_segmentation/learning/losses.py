"""Cross-entropy plus Dice, computed in float32, with ignored pixels masked in both."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

IGNORED = 255
SMOOTH = 1.0


class SegmentationLoss(nn.Module):
    """``cross_entropy * CE + dice * Dice``.

    With class probabilities p (softmax of the logits), one-hot truth t, and sums over all pixels of the batch that
    are not ignored:

    * CE = sum(w[truth] * -log p[truth]) / sum(w[truth]), torch's weighted mean; 0 where every pixel is ignored.
    * Dice = mean over all classes of 1 - (2 sum(p t) + 1) / (sum p + sum t + 1): one ratio per class for the whole
      batch ("batch Dice", as in nnU-Net), smoothed by 1 as in the V-Net line of articles. A class that does not occur
      in the batch stays in the mean, so that predicting it there costs something.

    The truth enters as a one-hot product rather than by indexing: gathering has no deterministic backward on CUDA.

    Args:
        cross_entropy: weight of CE.
        dice: weight of Dice.
        class_weights: w, one per class; None means 1 for each.
    """

    class_weights: Tensor | None

    def __init__(self, cross_entropy: float = 1.0, dice: float = 1.0, class_weights: list[float] | None = None) -> None:
        super().__init__()
        self.cross_entropy = cross_entropy
        self.dice = dice
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Give the loss, a float32 scalar.

        Args:
            logits: (N, classes, H, W), any floating dtype.
            target: (N, H, W) integer class ids, 255 = ignored.
        """
        with torch.autocast(logits.device.type, enabled=False):
            log_probabilities = logits.float().log_softmax(dim=1)
            truth = one_hot(target, logits.shape[1])
            loss = log_probabilities.new_zeros(())
            if self.cross_entropy:
                loss = loss + self.cross_entropy * cross_entropy(log_probabilities, truth, self.class_weights)
            if self.dice:
                loss = loss + self.dice * batch_dice(log_probabilities.exp(), truth)
            return loss


def one_hot(target: Tensor, classes: int) -> Tensor:
    """Turn class ids (N, H, W) into bool (N, classes, H, W); an ignored pixel belongs to no class."""
    ids = torch.arange(classes, device=target.device).view(1, -1, 1, 1)
    return target.unsqueeze(1) == ids


def cross_entropy(log_probabilities: Tensor, truth: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Weighted mean of -log p[truth] over the pixels that are not ignored; both inputs (N, classes, H, W)."""
    weight = truth if class_weights is None else truth * class_weights.view(1, -1, 1, 1)
    # where, not a product: -inf * 0 would be NaN
    surprise = -torch.where(truth, log_probabilities, 0.0) * weight
    return surprise.sum() / weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


def batch_dice(probabilities: Tensor, truth: Tensor, smooth: float = SMOOTH) -> Tensor:
    """One minus the mean over classes of the batch's Dice; both inputs (N, classes, H, W)."""
    pixels = (0, 2, 3)
    valid = truth.any(dim=1, keepdim=True)
    intersection = (probabilities * truth).sum(pixels)
    total = (probabilities * valid).sum(pixels) + truth.sum(pixels)
    return 1.0 - ((2.0 * intersection + smooth) / (total + smooth)).mean()


def automatic_class_weights(shares: list[float]) -> list[float]:
    """Weigh rare classes more: w = 1 / ln(1.02 + share), brought to a mean of 1.

    The formula of ENet (Paszke et al. 2016, https://arxiv.org/abs/1606.02147): bounded, unlike the inverse share.

    Args:
        shares: of each class among the pixels of the training split, summing to 1.
    """
    weights = [1.0 / math.log(1.02 + share) for share in shares]
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]
