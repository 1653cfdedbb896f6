"""Dry runs: some real steps of a training, on a network that is thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from unet_segmentation.models.complexity import synchronized_time
from unet_segmentation.training.patch_dataset import Batch
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.runtime import training_runtime
from unet_segmentation.training.trainer import build_task, build_trainer
from unet_segmentation.training.training_inputs import TrainingSetup

WARM_UP = 2  # steps that are not counted


def dry_run(
    plan: TrainingPlan,
    setup: TrainingSetup,
    train: Iterable[Batch],
    validation: Iterable[Batch] | None,
    callback: L.Callback,
) -> None:
    """Train a network for one epoch and throw it away; torch's random states stay as they are.

    The epoch ends when the batches of `train` do; those of `validation` are validated after them. Neither is a list,
    which Lightning would take for several loaders. Raises what a training raises (see :func:`trainer.run_training`).
    """
    with training_runtime(plan):
        task = build_task(plan, setup)
        torch.manual_seed(plan.parameters.seed)
        build_trainer(plan, [callback], max_epochs=1, devices=1).fit(task, train, validation)


class TimingCallback(L.Callback):
    """Measures the seconds of each step and of each validation batch."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validations: list[float] = []
        self.started = 0.0

    def on_train_batch_start(self, *_: object, **__: object) -> None:
        """Start the clock."""
        self.started = synchronized_time()

    on_validation_batch_start = on_train_batch_start

    def on_train_batch_end(self, *_: object, **__: object) -> None:
        """Stop the clock."""
        self.steps.append(synchronized_time() - self.started)

    def on_validation_batch_end(self, *_: object, **__: object) -> None:
        """Stop the clock."""
        self.validations.append(synchronized_time() - self.started)

    @property
    def step(self) -> float:
        """Mean seconds of a step, after the warm-up."""
        counted = self.steps[min(WARM_UP, len(self.steps) - 1) :]
        return sum(counted) / len(counted)


def repeated_batch(batch: Batch, seconds: float) -> Iterator[Batch]:
    """Yield the same batch for a number of seconds after the first step, three times at least."""
    yield batch
    yield batch  # Lightning asks for one batch ahead: when it asks for the third, the first step is done
    end = synchronized_time() + seconds
    yield batch
    while synchronized_time() < end:
        yield batch


def load_in_process(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Yield the batches of a training, loaded in this process whatever the number of workers."""
    dataset: Any = loader.dataset
    keys = iter(loader.sampler)
    while chunk := list(islice(keys, loader.batch_size)):
        yield dataset.__getitems__(chunk)
