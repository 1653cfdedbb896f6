"""What ends a training before its last epoch: nothing better for some epochs, or a loss that is not finite."""

from __future__ import annotations

import logging
import math

import lightning as L

from unet_segmentation.errors import ProjectError
from unet_segmentation.training.callbacks.best_model import BestModel
from unet_segmentation.training.lightning_module import SegmentationTask

logger = logging.getLogger(__name__)


class EarlyStopping(L.Callback):
    """Ends the training once no epoch was better than the best one for ``patience`` epochs; None never stops."""

    def __init__(self, patience: int | None, best_model: BestModel) -> None:
        self.patience = patience
        self.best_model = best_model

    def is_exhausted(self, epoch: int) -> bool:
        """Return whether the patience is exhausted after an epoch (from 1)."""
        return self.patience is not None and epoch - self.best_model.best_epoch >= self.patience

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Stop where the patience is exhausted."""
        if self.is_exhausted(trainer.current_epoch + 1):
            trainer.should_stop = True
            if trainer.is_global_zero:
                best_epoch = self.best_model.best_epoch
                logger.info("stopped early: nothing better than epoch %d for %d epochs", best_epoch, self.patience)


class NonFiniteLossGuard(L.Callback):
    """Stops a training with a NaN or infinite loss before anything of the epoch is saved."""

    def on_validation_epoch_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        """Raise a ProjectError, which names the parameters that help, where the loss of the steps is not finite."""
        if math.isfinite(task.train_loss):
            return
        plan = task.plan
        raise ProjectError(
            f"The training loss became {task.train_loss} in epoch {trainer.current_epoch + 1}. Lower "
            f"training.optimizer.learning_rate (now {plan.parameters.optimizer.learning_rate:g}), "
            "raise training.schedule.warmup_fraction, set training.gradient_clip_val to 1, or train with "
            f"training.precision: 32-true (now {plan.hardware.precision})."
        )
