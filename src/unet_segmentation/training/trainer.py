"""Training from a plan: what is set up, how it goes on after it was stopped, what stays on disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unet_segmentation.errors import ProjectError
from unet_segmentation.training import ddp
from unet_segmentation.training.epoch_keeper import STATE, EpochKeeper, ReportEpoch
from unet_segmentation.training.lightning_module import SegmentationTask
from unet_segmentation.training.patch_dataset import (
    Batch,
    PatchDataset,
    TileDataset,
    training_loader,
    validation_loader,
)
from unet_segmentation.training.run_directory import RunDirectory, prune_run_directories
from unet_segmentation.training.runtime import training_runtime
from unet_segmentation.training.training_inputs import TrainingInputs

logger = logging.getLogger(__name__)

Loaders = tuple[DataLoader[Batch], DataLoader[Batch]]  # training, validation

PRECISIONS: dict[str, Any] = {"32-true": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}

# After so long a wait for another process all are started again from the last checkpoint. torch's half an hour is too
# long: where all start at once, gloo's connections now and then never come about (seen once on a busy machine).
DDP_TIMEOUT = timedelta(minutes=5)


class StreamingCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to its file, where Lightning would write it to memory first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write; the file is renamed later, when it is whole."""
        torch.save(checkpoint, path)


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
    setup: TrainingInputs,
    folder: Path,
    report_epoch: ReportEpoch | None = None,
    *,
    resume: bool = False,
    rendezvous: str | None = None,
) -> TrainingResult:
    """Train a network as planned.

    Works in ``folder/<fingerprint>`` (see :class:`work.Work`); a few older folders of this kind are kept beside it.

    Args:
        plan: what :func:`plan.resolve_plan` returned.
        setup: what is trained, and on what; the network is trained in place.
        folder: where working folders lie.
        report_epoch: is given each epoch (from 1), its metrics (undefined ones left out) and when it ended; after a
            resume also those before. If it returns True the training ends there (in one process).
        resume: go on from the last checkpoint in the working folder, where there is one. Otherwise the folder is
            emptied first.
        rendezvous: ``address:port`` of this host, where others join the training.

    Raises:
        ProjectError: the loss became NaN or infinite; the last checkpoint is damaged; another process works at this
            very training.
        ConfigurationError: the batch is too small for the network.
        ResourceError: the device's memory does not suffice, or the disk is full.
        KeyboardInterrupt: Ctrl-C; what was written before stays.
        SystemExit: the process was told to terminate (status 143).
    """
    work = RunDirectory(folder, plan["fingerprint"])
    with work.alone():
        if not resume or not work.plan_path.is_file():
            work.begin(plan)
        if ddp.world_size(plan) > 1:
            ddp.launch(plan, setup, work, report_epoch, rendezvous)
            history = _take_result(work, setup.network)
        else:
            history = train_in_process(plan, setup, work, report_epoch)
        prune_run_directories(folder)
    return TrainingResult(work.best, work.last, history)


def train_in_process(
    plan: dict[str, Any], setup: TrainingInputs, work: RunDirectory, report_epoch: ReportEpoch | None
) -> pd.DataFrame:
    """Train in this process, from the last checkpoint if there is one; give the history."""
    epochs = EpochKeeper(plan, setup.specification, work, report_epoch)
    checkpoint = work.checkpoint()
    if checkpoint is not None:
        epochs.take_up(checkpoint["callbacks"][STATE])
        words = "trained already: %d of %d epochs" if epochs.ended else "going on after epoch %d of %d"
        logger.info(words, len(epochs.rows), plan["epochs"])
    if not epochs.ended:
        task = SegmentationTask(setup.network, plan, setup.classes)
        loaders = make_loaders(plan, setup)
        if checkpoint is not None:
            _skip_seen_batches(loaders[0], checkpoint, plan)
        _run_lightning(plan, task, loaders, epochs, work.last if checkpoint else None)
    return epochs.history


def _run_lightning(
    plan: dict[str, Any], task: SegmentationTask, loaders: Loaders, epochs: EpochKeeper, checkpoint: Path | None
) -> None:
    with training_runtime(plan):
        try:
            trainer = L.Trainer(
                accelerator=plan["accelerator"],
                devices=plan["devices"],
                num_nodes=plan["num_nodes"],
                strategy=_strategy(plan, task),
                precision=PRECISIONS[plan["precision"]],
                max_epochs=plan["epochs"],
                accumulate_grad_batches=plan["accumulate_grad_batches"],
                callbacks=[epochs],
                plugins=[StreamingCheckpointIO()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                default_root_dir=epochs.work.folder,
            )
            if plan["compile"]:
                task.network.compile()  # in place: the names of the weights stay
            task = task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            trainer.fit(task, *loaders, ckpt_path=checkpoint, weights_only=True)
        finally:
            epochs.close()


def _strategy(plan: dict[str, Any], task: SegmentationTask) -> Any:  # noqa: ANN401 - a name or a strategy
    if ddp.world_size(plan) == 1:
        return "auto"
    from lightning.pytorch.strategies import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    # sums belong to their process: the others must not be given those of the first
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, list(task.SUMS))
    return DDPStrategy(
        process_group_backend="nccl" if plan["accelerator"] == "cuda" else "gloo",
        timeout=DDP_TIMEOUT,
        find_unused_parameters=plan["parameters"]["freeze_encoder_epochs"] > 0,
    )


def _take_result(work: RunDirectory, network: nn.Module) -> pd.DataFrame:
    """Return the network the weights that other processes trained, and the history."""
    checkpoint = work.checkpoint()
    if checkpoint is None:
        raise ProjectError(f"The training left nothing in {work.folder}")
    prefix = "network."
    weights = {name.removeprefix(prefix): value for name, value in checkpoint["state_dict"].items()}
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return pd.DataFrame(checkpoint["callbacks"][STATE]["rows"])


def _skip_seen_batches(train: DataLoader[Batch], checkpoint: dict[str, Any], plan: dict[str, Any]) -> None:
    """Let the loader leave out the batches of the epoch that the checkpoint fell into."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    sampler: Any = train.sampler
    sampler.skip_batches(checkpoint["epoch"], progress["processed"] % plan["steps_per_epoch"])


def make_loaders(plan: dict[str, Any], setup: TrainingInputs) -> Loaders:
    """Return the batches of a training, and those of its validation."""
    patches = PatchDataset(
        setup.samples,
        plan["samples"]["train"],
        setup.recipe,
        plan["patch_size"],
        plan["seed"],
        plan["oversample_foreground_fraction"],
        plan["foreground_classes"],
    )
    share = ddp.rank_and_world_size()
    pixels = 2 * plan["batch_size"] // share[1] * plan["patch_size"] ** 2  # no gradients: there is room for more
    multiple = setup.specification.multiple
    tiles = TileDataset(setup.samples, plan["samples"]["validation"], multiple, pixels, share)
    workers, pin_memory = plan["num_workers"], plan["accelerator"] == "cuda"
    train = training_loader(patches, plan["batch_size"], plan["steps_per_epoch"], workers, pin_memory, share)
    return train, validation_loader(tiles, min(workers, 2), pin_memory)


def load_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Return a network its initial weights.

    Raises:
        ProjectError: they belong to another network.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ProjectError(
            "The initial weights do not fit the network: run the node training.build_model again"
        ) from error
