"""What happens at the end of each epoch: it is scored, kept and told of."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import pandas as pd
import torch
from torch import Tensor

from unet_segmentation.errors import ProjectError
from unet_segmentation.models.model_file import save_weights
from unet_segmentation.models.spec import ModelInfo, ModelSpec
from unet_segmentation.training.lightning_module import SegmentationTask
from unet_segmentation.training.patch_dataset import LAYERS, keyed_rng
from unet_segmentation.training.progress import TrainingBar, duration, epoch_line, seconds_since_start
from unet_segmentation.training.run_directory import RunDirectory
from unet_segmentation.utils.atomic_io import atomic_write, link_or_copy, remove

logger = logging.getLogger(__name__)

STATE = "epochs"  # where the keeper's state is found in a checkpoint
REPORTED = re.compile(r"(dice|iou)/(mean|foreground_mean)|accuracy/pixel|iou/class/.*")

Best = tuple[dict[str, Tensor], dict[str, Any]]  # weights, and what is said of them
# is given an epoch (from 1), its metrics and when it ended (seconds since 1970); True ends the training here
ReportEpoch = Callable[[int, dict[str, float], float], bool | None]


class EpochKeeper(L.Callback):
    """Measures, scores, keeps and reports each epoch; ends the training early where that is wanted.

    Its state travels in ``last.ckpt``. Where several processes train together, the first one writes and tells.

    Args:
        plan: of the training.
        specification: of the network.
        work: where files go.
        report_epoch: is told of each epoch.
    """

    def __init__(
        self, plan: dict[str, Any], specification: ModelSpec, work: RunDirectory, report_epoch: ReportEpoch | None
    ) -> None:
        self.plan = plan
        self.specification = specification
        self.work = work
        self.report_epoch = report_epoch
        self.rows: list[dict[str, float]] = []
        self.times: list[float] = []  # when each epoch ended
        self.best_epoch = 0
        self.best_score = -math.inf
        self.ended = False
        self.bar: TrainingBar | None = None
        self.epoch_started = self.steps_ended = 0.0
        self.first_batch = 0  # of this epoch in this process: more than 0 after a resume within it
        self.train_loss = math.nan
        self.unsaved_best: Best | None = None
        self.told = 0  # epochs
        self.told_to_end = False  # by whoever was told of an epoch
        self.kept_at = time.perf_counter()
        self.seconds_of_keeping = 0.0

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch."""
        return pd.DataFrame(self.rows)

    @property
    def state_key(self) -> str:
        """Where the state is found in a checkpoint."""
        return STATE

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training must know."""
        names = ("rows", "times", "best_epoch", "best_score", "ended")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of an interrupted training."""
        for name, value in state_dict.items():
            setattr(self, name, value)

    def take_up(self, state: dict[str, Any]) -> None:
        """Take up the state of an interrupted training, and tell of its epochs: telling twice changes nothing."""
        self.load_state_dict(state)
        self._tell()
        self.ended = len(self.rows) >= self.plan["epochs"] or self._without_gain(len(self.rows)) or self.told_to_end

    # -- Lightning's hooks

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Describe what begins, and how long it took to get there."""
        if not trainer.is_global_zero:
            return
        plan = self.plan
        logger.info(
            "training on %s in %s: %d samples, %d epochs of %d steps of %d patches of %d px",
            *(plan["accelerator"], {"32-true": "float32", "16-mixed": "float16"}.get(plan["precision"], "bfloat16")),
            *(len(plan["samples"]["train"]), plan["epochs"], plan["steps_per_epoch"]),
            *(plan["batch_size"], plan["patch_size"]),
        )
        logger.info("first training step %.1f s after the start", seconds_since_start(), extra={"once": "first step"})
        self.bar = TrainingBar(plan["epochs"] * plan["steps_per_epoch"], plan["epochs"])
        self.epoch_started = time.perf_counter()  # where the training goes on within an epoch
        self.first_batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Start the clock."""
        self.epoch_started = time.perf_counter()
        self.first_batch = 0

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: L.Trainer, task: SegmentationTask, batch: object, batch_idx: int
    ) -> None:
        """Key the randomness of layers (dropout) to the step: it is the same after a resume."""
        key = self.plan["seed"], LAYERS, trainer.current_epoch, batch_idx, trainer.global_rank
        torch.manual_seed(int(keyed_rng(*key).integers(2**63)))

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, task: SegmentationTask, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the progress bar, at most twice a second: reading the loss makes the device wait."""
        done = batch_idx + 1
        if self.bar is not None and self.bar.wants_refresh():
            speed = (done - self.first_batch) * self.plan["batch_size"] / (time.perf_counter() - self.epoch_started)
            loss = float(task.loss_sum / task.loss_count)
            iou = f"iou {self.rows[-1]['validation/iou/mean']:.3f}  " if self.rows else ""
            left = duration(self._seconds_left(trainer.current_epoch, done, speed))
            numbers = f"loss {loss:.3f}  {iou}{speed:.0f} images/s  {left} left"
            total = trainer.current_epoch * self.plan["steps_per_epoch"] + done
            self.bar.update(total, trainer.current_epoch + 1, numbers)
        if self._step_checkpoint_is_due(done):
            self._keep(trainer)

    def on_validation_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        """Stop the clock of the steps; a loss that is no number ends the training before anything is kept of it."""
        self.train_loss = task.pop_mean_loss()
        self.steps_ended = time.perf_counter()
        if not math.isfinite(self.train_loss):
            raise ProjectError(
                f"The training loss became {self.train_loss} in epoch {trainer.current_epoch + 1}. Lower "
                f"training.optimizer.learning_rate (now {self.plan['parameters']['optimizer']['learning_rate']:g}), "
                "raise training.schedule.warmup_fraction, set training.gradient_clip_val to 1, or train with "
                f"training.precision: 32-true (now {self.plan['precision']})."
            )

    def on_train_epoch_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        """Score the epoch, keep it, tell of it."""
        scores = task.pop_metrics()
        epoch = trainer.current_epoch + 1
        step_seconds = self.steps_ended - self.epoch_started
        patches = (self.plan["steps_per_epoch"] - self.first_batch) * self.plan["batch_size"]
        values = {
            "train/loss": self.train_loss,
            "validation/loss": scores.pop("loss"),
            **{f"validation/{name}": value for name, value in scores.items() if REPORTED.fullmatch(name)},
            "train/learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train/throughput": patches / step_seconds,
        }
        best = self._is_best(epoch, values)
        if best and trainer.is_global_zero:
            self.unsaved_best = self._copy_of_best(epoch, values, task)
        values["train/epoch_seconds"] = time.perf_counter() - self.epoch_started
        self.rows.append({"epoch": epoch, **values})
        self.times.append(time.time())
        self.ended = epoch == self.plan["epochs"] or self._without_gain(epoch)
        if trainer.is_global_zero:
            left = self._seconds_left(epoch, 0, 0.0)
            logger.info("%s", epoch_line(epoch, self.plan["epochs"], values, best=best, seconds_left=left))
        if self.ended or trainer.strategy.broadcast(self._checkpoint_is_due()):
            self._keep(trainer)
        if self._without_gain(epoch):
            logger.info("stopped early: nothing better than epoch %d for %d epochs", self.best_epoch, self._patience)
        trainer.should_stop = trainer.should_stop or self._without_gain(epoch) or self.told_to_end

    def close(self) -> None:
        """Take the progress bar away, however the training ended."""
        if self.bar is not None:
            self.bar.close()

    # -- the details

    @property
    def _patience(self) -> int | None:
        return self.plan["parameters"]["early_stopping"]["patience"]

    def _without_gain(self, epoch: int) -> bool:
        return self._patience is not None and epoch - self.best_epoch >= self._patience

    def _is_best(self, epoch: int, values: dict[str, float]) -> bool:
        name = self.plan["parameters"]["monitor"]
        score = values[f"validation/{name}"]
        gain = self.plan["parameters"]["early_stopping"]["min_delta"] if self.best_epoch else 0.0
        if not (score > self.best_score + gain or not math.isfinite(self.best_score)):
            return False
        self.best_epoch, self.best_score = epoch, score if math.isfinite(score) else -math.inf
        return True

    def _copy_of_best(self, epoch: int, values: dict[str, float], task: SegmentationTask) -> Best:
        information = {
            "epoch": epoch,
            "scores": {key: value for key, value in values.items() if math.isfinite(value)},
            "fingerprint": self.plan["fingerprint"],
        }
        weights = {name: value.detach().cpu().clone() for name, value in task.ema_network.state_dict().items()}
        return weights, information

    def _checkpoint_is_due(self) -> bool:
        """Whether a checkpoint now keeps within its share of the time, going by the last one."""
        share = self.plan["parameters"]["checkpoint"]["max_time_fraction"]
        return share == 1 or time.perf_counter() - self.kept_at >= self.seconds_of_keeping / share

    def _step_checkpoint_is_due(self, batches: int) -> bool:
        """Whether a checkpoint falls here, between two steps of the optimizer: gradients are not kept."""
        every = self.plan["parameters"]["checkpoint"]["every_n_train_steps"]
        if every is None or batches == self.plan["steps_per_epoch"]:
            return False
        accumulate = self.plan["accumulate_grad_batches"]
        return batches % (-(-every // accumulate) * accumulate) == 0

    def _keep(self, trainer: L.Trainer) -> None:
        """Write what is new, the checkpoint last, each file whole or not at all; then tell of the epochs in it."""
        began = time.perf_counter()
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.work.last)  # takes part, writes nothing
            return
        if self.unsaved_best is not None:
            weights, information = self.unsaved_best
            save_weights(self.work.best, weights, ModelInfo(self.specification, **information))
            self.unsaved_best = None
        with atomic_write(self.work.history) as temporary:
            self.history.to_csv(temporary, index=False)
        with atomic_write(self.work.last) as temporary:
            trainer.save_checkpoint(temporary)
            self._keep_older()
        self.kept_at = time.perf_counter()
        self.seconds_of_keeping = self.kept_at - began
        self._tell()

    def _tell(self) -> None:
        """Tell of the epochs that were not told of yet."""
        for row, when in list(zip(self.rows, self.times, strict=True))[self.told :]:
            self._report(row, when)
        self.told = len(self.rows)

    def _keep_older(self) -> None:
        older = self.plan["parameters"]["checkpoint"]["keep_last_n"] - 1
        if older and self.work.last.is_file():
            older_path = self.work.folder / f"before-{len(self.rows):06d}.ckpt"
            remove(older_path)
            link_or_copy(
                self.work.last, older_path
            )  # not a rename: a kill now must not leave the training without its last
        for path in sorted(self.work.folder.glob("before-*.ckpt"))[: -older or None]:
            remove(path)

    def _report(self, row: dict[str, float], when: float) -> None:
        if self.report_epoch is not None:
            values = {name: value for name, value in row.items() if name != "epoch" and math.isfinite(value)}
            self.told_to_end |= bool(self.report_epoch(int(row["epoch"]), values, when))

    def _seconds_left(self, epochs_done: int, steps_done: int, speed: float) -> float:
        """Estimate from the epochs so far; within the first epoch, from its steps alone."""
        steps = self.plan["steps_per_epoch"]
        if self.rows:
            per_epoch = sum(row["train/epoch_seconds"] for row in self.rows) / len(self.rows)
        else:
            per_epoch = steps * self.plan["batch_size"] / speed
        return per_epoch * (self.plan["epochs"] - epochs_done - steps_done / steps)
