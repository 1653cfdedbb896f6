"""Checkpoints, and in which order files are written."""

from __future__ import annotations

import time

import lightning as L

from unet_segmentation.training.callbacks.best_model import BestModel
from unet_segmentation.training.callbacks.history import EpochHistory, EpochNotifier
from unet_segmentation.training.run_directory import RunDirectory
from unet_segmentation.utils.atomic_io import atomic_write, link_or_copy, remove


class CheckpointCallback(L.Callback):
    """Writes best model, history and checkpoint, each whole or not at all; then notifies the epoch listener.

    The checkpoint comes last: a training that resumes from it finds the other two at least as new.
    """

    def __init__(
        self, run_dir: RunDirectory, history: EpochHistory, best_model: BestModel, notifier: EpochNotifier
    ) -> None:
        self.run_dir = run_dir
        self.history = history
        self.best_model = best_model
        self.notifier = notifier
        self.plan = history.plan
        self.parameters = history.plan.parameters.checkpoint
        self.saved_at = time.perf_counter()
        self.saving_seconds = 0.0

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, task: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save within an epoch, between two steps of the optimizer: gradients are not saved."""
        every, batches = self.parameters.every_n_train_steps, batch_idx + 1
        if every is None or batches == self.plan.steps_per_epoch:
            return
        accumulate = self.plan.parameters.accumulate_grad_batches
        if batches % (-(-every // accumulate) * accumulate) == 0:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Save after the last epoch, and after others as far as the share of the time allows."""
        is_last = trainer.should_stop or trainer.current_epoch + 1 == self.plan.epochs
        share = self.parameters.max_time_fraction  # judged by the last checkpoint
        is_due = share == 1 or time.perf_counter() - self.saved_at >= self.saving_seconds / share
        if is_last or trainer.strategy.broadcast(is_due):
            self.save(trainer)
        trainer.should_stop = trainer.should_stop or self.notifier.stop_requested

    def save(self, trainer: L.Trainer) -> None:
        """Write all files."""
        started = time.perf_counter()
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.run_dir.last)  # takes part, writes nothing
            return
        self.best_model.save(self.run_dir.best)
        self.history.save(self.run_dir.history)
        with atomic_write(self.run_dir.last) as temporary:
            trainer.save_checkpoint(temporary)
            self._rotate()
        self.saved_at = time.perf_counter()
        self.saving_seconds = self.saved_at - started
        self.notifier.notify()

    def _rotate(self) -> None:
        older = self.parameters.keep_last_n - 1
        if older and self.run_dir.last.is_file():
            older_path = self.run_dir.folder / f"before-{len(self.history.rows):06d}.ckpt"
            remove(older_path)
            # not a rename: a kill now must not leave the training without one
            link_or_copy(self.run_dir.last, older_path)
        for path in sorted(self.run_dir.folder.glob("before-*.ckpt"))[: -older or None]:
            remove(path)
