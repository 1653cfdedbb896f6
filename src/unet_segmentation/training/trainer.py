"""Training from a plan: the Lightning Trainer with its callbacks, in one process or several."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch.utils.data import DataLoader

from unet_segmentation.training import ddp
from unet_segmentation.training.callbacks.best_model import BestModel
from unet_segmentation.training.callbacks.checkpoint import CheckpointCallback
from unet_segmentation.training.callbacks.early_stopping import EarlyStopping, NonFiniteLossGuard
from unet_segmentation.training.callbacks.history import EpochHistory, EpochListener, EpochNotifier
from unet_segmentation.training.callbacks.keyed_seed import KeyedLayerSeed
from unet_segmentation.training.callbacks.progress import ProgressCallback
from unet_segmentation.training.lightning_module import SegmentationTask
from unet_segmentation.training.patch_dataset import (
    Batch,
    PatchDataset,
    TileDataset,
    training_loader,
    validation_loader,
)
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.run_directory import RunDirectory, prune_run_directories
from unet_segmentation.training.runtime import training_runtime
from unet_segmentation.training.training_inputs import TrainingSetup
from unet_segmentation.utils.private_api import ignore_in_ddp, processed_batches

logger = logging.getLogger(__name__)

# After so long a wait for another process all are started again from the last checkpoint. torch's half an hour is too
# long: where all start at once, gloo's connections now and then never come about (seen once on a busy machine).
DDP_TIMEOUT = timedelta(minutes=5)


class StreamingCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to its file, where Lightning would write it to memory first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write; the file is renamed later, when it is whole."""
        torch.save(checkpoint, path)


def run_training(
    plan: TrainingPlan,
    setup: TrainingSetup,
    folder: Path,
    on_epoch_saved: EpochListener | None = None,
    *,
    resume: bool = False,
    rendezvous: str | None = None,
) -> RunDirectory:
    """Train a network as planned, and return the run directory with model, checkpoint and history.

    Args:
        plan: a finalized plan.
        setup: what is trained.
        folder: of the run directories; a few older ones stay.
        on_epoch_saved: called for each epoch whose checkpoint is on disk, with its number (from 1), its metrics
            (undefined ones left out) and when it ended; after a resume also for those before. If it returns True the
            training ends there (in one process).
        resume: resume from the last checkpoint of the run directory, where there is one. Otherwise it is emptied first.
        rendezvous: ``address:port`` of this host, where others join the training.

    Raises:
        ProjectError: the loss became NaN or infinite; the last checkpoint is damaged; another process works at this
            very training; or the initial weights belong to another network.
        ConfigurationError: the batch is too small for the network.
        ResourceError: the device's memory does not suffice, or the disk is full.
        KeyboardInterrupt: Ctrl-C; what was written before stays.
        SystemExit: the process was terminated (status 143).
    """
    run_dir = RunDirectory(folder, plan.fingerprint)
    with run_dir.lock():
        if not resume or not run_dir.plan_path.is_file():
            run_dir.initialize(plan)
        if plan.hardware.world_size > 1:
            ddp.launch(plan, setup, run_dir, on_epoch_saved, rendezvous)
        else:
            train_in_process(plan, setup, run_dir, on_epoch_saved)
        prune_run_directories(folder)
    return run_dir


class TrainingCallbacks:
    """The callbacks of a training, in the order in which Lightning calls them."""

    def __init__(
        self, plan: TrainingPlan, setup: TrainingSetup, run_dir: RunDirectory, on_epoch_saved: EpochListener | None
    ) -> None:
        self.seed = KeyedLayerSeed(plan.parameters.seed)
        self.loss_guard = NonFiniteLossGuard()
        self.history = history = EpochHistory(plan)
        self.best_model = best_model = BestModel(setup.spec, history)
        self.progress = ProgressCallback(history, best_model)
        self.early_stopping = EarlyStopping(plan.parameters.early_stopping.patience, best_model)
        notifier = EpochNotifier(history, on_epoch_saved)
        self.checkpoint = CheckpointCallback(run_dir, history, best_model, notifier)

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Restore the callbacks and notify the listener of the recorded epochs again (logging is idempotent)."""
        states = checkpoint["callbacks"]
        self.history.load_state_dict(states[self.history.state_key])
        self.best_model.load_state_dict(states[self.best_model.state_key])
        self.checkpoint.notifier.notify()

    def is_training_complete(self) -> bool:
        """Return whether the recorded epochs are all that there will be: planned, stopped early or by the listener."""
        epochs, total = len(self.history.rows), self.history.plan.epochs
        return epochs >= total or self.early_stopping.is_exhausted(epochs) or self.checkpoint.notifier.stop_requested


def train_in_process(
    plan: TrainingPlan, setup: TrainingSetup, run_dir: RunDirectory, on_epoch_saved: EpochListener | None
) -> None:
    """Train in this process, from the last checkpoint if there is one."""
    callbacks = TrainingCallbacks(plan, setup, run_dir, on_epoch_saved)
    checkpoint = run_dir.load_checkpoint()
    if checkpoint is not None:
        callbacks.restore(checkpoint)
        complete, epochs = callbacks.is_training_complete(), len(callbacks.history.rows)
        words = "trained already: %d of %d epochs" if complete else "resuming after epoch %d of %d"
        logger.info(words, epochs, plan.epochs)
        if complete:
            return
    loaders = make_loaders(plan, setup)
    if checkpoint is not None:
        sampler: Any = loaders[0].sampler
        sampler.skip_batches(checkpoint["epoch"], processed_batches(checkpoint) % plan.steps_per_epoch)
    with training_runtime(plan):
        try:
            task = build_task(plan, setup)
            trainer = make_trainer(plan, task, callbacks, run_dir)
            trainer.fit(task, *loaders, ckpt_path=run_dir.last if checkpoint else None, weights_only=True)
        finally:
            callbacks.progress.close()


def build_task(plan: TrainingPlan, setup: TrainingSetup) -> SegmentationTask:
    """Build what is trained: the network with its initial weights, channels-last, and compiled where the plan says."""
    task = SegmentationTask(setup.build_network(), plan, list(setup.spec.classes))
    if plan.parameters.compile:
        task.network.compile()  # in place: the names of the weights stay
    return task.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def make_trainer(
    plan: TrainingPlan, task: SegmentationTask, callbacks: TrainingCallbacks, run_dir: RunDirectory
) -> L.Trainer:
    """Build Lightning's Trainer for a whole training."""
    return build_trainer(
        plan,
        list(vars(callbacks).values()),
        devices=plan.hardware.devices,
        num_nodes=plan.hardware.num_nodes,
        strategy=_strategy(plan, task),
        max_epochs=plan.epochs,
        plugins=[StreamingCheckpointIO()],
        default_root_dir=run_dir.folder,
    )


def build_trainer(plan: TrainingPlan, callbacks: list[L.Callback], **options: Any) -> L.Trainer:  # noqa: ANN401
    """Build Lightning's Trainer with precision and accumulation as planned; what callbacks here do it does not do."""
    return L.Trainer(
        accelerator=plan.hardware.accelerator,
        precision=plan.hardware.precision,
        accumulate_grad_batches=plan.parameters.accumulate_grad_batches,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )


def _strategy(plan: TrainingPlan, task: SegmentationTask) -> str | Strategy:
    if plan.hardware.world_size == 1:
        return "auto"
    ignore_in_ddp(task, task.RANK_LOCAL_BUFFERS)  # the other processes must not get those of the first
    return DDPStrategy(
        process_group_backend="nccl" if plan.hardware.accelerator == "cuda" else "gloo",
        timeout=DDP_TIMEOUT,
        find_unused_parameters=plan.parameters.freeze_encoder_epochs > 0,
    )


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and how many train together: (0, 1) where it trains alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def make_loaders(plan: TrainingPlan, setup: TrainingSetup) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """Build the loaders of training and validation."""
    samples, seed = plan.samples, plan.parameters.seed
    rank, world_size = rank_and_world_size()
    patches = PatchDataset(setup.packed, samples["train"], setup.recipe, plan.patch_size, seed, plan.foreground)
    pixels = 2 * plan.batch_size // world_size * plan.patch_size**2  # no gradients: there is room for more
    tiles = TileDataset(setup.packed, samples["validation"], setup.spec.multiple, pixels, (rank, world_size))
    workers, pin_memory = plan.hardware.num_workers, plan.hardware.accelerator == "cuda"
    train = training_loader(patches, plan.batch_size, plan.steps_per_epoch, workers, pin_memory, (rank, world_size))
    return train, validation_loader(tiles, min(workers, 2), pin_memory)
