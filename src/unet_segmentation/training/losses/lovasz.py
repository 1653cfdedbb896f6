"""Lovasz-softmax loss (Berman et al. 2018, https://arxiv.org/abs/1705.08790)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_segmentation.training.losses.base import Loss, LossInputs, register_loss

if TYPE_CHECKING:
    from torch import Tensor


@register_loss("lovasz")
class LovaszLoss(Loss):
    """The mean, over the classes that occur in the batch, of the Lovasz extension of their Jaccard loss.

    Equations 9 to 12 of the paper. With the errors of a class (1 - p where the pixel is of the class, p elsewhere) in
    falling order, it is their sum, each times the increase of the Jaccard loss when its pixel becomes a wrong one too.
    The paper takes differences of neighbors for that (algorithm 1); in closed form, with I the pixels of the class
    that are left and U the pixels of the class plus the others so far, the increase is 1 / U at a pixel of the class
    and I / (U (U - 1)) at another: nothing is lost to rounding.

    It is no ratio of sums: several processes compute it each of their own share of the batch.
    """

    formula = "Lovasz extension of the Jaccard loss, mean over the classes present"
    source = "Berman et al. 2018"

    def compute(self, inputs: LossInputs, sums: Tensor | None) -> Tensor:
        """Compute the loss; 0 where every pixel is ignored."""
        import torch

        probabilities, target = inputs.log_probabilities.exp(), inputs.target
        valid = target.any(dim=1, keepdim=True)
        errors = torch.where(valid, (target.float() - probabilities).abs(), 0.0)  # ignored: last, and 0 times anything
        errors, order = _by_class(errors).sort(dim=1, descending=True, stable=True)
        members = _by_class(target).gather(1, order)
        present = members.any(dim=1)
        return ((errors * _increase(members)).sum(dim=1) * present).sum() / present.sum().clamp(min=1)


def _by_class(pixels: Tensor) -> Tensor:
    return pixels.movedim(1, 0).flatten(1)


def _increase(members: Tensor) -> Tensor:
    """Compute by how much each pixel, in order, raises the Jaccard loss; (classes, pixels)."""
    import torch

    seen = members.cumsum(dim=1)  # of integers: exact, and deterministic on every device
    left = seen[:, -1:] - seen
    union = left + torch.arange(1, members.shape[1] + 1, device=members.device)
    before = (union - 1).clamp(min=1)
    return torch.where(members, 1.0, left / before) / union
