"""The learning-rate range test: the loss while the learning rate rises with every step."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import lightning as L
import numpy as np
import pandas as pd
from torch import Tensor

from unet_segmentation.errors import ProjectError
from unet_segmentation.training.dry_run import dry_run
from unet_segmentation.training.lr_schedule import LearningRateTest
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.trainer import make_loaders
from unet_segmentation.training.training_inputs import TrainingSetup

logger = logging.getLogger(__name__)

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.9  # of the exponential moving average, corrected at the beginning as in Adam
FLAT = 1e-6  # a slope, as a share of the first loss, that is none
DIVERGED = 4.0  # times the best loss: nothing is learnt beyond


def find_learning_rate(plan: TrainingPlan, setup: TrainingSetup) -> LearningRateTest:
    """Train a network that is thrown away while the learning rate rises exponentially (Smith 2017, section 3.3).

    Batches, loss, optimizer, precision and clipping are those of the training; groups of parameters keep their
    relation (`encoder_lr_multiplier`).

    Raises:
        ProjectError: the loss never fell.
    """
    rates = np.geomspace(LOWEST, HIGHEST, STEPS).tolist()
    accumulate, current = plan.parameters.accumulate_grad_batches, plan.parameters.optimizer.learning_rate
    plan = plan.model_copy(update={"steps_per_epoch": STEPS * accumulate})
    rise = _Rise(rates, current, accumulate)
    dry_run(plan, setup, make_loaders(plan, setup)[0], None, rise)
    losses = smoothed(rise.losses)
    suggested = suggest_lr(rates, losses)
    logger.info(
        "suggested %.1e (now %.1e); use it with --params training.optimizer.learning_rate=%.1e",
        suggested,
        current,
        suggested,
    )
    tested = tuple(rates[: len(losses)])
    return LearningRateTest(suggested=suggested, current=current, rates=tested, losses=tuple(losses))


def smoothed(losses: Sequence[float], smoothing: float = SMOOTHING) -> list[float]:
    """Average exponentially over the steps so far; the first ones count no more than the others (Kingma, Ba 2015)."""
    return pd.Series(losses, dtype=float).ewm(alpha=1 - smoothing).mean().tolist()


def suggest_lr(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the learning rate where the smoothed loss falls most steeply over the logarithm of the learning rate.

    The "steep" rule of fastai (Howard, Gugger 2020); Smith reads the range from the same curve by eye.

    Raises:
        ProjectError: the loss falls nowhere.
    """
    slopes = np.gradient(losses, np.log(rates[: len(losses)])) if len(losses) > 1 else np.zeros(1)
    steepest = int(slopes.argmin())
    if not losses or slopes[steepest] >= -FLAT * abs(losses[0]):
        raise ProjectError(
            "No learning rate made the loss fall: see whether masks and images belong together (the audit shows them), "
            "or raise training.batch_size, so that the losses of the steps can be compared"
        )
    return float(rates[steepest])


class _Rise(L.Callback):
    """Sets the learning rate before each step of the optimizer, notes the loss, and stops where it diverges."""

    def __init__(self, rates: Sequence[float], current: float, accumulate: int) -> None:
        self.rates, self.current, self.accumulate = rates, current, accumulate
        self.losses: list[float] = []
        self.sum = 0.0

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: L.Trainer, task: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Set the rate; a group of parameters with a rate of its own keeps its relation to the others."""
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rates[batch_idx // self.accumulate] * group["initial_lr"] / self.current

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, task: L.LightningModule, outputs: dict[str, Tensor], batch: object, batch_idx: int
    ) -> None:
        """Note the loss, the mean over the batches of a step: Lightning has divided it by their number."""
        self.sum += float(outputs["loss"])
        if (batch_idx + 1) % self.accumulate:
            return
        if math.isfinite(self.sum):
            self.losses.append(self.sum)
            so_far = smoothed(self.losses)
            trainer.should_stop = so_far[-1] > DIVERGED * min(so_far)
        else:
            trainer.should_stop = True
        self.sum = 0.0
