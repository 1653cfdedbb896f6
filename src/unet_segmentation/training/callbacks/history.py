"""The history of a training: a row of metrics per epoch, and the call of the epoch listener once it is saved.

In ``kedro run`` the node ``train`` passes a listener that logs the metrics of the epoch to the MLflow run.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd

from unet_segmentation.training.lightning_module import SegmentationTask
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.utils.atomic_io import atomic_write
from unet_segmentation.utils.private_api import first_batch

RECORDED = re.compile(r"(dice|iou)/(mean|foreground_mean)|accuracy/pixel|iou/class/.*")  # scores in the history

# gets an epoch (from 1), its metrics and when it ended (seconds since 1970); True ends the training there
EpochListener = Callable[[int, dict[str, float], float], bool | None]


class EpochHistory(L.Callback):
    """Records a row per epoch: ``epoch`` (from 1) and its metrics."""

    state_key = "history"

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan = plan
        self.rows: list[dict[str, float]] = []
        self.end_times: list[float] = []  # seconds since 1970
        self.epoch_started = self.steps_ended = 0.0
        self.first_batch = 0  # of this epoch in this process: more than 0 after a resume within it

    def save(self, path: Path) -> None:
        """Save the rows as CSV."""
        with atomic_write(path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)

    def state_dict(self) -> dict[str, list[Any]]:
        """Return the rows."""
        return {"rows": self.rows, "end_times": self.end_times}

    def load_state_dict(self, state_dict: dict[str, list[Any]]) -> None:
        """Restore the rows."""
        self.rows, self.end_times = list(state_dict["rows"]), list(state_dict["end_times"])

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Start the clock where the training resumes within an epoch."""
        self.epoch_started = time.perf_counter()
        self.first_batch = first_batch(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Start the clock."""
        self.epoch_started = time.perf_counter()
        self.first_batch = 0

    def on_validation_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Stop the clock of the training steps."""
        self.steps_ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        """Record the epoch."""
        scores = task.validation_scores
        patches = (self.plan.steps_per_epoch - self.first_batch) * self.plan.batch_size
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "train/loss": task.train_loss,
                "validation/loss": scores["loss"],
                **{f"validation/{name}": value for name, value in scores.items() if RECORDED.fullmatch(name)},
                "train/learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "train/throughput": patches / (self.steps_ended - self.epoch_started),
                "train/epoch_seconds": time.perf_counter() - self.epoch_started,
            }
        )
        self.end_times.append(time.time())

    def seconds_left(self, epochs_done: int, steps_done: int = 0, images_per_second: float = 0.0) -> float:
        """Estimate the remaining time from the epochs so far; within the first epoch, from its steps alone."""
        steps = self.plan.steps_per_epoch
        if self.rows:
            epoch_seconds = sum(row["train/epoch_seconds"] for row in self.rows) / len(self.rows)
        else:
            epoch_seconds = steps * self.plan.batch_size / images_per_second
        return epoch_seconds * (self.plan.epochs - epochs_done - steps_done / steps)


class EpochNotifier:
    """Calls the listener for each epoch once its checkpoint is on disk, so that it hears of none that a kill undoes."""

    def __init__(self, history: EpochHistory, on_epoch_saved: EpochListener | None) -> None:
        self.history = history
        self.on_epoch_saved = on_epoch_saved
        self.notified = 0  # epochs
        self.stop_requested = False

    def notify(self) -> None:
        """Call the listener for the epochs that it has not heard of yet, without their undefined metrics."""
        epochs = list(zip(self.history.rows, self.history.end_times, strict=True))
        for row, end_time in epochs[self.notified :]:
            metrics = {name: value for name, value in row.items() if name != "epoch" and math.isfinite(value)}
            if self.on_epoch_saved is not None:
                self.stop_requested |= bool(self.on_epoch_saved(int(row["epoch"]), metrics, end_time))
        self.notified = len(self.history.rows)
