"""What a person sees of a training: a line per epoch, and a progress bar on a terminal."""

from __future__ import annotations

import logging
import time

import lightning as L
import psutil
import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from unet_segmentation.training.callbacks.best_model import BestModel
from unet_segmentation.training.callbacks.history import EpochHistory
from unet_segmentation.training.lightning_module import SegmentationTask

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5


class ProgressCallback(L.Callback):
    """Logs a line per epoch and moves the progress bar; in the first process only."""

    def __init__(self, history: EpochHistory, best_model: BestModel) -> None:
        self.history = history
        self.best_model = best_model
        self.plan = history.plan
        self.bar: Progress | None = None
        self.next_refresh = 0.0

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Log what is trained and how long it took to get there, and show the bar where there is a terminal."""
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
        seconds = time.time() - psutil.Process().create_time()
        logger.info("first training step %.1f s after the start", seconds, extra={"once": "first step"})
        if rich.get_console().is_terminal:
            self.bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"epoch {{task.fields[epoch]}}/{plan.epochs}"),
                TextColumn("{task.fields[numbers]}", markup=False),
                console=rich.get_console(),
                transient=True,
            )
            self.bar.add_task("training", total=plan.epochs * plan.steps_per_epoch, epoch=1, numbers="")
            self.bar.start()

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, task: SegmentationTask, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the progress bar, at most twice a second: reading the loss makes the device wait."""
        if self.bar is None or time.monotonic() < self.next_refresh:
            return
        history, done, epoch = self.history, batch_idx + 1, trainer.current_epoch
        speed = (done - history.first_batch) * self.plan.batch_size / (time.perf_counter() - history.epoch_started)
        loss = float(task.loss_sum / task.loss_count)
        iou = f"iou {history.rows[-1]['validation/iou/mean']:.3f}  " if history.rows else ""
        left = duration(history.seconds_left(epoch, done, speed))
        self.bar.update(
            self.bar.task_ids[0],
            completed=epoch * self.plan.steps_per_epoch + done,
            epoch=epoch + 1,
            numbers=f"loss {loss:.3f}  {iou}{speed:.0f} images/s  {left} left",
        )
        self.next_refresh = time.monotonic() + REFRESH_SECONDS

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
            self.bar.stop()


def epoch_line(epoch: int, epochs: int, values: dict[str, float], *, best: bool, seconds_left: float) -> str:
    """Format an epoch (from 1) and its metrics as one line."""
    parts = [
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}",
        f"loss {values['train/loss']:.3f}",
        f"dice {values['validation/dice/mean']:.3f}{' (best)' if best else ''}",
        f"iou {values['validation/iou/mean']:.3f}",
        f"{values['train/throughput']:.0f} images/s",
    ]
    return "  ".join(parts + ([f"{duration(seconds_left)} left"] if epoch < epochs else []))


def duration(seconds: float) -> str:
    """Format a duration as a person would: ``40 s``, ``7 min``, ``2 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
