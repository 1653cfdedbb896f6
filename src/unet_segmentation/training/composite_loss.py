"""The loss of a training: a weighted sum of losses, in float32, over all processes that share a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unet_segmentation.parameters.loss import LossParameters
from unet_segmentation.training.losses.base import LOSSES, LossInputs


class CompositeLoss(nn.Module):
    """The weighted sum of the losses whose weight is above 0; class weights are one per class, None is 1 for each.

    In training mode, all sums over pixels that the losses need are summed over the processes that share a batch, in one
    exchange: the losses, ratios of such sums, are then those of the whole batch. Not in evaluation mode, where
    processes need not have equally many batches. Lovasz-softmax and OHEM need more than sums: each process takes its
    own pixels.
    """

    class_weights: Tensor | None

    def __init__(self, parameters: LossParameters | None = None, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        parameters = parameters or LossParameters()
        self.losses = [(LOSSES[name](parameters.settings(name)), weight) for name, weight in parameters.weights.items()]
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss, a float32 scalar.

        Args:
            logits: (N, classes, H, W), any floating dtype.
            target: (N, H, W) integer class ids, 255 = ignored.
        """
        with torch.autocast(logits.device.type, enabled=False):
            log_probabilities = logits.float().log_softmax(dim=1)
            inputs = LossInputs(log_probabilities, one_hot(target, logits.shape[1]), self.class_weights)
            sums = self._sums(inputs)
            total = log_probabilities.new_zeros(())
            for loss, weight in self.losses:
                total = total + weight * loss.compute(inputs, sums.get(loss.sums_key))
            return total

    def _sums(self, inputs: LossInputs) -> dict[str | None, Tensor]:
        """Sum over the pixels of the batch, once for all losses that need the same, and over the processes."""
        sums: dict[str | None, Tensor] = {}
        for loss, _ in self.losses:
            if loss.sums_key is not None and loss.sums_key not in sums:
                sums[loss.sums_key] = loss.sums(inputs)
        if not sums or not self.training:
            return sums
        reduced = all_reduce_sum(torch.cat([part.flatten() for part in sums.values()]))
        sizes = [part.numel() for part in sums.values()]
        return {name: part.view_as(sums[name]) for name, part in zip(sums, reduced.split(sizes), strict=True)}


class _Sum(torch.autograd.Function):
    """The sum over all processes, from which every process computes the same loss.

    Gradients of the weights are averaged over processes afterwards, so that what flows back here counts once for each.
    """

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:  # noqa: ANN401 - autograd's
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override] # noqa: ANN401
        return gradient * torch.distributed.get_world_size()


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over all processes that train together; differentiable. The values themselves where there is only one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    return _Sum.apply(values)


def one_hot(target: Tensor, classes: int) -> Tensor:
    """Turn class ids (N, H, W) into bool (N, classes, H, W); an ignored pixel belongs to no class."""
    ids = torch.arange(classes, device=target.device).view(1, -1, 1, 1)
    return target.unsqueeze(1) == ids
