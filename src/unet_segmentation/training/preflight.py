"""Before the first step: fit the batch to the memory, time the steps, turn a time budget into epochs.

Nothing of this changes the initial weights, or the result of a training with the same batch and epochs.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch

from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.models.complexity import model_complexity
from unet_segmentation.training.callbacks.progress import duration
from unet_segmentation.training.dry_run import TimingCallback, dry_run, load_in_process, repeated_batch
from unet_segmentation.training.patch_dataset import Batch
from unet_segmentation.training.plan import StepTimings, TrainingPlan, effective_values, steps_per_epoch
from unet_segmentation.training.trainer import make_loaders
from unet_segmentation.training.training_inputs import TrainingInputs, TrainingSetup

logger = logging.getLogger(__name__)

QUICKLY, CAREFULLY = 0.4, 2.5  # seconds of steps that are timed; the latter where a time budget depends on it
MARGIN = 0.03  # of a time budget, left over
MAX_VALIDATIONS, VALIDATION_SHARE = 15, 0.1  # within a time budget; of the time
CHECKPOINT_SHARE = 0.05  # of the time: the 0.02 that checkpoints may take by default, and the last one
USABLE = 0.9  # of the free memory
GIB = 1 << 30
PLENTY = 1 << 16  # bytes for each pixel of a batch: more than the networks here need, so that counting is needless


def finalize_plan(
    plan: TrainingPlan, inputs: TrainingInputs, started: float, *, estimate_duration: bool = True
) -> TrainingPlan:
    """Decide by measurement what a plan leaves open: batch size, and epochs within a time budget.

    Args:
        plan: from :func:`plan.resolve_plan`; batch size and epochs are not final.
        inputs: of the training.
        started: when the time budget began (time.perf_counter()).
        estimate_duration: time the steps even where nothing depends on it, to log how long the training takes.

    Raises:
        ResourceError: the batch that is asked for does not fit into the memory; names one that does.
        ConfigurationError: not even one step fits into the time budget; says how long one takes. Or torch.compile is
            asked for and does not work here.
    """
    parameters = plan.parameters
    batch_size = fit_batch_size(plan, inputs, fixed=parameters.batch_size != "auto")
    if batch_size != plan.batch_size:
        logger.info("batches of %d patches instead of %d, as memory allows", batch_size, plan.batch_size)
        values = effective_values(parameters, inputs.proposal).model_copy(update={"batch_size": batch_size})
        steps = steps_per_epoch(values, parameters.accumulate_grad_batches, len(plan.samples["train"]))
        plan = plan.model_copy(update={"batch_size": batch_size, "steps_per_epoch": steps})
    minutes = parameters.max_time_minutes
    if minutes is None and not estimate_duration:
        return plan
    timings = measure_timings(plan, inputs, QUICKLY if minutes is None else CAREFULLY)
    if minutes is not None:
        spent = (time.perf_counter() - started) / 60
        epochs, steps = fit_time_budget(timings, minutes, parameters.accumulate_grad_batches, spent)
        plan = plan.model_copy(update={"cycles": (epochs,), "steps_per_epoch": steps})
    logger.info(
        "about %s: %.0f images/s, network %s, loading %s a batch, validation %s an epoch",
        duration(training_seconds(timings, plan.epochs, plan.steps_per_epoch)),
        plan.batch_size / timings.batch,
        *(_short(seconds) for seconds in (timings.step, timings.loading, timings.validation)),
    )
    return plan.model_copy(update={"measured": timings})


# -- memory


def fit_batch_size(plan: TrainingPlan, setup: TrainingSetup, *, fixed: bool) -> int:
    """Halve the batch size until a training step fits into the memory.

    Raises:
        ResourceError: the batch size is fixed and does not fit, or none fits; names one that does.
    """
    accelerator, batch_size, fitting = plan.hardware.accelerator, plan.batch_size, plan.batch_size
    fits = {"cuda": _fits_on_cuda, "cpu": _fits_on_cpu}.get(accelerator)  # mps does not say
    while fits and fitting and not fits(plan.model_copy(update={"batch_size": fitting}), setup):
        gc.collect()  # what a trial has left in cycles
        fitting //= 2
    if fitting == batch_size or (not fixed and fitting >= min(2, batch_size)):
        return fitting
    alternative = f"take {fitting} (or auto), " if fitting else "take "
    memory = "GPU's memory"
    if accelerator != "cuda":
        needed, room = _counted_bytes(plan, setup) / GIB, USABLE * available_memory() / GIB
        memory = f"machine's memory (about {needed:.1f} GiB; {room:.1f} GiB may be used)"
    raise ResourceError(
        f"training.batch_size: {batch_size} patches of {plan.patch_size} px do not fit into the {memory}: "
        f"{alternative}smaller patches (training.patch_size) or a smaller network"
    )


def _fits_on_cuda(plan: TrainingPlan, setup: TrainingSetup) -> bool:
    """Try a step."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    plan = plan.for_one_device()
    batch = _first_batch(plan, setup)
    try:
        dry_run(plan, setup, iter((batch, batch)), None, TimingCallback())
    except ResourceError:  # made of torch.OutOfMemoryError
        return False
    finally:
        torch.cuda.empty_cache()
    return torch.cuda.max_memory_allocated() <= USABLE * free


def _fits_on_cpu(plan: TrainingPlan, setup: TrainingSetup) -> bool:
    """Count: where a step does not fit into a CPU's memory, the process is killed without an error."""
    room = USABLE * available_memory()
    return plan.batch_size * plan.patch_size**2 * PLENTY < room or _counted_bytes(plan, setup) <= room


def _counted_bytes(plan: TrainingPlan, setup: TrainingSetup) -> int:
    """Count the bytes of a training step of all processes, in float32."""
    costs = model_complexity(setup.spec, plan.patch_size, plan.patch_size)
    weights = costs["training_bytes"] - costs["activation_bytes"]
    return plan.hardware.devices * weights + plan.batch_size * costs["activation_bytes"]


def _first_batch(plan: TrainingPlan, setup: TrainingSetup) -> Batch:
    return next(load_in_process(make_loaders(plan, setup)[0]))


def available_memory() -> float:
    """Return the bytes that this process may still take: of the machine, or of its container."""
    return min(psutil.virtual_memory().available, _container_memory())


def _container_memory(folder: Path = Path("/sys/fs/cgroup")) -> float:
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        statistics = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        used = next(int(line.split()[1]) for line in statistics if line.startswith("anon "))
        return max(0, limit - used)  # the cache of files is returned when it is needed
    except (OSError, ValueError, StopIteration):  # no such limit
        return math.inf


# -- step timings


def measure_timings(plan: TrainingPlan, setup: TrainingSetup, seconds: float) -> StepTimings:
    """Time loading, some seconds of real steps, and the validation of a training."""
    plan = plan.for_one_device()
    train, validation = make_loaders(plan, setup)
    batch, loading = _timed_loading(load_in_process(train), seconds / 2)
    tiles: Any = validation.dataset
    pixels = [height * width * len(items) for (height, width), items in tiles.batches]
    largest = max(range(len(pixels)), key=pixels.__getitem__)
    tile = tiles[largest]
    clock = TimingCallback()
    dry_run(plan, setup, repeated_batch(batch, seconds), iter((tile, tile)), clock)
    workers = plan.hardware.num_workers
    return StepTimings(
        step=clock.step,
        loading=loading / max(1, workers),
        overlapping=workers > 0,
        validation=clock.validations[-1] * sum(pixels) / pixels[largest],
    )


def _timed_loading(batches: Iterator[Batch], seconds: float) -> tuple[Batch, float]:
    """Return a batch, and how long each takes: the first is a warm-up, then five, or as many as there is time for."""
    batch = next(batches)
    started, times = time.perf_counter(), [0.0]
    for _ in islice(batches, 5):
        times.append(time.perf_counter() - started)
        if times[-1] > seconds:
            break
    return batch, times[-1] / max(1, len(times) - 1)


# -- time


def training_seconds(timings: StepTimings, epochs: int, steps: int) -> float:
    """Estimate how long a training takes, checkpoints included."""
    return epochs * (steps * timings.batch + timings.validation) * (1 + CHECKPOINT_SHARE)


def fit_time_budget(
    timings: StepTimings, minutes: float, accumulate: int = 1, spent_minutes: float = 0.0
) -> tuple[int, int]:
    """Turn what is left of a time budget into epochs and steps.

    Returns:
        How many epochs: about 15, fewer where validation would take more than a tenth of the time. And the batches of
        each, a multiple of ``accumulate``, the batches to a step of the optimizer.

    Raises:
        ConfigurationError: not even one step of the optimizer fits.
    """
    seconds = 60 * ((1 - MARGIN) * minutes - spent_minutes) / (1 + CHECKPOINT_SHARE)
    epochs = max(1, int(min(MAX_VALIDATIONS, VALIDATION_SHARE * seconds / max(timings.validation, 1e-9))))
    steps = int((seconds / epochs - timings.validation) / timings.batch)
    steps = max(accumulate, steps // accumulate * accumulate)
    epochs = int(seconds / (steps * timings.batch + timings.validation))
    if epochs < 1:
        raise ConfigurationError(
            f"training.max_time_minutes: {minutes:g} min are not enough to learn anything: the least, "
            f"{accumulate} {'batches' if accumulate > 1 else 'batch'} of {_short(timings.batch)} and then "
            f"{_short(timings.validation)} for validation, takes about "
            f"{duration(training_seconds(timings, 1, accumulate))} here. Raise it, or lower training.batch_size or "
            "training.patch_size"
        )
    return epochs, steps


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
