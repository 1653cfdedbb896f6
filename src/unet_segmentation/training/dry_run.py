"""Trying a training: some of its real steps, on a copy of the network that is thrown away."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader

from unet_segmentation.training.lightning_module import SegmentationTask
from unet_segmentation.training.patch_dataset import Batch
from unet_segmentation.training.runtime import training_runtime
from unet_segmentation.training.trainer import PRECISIONS

WARM_UP = 2  # steps that are not counted


def try_training(
    plan: dict[str, Any],
    network: nn.Module,
    classes: list[str],
    train: Iterable[Batch],
    validation: Iterable[Batch] | None,
    callback: L.Callback,
) -> None:
    """Train a copy of a network for one epoch, as planned; the network and torch's random states stay as they are.

    Args:
        plan: of the training.
        network: with its initial weights.
        classes: names of the classes.
        train: the batches of the steps; when it ends, the epoch does.
        validation: batches that are validated after them.
        callback: sees what happens.

    Raises: what a training raises (see :func:`trainer.fit`).
    """
    with training_runtime(plan):
        task = SegmentationTask(copy.deepcopy(network), plan, classes)
        if plan["compile"]:
            task.network.compile()
        trainer = L.Trainer(
            accelerator=plan["accelerator"],
            devices=1,
            precision=PRECISIONS[plan["precision"]],
            max_epochs=1,
            accumulate_grad_batches=plan["accumulate_grad_batches"],
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        task = task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.manual_seed(plan["seed"])
        trainer.fit(task, train, validation)


class Clock(L.Callback):
    """Seconds of each step, of each validation batch and, where a folder is given for it, of writing a checkpoint."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.steps: list[float] = []
        self.validations: list[float] = []
        self.saving = 0.0
        self.started = 0.0

    def on_train_batch_start(self, *_: object, **__: object) -> None:
        """Start."""
        self.started = now()

    def on_train_batch_end(self, *_: object, **__: object) -> None:
        """Stop."""
        self.steps.append(now() - self.started)

    def on_validation_batch_start(self, *_: object, **__: object) -> None:
        """Start."""
        self.started = now()

    def on_validation_batch_end(self, *_: object, **__: object) -> None:
        """Stop."""
        self.validations.append(now() - self.started)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Write as much as is written after every epoch: a checkpoint, and the weights alone, a third of it.

        The file has no name, so that nothing stays behind a kill.
        """
        if self.folder is None:
            return
        with tempfile.TemporaryFile(dir=self.folder) as file:
            self.started = now()
            torch.save([task.state_dict(), trainer.optimizers[0].state_dict()], file)
            file.flush()
            self.saving = 4 / 3 * (now() - self.started)

    @property
    def step(self) -> float:
        """Mean seconds of a step, after the warm-up."""
        counted = self.steps[min(WARM_UP, len(self.steps) - 1) :]
        return sum(counted) / len(counted)


class SavedBytes(L.Callback):
    """Bytes that each step keeps for its backward pass: nearly all of the memory that grows with the batch."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_start(self, *_: object, **__: object) -> None:
        """Watch what the forward pass keeps; a tensor that is kept twice counts once."""
        self.storages: dict[int, int] = {}
        self.hooks = saved_tensors_hooks(self._note, lambda tensor: tensor)
        self.hooks.__enter__()

    def on_before_backward(self, *_: object, **__: object) -> None:
        """Sum it up."""
        self.hooks.__exit__()
        self.steps.append(sum(self.storages.values()))

    def _note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor


class Repeated:
    """The same batch again and again: for so many seconds, after the first step; three times at least."""

    def __init__(self, batch: Batch, seconds: float) -> None:
        self.batch, self.seconds = batch, seconds

    def __iter__(self) -> Iterator[Batch]:
        """Lightning asks for one batch ahead: when it asks for the third, the first step is done."""
        yield self.batch
        yield self.batch
        end = now() + self.seconds
        yield self.batch
        while now() < end:
            yield self.batch


class Batches:
    """These batches; Lightning would take a list for several loaders."""

    def __init__(self, *batches: Batch) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        """One after the other."""
        return iter(self.batches)


def loaded(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Load the batches of a training in this process, whatever the number of workers."""
    dataset: Any = loader.dataset
    keys = iter(loader.sampler)
    while chunk := list(islice(keys, loader.batch_size)):
        yield dataset.__getitems__(chunk)


def now() -> float:
    """Seconds, when everything that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
