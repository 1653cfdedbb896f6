"""The loss of a training: a weighted sum of losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unet_segmentation.parameters.training import LossParameters
from unet_segmentation.training.losses.cross_entropy import cross_entropy_sums, focal_sums, weighted_mean
from unet_segmentation.training.losses.lovasz import lovasz_softmax
from unet_segmentation.training.losses.ohem import ohem_cross_entropy
from unet_segmentation.training.losses.region import dice, jaccard, overlap_sums, tversky

IGNORED = 255
OVERLAPS = {"dice", "jaccard", "tversky"}

Reduce = Callable[[Tensor], Tensor]


def identity(sums: Tensor) -> Tensor:
    """Reduce nothing: the batch is all there is."""
    return sums


class CompositeLoss(nn.Module):
    """The weighted sum of the losses whose weight is above 0.

    Args:
        parameters: weights and settings of the losses.
        class_weights: one per class, for cross-entropy, focal loss and OHEM; None means 1 for each.
        reduce: is given a vector of all sums over pixels that the losses need, and gives it back summed over all
            processes that share a batch (differentiably): the losses, ratios of such sums, are then those of the whole
            batch. Called once for each loss in training mode, and not in evaluation mode, where processes need not
            have equally many batches. Lovasz-softmax and OHEM need more than sums: each process takes its own pixels.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        parameters: LossParameters | None = None,
        class_weights: list[float] | None = None,
        reduce: Reduce = identity,
    ) -> None:
        super().__init__()
        self.settings = parameters or LossParameters()
        self.reduce = reduce
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a float32 scalar.

        Args:
            logits: (N, classes, H, W), any floating dtype.
            target: (N, H, W) integer class ids, 255 = ignored.
        """
        with torch.autocast(logits.device.type, enabled=False):
            log_probabilities = logits.float().log_softmax(dim=1)
            losses = self._losses(log_probabilities, one_hot(target, logits.shape[1]))
            loss = log_probabilities.new_zeros(())
            for name, weight in self.settings.weights.items():
                loss = loss + weight * losses[name]()
            return loss

    def _losses(self, log_probabilities: Tensor, truth: Tensor) -> dict[str, Callable[[], Tensor]]:
        settings = self.settings
        sums = self._sums(log_probabilities, truth)
        return {
            "cross_entropy": lambda: weighted_mean(sums["cross_entropy"]),
            "dice": lambda: dice(sums["overlap"]),
            "jaccard": lambda: jaccard(sums["overlap"]),
            "tversky": lambda: tversky(sums["overlap"], settings.tversky_alpha, settings.tversky_beta),
            "focal": lambda: weighted_mean(sums["focal"]),
            "lovasz": lambda: lovasz_softmax(log_probabilities.exp(), truth),
            "ohem": lambda: ohem_cross_entropy(log_probabilities, truth, settings.ohem_fraction, self.class_weights),
        }

    def _sums(self, log_probabilities: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Sum over the pixels of the batch, once for all losses that need the same, and over the processes."""
        wanted = self.settings.weights.keys()
        sums: dict[str, Tensor] = {}
        if "cross_entropy" in wanted:
            sums["cross_entropy"] = cross_entropy_sums(log_probabilities, truth, self.class_weights)
        if "focal" in wanted:
            sums["focal"] = focal_sums(log_probabilities, truth, self.settings.focal_gamma, self.class_weights)
        if OVERLAPS & wanted:
            sums["overlap"] = overlap_sums(log_probabilities.exp(), truth)
        if not sums or not self.training:
            return sums
        parts = self.reduce(torch.cat([part.flatten() for part in sums.values()]))
        sizes = [part.numel() for part in sums.values()]
        return {name: part.view_as(sums[name]) for name, part in zip(sums, parts.split(sizes), strict=True)}


def one_hot(target: Tensor, classes: int) -> Tensor:
    """Turn class ids (N, H, W) into bool (N, classes, H, W); an ignored pixel belongs to no class."""
    ids = torch.arange(classes, device=target.device).view(1, -1, 1, 1)
    return target.unsqueeze(1) == ids
