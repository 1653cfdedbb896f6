"""A loss that became NaN or infinite."""

from __future__ import annotations

import math

import lightning as L

from unet_segmentation.errors import ProjectError
from unet_segmentation.training.lightning_module import SegmentationTask


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
