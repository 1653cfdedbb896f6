"""What a person sees of a training: a line per epoch, and a progress bar on a terminal."""

from __future__ import annotations

import logging
import time

import lightning as L

from unet_segmentation.training.callbacks.best_model import BestModel
from unet_segmentation.training.callbacks.history import EpochHistory
from unet_segmentation.training.lightning_module import SegmentationTask
from unet_segmentation.training.progress import TrainingBar, duration, epoch_line, seconds_since_start

logger = logging.getLogger(__name__)


class ProgressCallback(L.Callback):
    """Logs a line per epoch and moves the progress bar; in the first process only."""

    def __init__(self, history: EpochHistory, best_model: BestModel) -> None:
        self.history = history
        self.best_model = best_model
        self.plan = history.plan
        self.bar: TrainingBar | None = None

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Log what is trained, and how long it took to get there."""
        if not trainer.is_global_zero:
            return
        plan = self.plan
        logger.info(
            "training on %s in %s: %d samples, %d epochs of %d steps of %d patches of %d px",
            plan.hardware.accelerator,
            {"32-true": "float32", "16-mixed": "float16"}.get(plan.hardware.precision, "bfloat16"),
            len(plan.samples["train"]),
            plan.epochs,
            plan.steps_per_epoch,
            plan.batch_size,
            plan.patch_size,
        )
        logger.info("first training step %.1f s after the start", seconds_since_start(), extra={"once": "first step"})
        self.bar = TrainingBar(plan.epochs * plan.steps_per_epoch, plan.epochs)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, task: SegmentationTask, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the progress bar, at most twice a second: reading the loss makes the device wait."""
        if self.bar is None or not self.bar.wants_refresh():
            return
        history, done, epoch = self.history, batch_idx + 1, trainer.current_epoch
        seconds = time.perf_counter() - history.epoch_started
        speed = (done - history.first_batch) * self.plan.batch_size / seconds
        loss = float(task.loss_sum / task.loss_count)
        iou = f"iou {history.rows[-1]['validation/iou/mean']:.3f}  " if history.rows else ""
        left = duration(history.seconds_left(epoch, done, speed))
        numbers = f"loss {loss:.3f}  {iou}{speed:.0f} images/s  {left} left"
        self.bar.update(epoch * self.plan.steps_per_epoch + done, epoch + 1, numbers)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Log the epoch."""
        if trainer.is_global_zero:
            epoch = trainer.current_epoch + 1
            best, left = self.best_model.best_epoch == epoch, self.history.seconds_left(epoch)
            line = epoch_line(epoch, self.plan.epochs, self.history.rows[-1], best=best, seconds_left=left)
            logger.info("%s", line)

    def close(self) -> None:
        """Remove the progress bar, however the training ended."""
        if self.bar is not None:
            self.bar.close()
