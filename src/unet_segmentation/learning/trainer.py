"""Training from a plan: what is set up, what happens at the end of each epoch, what stays on disk."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from unet_segmentation.atomic import remove, whole
from unet_segmentation.errors import ConfigurationError, ProjectError, ResourceError
from unet_segmentation.learning.batches import (
    LAYERS,
    Samples,
    TrainingPatches,
    ValidationTiles,
    stream,
    training_loader,
    validation_loader,
)
from unet_segmentation.learning.console import TrainingBar, duration, epoch_line, quiet_lightning, seconds_since_start
from unet_segmentation.learning.module import SegmentationTask
from unet_segmentation.learning.network import save_model

logger = logging.getLogger(__name__)

KEPT_FOLDERS = 3
PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
REPORTED = re.compile(r"(dice|iou)/(mean|foreground_mean)|accuracy/pixel|iou/class/.*")

ReportEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves.

    Attributes:
        best: the model of the epoch with the best validation score (:func:`network.load_model` reads it).
        last: the state after the last epoch: weights, optimizer, schedule, history.
        history: a row per epoch; ``epoch`` from 1, then the metrics.
    """

    best: Path
    last: Path
    history: pd.DataFrame


def fit(
    plan: dict[str, Any],
    network: nn.Module,
    specification: dict[str, Any],
    samples: Samples,
    recipe: dict[str, Any],
    folder: Path,
    report_epoch: ReportEpoch | None = None,
) -> TrainingResult:
    """Train a network as planned.

    Works in ``folder/<fingerprint>``, which is emptied first; ``best.safetensors``, ``last.ckpt`` and ``history.csv``
    appear there, each whole or absent, after every epoch. A few older folders of this kind are kept beside it.

    Args:
        plan: what :func:`plan.resolve_plan` returned.
        network: the network with its initial weights; is trained in place.
        specification: of the network.
        samples: packed images and masks.
        recipe: of the augmentation.
        folder: where working folders lie.
        report_epoch: is given each epoch (from 1) and its metrics, undefined ones left out.

    Raises:
        ProjectError: the loss became NaN or infinite.
        ConfigurationError: the batch is too small for the network.
        ResourceError: the device's memory does not suffice, or the disk is full.
        KeyboardInterrupt: Ctrl-C; what was written before stays.
        SystemExit: the process was told to terminate (status 143).
    """
    work = folder / plan["fingerprint"]
    remove(work)
    work.mkdir(parents=True)
    epochs = EpochKeeper(plan, specification, work, report_epoch)
    task = SegmentationTask(network, plan, specification["classes"])
    train, validation = _loaders(plan, specification, samples, recipe)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        for context in (_threads(plan["threads"]), _determinism(plan), quiet_lightning(), _interrupts()):
            stack.enter_context(context)
        stack.callback(epochs.close)
        stack.enter_context(_explained(plan))
        trainer = L.Trainer(
            accelerator=plan["accelerator"],
            devices=1,
            precision=PRECISIONS[plan["precision"]],
            max_epochs=plan["epochs"],
            callbacks=[epochs],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=work,
        )
        trainer.fit(task.to(memory_format=torch.channels_last), train, validation)
    _keep_newest(folder, KEPT_FOLDERS)
    return TrainingResult(epochs.best_path, epochs.last_path, epochs.history)


class EpochKeeper(L.Callback):
    """Measures, scores, keeps and reports each epoch; ends the training early where that is wanted.

    Its state travels in ``last.ckpt``.
    """

    def __init__(
        self, plan: dict[str, Any], specification: dict[str, Any], work: Path, report_epoch: ReportEpoch | None
    ) -> None:
        self.plan = plan
        self.specification = specification
        self.best_path, self.last_path, self.history_path = (
            work / name for name in ("best.safetensors", "last.ckpt", "history.csv")
        )
        self.report_epoch = report_epoch
        self.rows: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_score = -math.inf
        self.bar: TrainingBar | None = None
        self.epoch_started = self.steps_ended = 0.0
        self.train_loss = math.nan

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch."""
        return pd.DataFrame(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed training must know."""
        return {"rows": self.rows, "best_epoch": self.best_epoch, "best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of an interrupted training."""
        self.rows, self.best_epoch, self.best_score = (
            state_dict[name] for name in ("rows", "best_epoch", "best_score")
        )

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Say what begins, and how long it took to get there."""
        plan = self.plan
        logger.info(
            "training on %s in %s: %d samples, %d epochs of %d steps of %d patches of %d px",
            *(plan["accelerator"], {"32": "float32", "16": "float16"}.get(plan["precision"], "bfloat16")),
            *(len(plan["samples"]["train"]), plan["epochs"], plan["steps_per_epoch"]),
            *(plan["batch_size"], plan["patch_size"]),
        )
        logger.info("first training step %.1f s after the start", seconds_since_start())
        self.bar = TrainingBar(plan["epochs"] * plan["steps_per_epoch"], plan["epochs"])

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Start the clock, and key the randomness of layers (dropout) to the epoch."""
        torch.manual_seed(int(stream(self.plan["seed"], LAYERS, trainer.current_epoch).integers(2**63)))
        self.epoch_started = time.perf_counter()

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, task: SegmentationTask, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the progress bar, at most twice a second: reading the loss makes the device wait."""
        if self.bar is not None and self.bar.wants_refresh():
            done = batch_idx + 1
            speed = done * self.plan["batch_size"] / (time.perf_counter() - self.epoch_started)
            loss = float(task.loss_sum / task.loss_count)
            iou = f"iou {self.rows[-1]['validation/iou/mean']:.3f}  " if self.rows else ""
            left = duration(self._seconds_left(trainer.current_epoch, done, speed))
            numbers = f"loss {loss:.3f}  {iou}{speed:.0f} images/s  {left} left"
            self.bar.update(trainer.global_step, trainer.current_epoch + 1, numbers)

    def on_validation_start(self, trainer: L.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        """Stop the clock of the steps; a loss that is no number ends the training before anything is kept of it."""
        self.train_loss = task.read_loss()
        self.steps_ended = time.perf_counter()
        if not math.isfinite(self.train_loss):
            raise ProjectError(
                f"The training loss became {self.train_loss} in epoch {trainer.current_epoch + 1}. Lower "
                f"training.optimizer.learning_rate (now {self.plan['parameters']['optimizer']['learning_rate']:g}), "
                "raise training.schedule.warmup_share, set training.gradient_clip to 1, or train with "
                f"training.precision: 32 (now {self.plan['precision']})."
            )

    def on_train_epoch_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        """Score the epoch, keep it, tell of it."""
        scores = task.read_scores()
        epoch = trainer.current_epoch + 1
        step_seconds = self.steps_ended - self.epoch_started
        values = {
            "train/loss": self.train_loss,
            "validation/loss": scores.pop("loss"),
            **{f"validation/{name}": value for name, value in scores.items() if REPORTED.fullmatch(name)},
            "train/learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train/images_per_second": self.plan["steps_per_epoch"] * self.plan["batch_size"] / step_seconds,
        }
        best = self._keep_if_best(epoch, values, task)
        values["train/seconds"] = time.perf_counter() - self.epoch_started
        self.rows.append({"epoch": epoch, **values})
        with whole(self.history_path) as temporary:
            self.history.to_csv(temporary, index=False)
        with whole(self.last_path) as temporary:
            trainer.save_checkpoint(temporary)
        if self.report_epoch is not None:
            self.report_epoch(epoch, {name: value for name, value in values.items() if math.isfinite(value)})
        left = self._seconds_left(epoch, 0, 0.0)
        logger.info("%s", epoch_line(epoch, self.plan["epochs"], values, best=best, seconds_left=left))
        self._stop_early(trainer, epoch)

    def close(self) -> None:
        """Take the progress bar away, however the training ended."""
        if self.bar is not None:
            self.bar.close()

    def _keep_if_best(self, epoch: int, values: dict[str, float], task: SegmentationTask) -> bool:
        name = self.plan["parameters"]["score"]
        score = values[f"validation/{name}"]
        gain = self.plan["parameters"]["early_stopping"]["minimum_gain"] if self.best_epoch else 0.0
        if not (score > self.best_score + gain or not math.isfinite(self.best_score)):
            return False
        self.best_epoch, self.best_score = epoch, score if math.isfinite(score) else -math.inf
        save_model(
            self.best_path,
            task.kept_network,
            self.specification,
            epoch=epoch,
            scores={key: value for key, value in values.items() if math.isfinite(value)},
            fingerprint=self.plan["fingerprint"],
        )
        return True

    def _stop_early(self, trainer: L.Trainer, epoch: int) -> None:
        patience = self.plan["parameters"]["early_stopping"]["patience"]
        if patience is not None and epoch - self.best_epoch >= patience:
            logger.info("stopped early: nothing better than epoch %d for %d epochs", self.best_epoch, patience)
            trainer.should_stop = True

    def _seconds_left(self, epochs_done: int, steps_done: int, speed: float) -> float:
        """Estimate from the epochs so far; within the first epoch, from its steps alone."""
        steps = self.plan["steps_per_epoch"]
        if self.rows:
            per_epoch = sum(row["train/seconds"] for row in self.rows) / len(self.rows)
        else:
            per_epoch = steps * self.plan["batch_size"] / speed
        return per_epoch * (self.plan["epochs"] - epochs_done - steps_done / steps)


def _loaders(plan: dict[str, Any], specification: dict[str, Any], samples: Samples, recipe: dict[str, Any]) -> Any:  # noqa: ANN401
    patches = TrainingPatches(samples, plan["samples"]["train"], recipe, plan["patch_size"], plan["seed"])
    pixels = 2 * plan["batch_size"] * plan["patch_size"] ** 2  # no gradients: there is room for more
    tiles = ValidationTiles(samples, plan["samples"]["validation"], specification["multiple"], pixels)
    workers, pin_memory = plan["workers"], plan["accelerator"] == "cuda"
    train = training_loader(patches, plan["batch_size"], plan["steps_per_epoch"], workers, pin_memory)
    return train, validation_loader(tiles, min(workers, 2), pin_memory)


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _determinism(plan: dict[str, Any]) -> Iterator[None]:
    """Ask for deterministic algorithms. On a GPU some layers have none: there the rest is deterministic."""
    if not plan["parameters"]["deterministic"]:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    checks: Any = torch.utils.deterministic
    fill, benchmark = checks.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=plan["accelerator"] != "cpu")
    checks.fill_uninitialized_memory = False  # a check for bugs that costs time
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        checks.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _interrupts() -> Iterator[None]:
    """Let Ctrl-C be KeyboardInterrupt and a termination end with status 143; Lightning makes SystemExit of both."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise SystemExit(143) from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _explained(plan: dict[str, Any]) -> Iterator[None]:
    """Say what to do about errors that torch words for programmers."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigurationError(
            f"training.batch_size: {plan['batch_size']} patch of {plan['patch_size']} px leaves this network's batch "
            "normalisation a single value per channel; raise training.batch_size to 2 or more, or training.patch_size"
        ) from error
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"The memory of the device does not suffice for {plan['batch_size']} patches of {plan['patch_size']} px: "
            "lower training.batch_size or training.patch_size"
        ) from error


def _keep_newest(folder: Path, count: int) -> None:
    works = [path for path in folder.iterdir() if path.is_dir() and re.fullmatch(r"[0-9a-f]{16}", path.name)]
    for work in sorted(works, key=lambda path: path.stat().st_mtime, reverse=True)[count:]:
        remove(work)


def load_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give a network its initial weights.

    Raises:
        ProjectError: they belong to another network.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ProjectError(
            "The initial weights do not fit the network: run the node training.build_network again"
        ) from error
