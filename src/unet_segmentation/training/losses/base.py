"""What a loss is: its settings, and how it is computed from a batch; and what several losses share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from unet_segmentation.utils.registry import Registry
from unet_segmentation.utils.strict_model import StrictModel

if TYPE_CHECKING:
    from torch import Tensor

TINY = 2.0**-126  # the smallest normal float32
SMOOTH = 1.0  # of region losses, as in the V-Net line of articles


class LossInputs(NamedTuple):
    """A batch as losses take it."""

    log_probabilities: Tensor  # log p, float32 (N, classes, H, W)
    target: Tensor  # one-hot, bool, of the same shape; an ignored pixel has no class
    class_weights: Tensor | None = None  # one per class, for the losses that weigh classes; None means 1 for each


class LossSettings(StrictModel):
    """Settings of a loss. In `training.loss`, `weight` has the loss's own name and `x` is `<loss>_x`."""

    weight: float = Field(default=0.0, ge=0)


class Loss(ABC):
    """A loss of a batch.

    A ratio of sums over pixels says so by `sums`: several processes then add theirs up before `compute`, and the loss
    is that of the whole batch. Losses that name the same `sums_key` share one computation of their sums.
    """

    formula: ClassVar[str]  # for the docs, with p the probability of the target class and w its weight
    source: ClassVar[str] = ""  # of the formula, for the docs
    Settings: ClassVar[type[LossSettings]] = LossSettings
    sums_key: ClassVar[str | None] = None

    def __init__(self, settings: Any) -> None:  # noqa: ANN401 - of the class `Settings`
        self.settings = settings

    def sums(self, inputs: LossInputs) -> Tensor:
        """Compute the sums over the batch's pixels; only called where `sums_key` is set."""
        raise NotImplementedError

    def compute(self, inputs: LossInputs, sums: Tensor | None) -> Tensor:
        """Compute the loss, a scalar: the first of two sums by the second, if the loss says nothing else.

        `sums` is None where the loss has no `sums_key`.
        """
        assert sums is not None
        return weighted_mean(sums)


class RegionLoss(Loss):
    """The mean over classes of 1 - a ratio of true positives, predicted pixels and the class's pixels.

    One ratio per class for the whole batch ("batch Dice", as in nnU-Net). A class that does not occur in the batch
    stays in the mean, so that predicting it there costs something.
    """

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


def pixel_nll(log_probabilities: Tensor, target: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute w[target] * -log p[target] and w[target] of each pixel, both float32 (N, H, W); 0 where ignored."""
    import torch

    weight = target.float() if class_weights is None else target * class_weights.view(1, -1, 1, 1)
    nll = -torch.where(target, log_probabilities, 0.0) * weight
    return nll.sum(dim=1), weight.sum(dim=1)


def weighted_mean(sums: Tensor) -> Tensor:
    """Divide the first of two sums by the second; 0 where both are."""
    return sums[0] / sums[1].clamp(min=TINY)


LOSSES: Registry[type[Loss]] = Registry("training.loss", "unet_segmentation.training.losses")
register_loss = LOSSES.register
