"""What a loss is: its settings, and how it is computed from a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from unet_segmentation.utils.registry import Registry
from unet_segmentation.utils.strict_model import StrictModel

if TYPE_CHECKING:
    from torch import Tensor


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

    @abstractmethod
    def compute(self, inputs: LossInputs, sums: Tensor | None) -> Tensor:
        """Compute the loss, a scalar; `sums` is None where the loss has no `sums_key`."""


LOSSES: Registry[type[Loss]] = Registry("training.loss", "unet_segmentation.training.losses")
register_loss = LOSSES.register
