"""Before the first step: an unfinished training is taken up, or a new plan is made, tried and settled."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch

from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.parameters.training import TrainingParameters
from unet_segmentation.training.ddp import world_size
from unet_segmentation.training.dry_run import Batches, Clock, Repeated, SavedBytes, loaded, try_training
from unet_segmentation.training.patch_dataset import Batch
from unet_segmentation.training.plan import effective_values, steps_per_epoch, with_extra_epochs, with_fingerprint
from unet_segmentation.training.progress import duration
from unet_segmentation.training.run_directory import (
    RunDirectory,
    explain_mismatch,
    find_run_directory,
    list_run_directories,
)
from unet_segmentation.training.trainer import make_loaders
from unet_segmentation.training.training_inputs import TrainingInputs

logger = logging.getLogger(__name__)

QUICKLY, CAREFULLY = 0.4, 2.5  # seconds of steps that are timed; the latter where a time budget hangs on it
MARGIN = 0.03  # of a time budget, left over
VALIDATIONS, OVERHEAD = 15, 0.1  # within a time budget: about so many; they and the checkpoints take such a share
USABLE = 0.9  # of the free memory
PLENTY = 1 << 16  # bytes for each pixel of a batch: more than the networks here keep, so that trying is needless
REST = 1.1  # what a step needs beside the activations that it keeps: measured 0.6 to 1.04 in all
WEIGHTS = 4  # weights, gradients and AdamW's two moments
WORTH_COMPILING = 600.0  # seconds of training from which on torch.compile is tried


@dataclass(frozen=True)
class StepTimings:
    """Seconds of each part of a training, as measured.

    Attributes:
        step: of the network, for one batch that is at hand.
        loading: for one batch, where all workers load.
        overlapping: whether batches are loaded beside the steps, by workers.
        validation: of all tiles.
        checkpoint: for all that is written after an epoch.
        max_time_fraction: of the time that checkpoints may take; the last one is written all the same.
    """

    step: float
    loading: float
    overlapping: bool
    validation: float
    checkpoint: float
    max_time_fraction: float

    @property
    def batch(self) -> float:
        """Of a batch, loaded and learnt from."""
        return max(self.step, self.loading) if self.overlapping else self.step + self.loading

    def training(self, epochs: int, steps: int) -> float:
        """Of so many epochs of so many steps."""
        epoch = steps * self.batch + self.validation
        return epochs * epoch + min(epochs * self.checkpoint, self.max_time_fraction * epochs * epoch + self.checkpoint)

    def epochs_within(self, seconds: float, steps: int) -> int:
        """Count the epochs of so many steps that fit: :meth:`training`, solved for them."""
        epoch = steps * self.batch + self.validation
        kept_each_time = seconds / (epoch + self.checkpoint)
        kept_at_times = (seconds - self.checkpoint) / (epoch * (1 + self.max_time_fraction))
        return int(max(kept_each_time, kept_at_times))

    def steps_within(self, seconds: float, epochs: int) -> int:
        """Count the steps that fit into each of so many epochs: :meth:`training`, solved for them."""
        kept_each_time = seconds / epochs - self.checkpoint
        kept_at_times = (seconds - self.checkpoint) / (epochs * (1 + self.max_time_fraction))
        return int((max(kept_each_time, kept_at_times) - self.validation) / self.batch)

    def shortest_epoch(self, overhead: float) -> float:
        """Return the seconds of an epoch of which validation and checkpoint take no more than such a share."""
        kept_each_time = (self.validation + self.checkpoint) / overhead
        if self.max_time_fraction >= overhead:
            return kept_each_time
        return min(kept_each_time, self.validation / (overhead - self.max_time_fraction))


def finalize_plan(
    plan: dict[str, Any],
    training: TrainingParameters,
    proposal: dict[str, Any],
    setup: TrainingInputs,
    folder: Path,
    started: float,
    *,
    foretell: bool = True,
) -> dict[str, Any]:
    """Try a plan, and decide by what is measured: whether it fits into the memory, how long it takes, what pays.

    The network and torch's random states stay as they are.

    Args:
        plan: what :func:`plan.resolve_plan` returned.
        training: the parameters.
        proposal: the values of proposed_plan.yml.
        setup: what to try it with; stays as it is.
        folder: where a checkpoint is written for a moment.
        started: when the time budget began to run (`time.perf_counter`).
        foretell: measure the speed also where nothing is decided by it, to say how long the training will take.

    Returns:
        The plan with its final ``batch_size``, ``steps_per_epoch``, ``epochs``, ``cycles``, ``compile`` and
        ``fingerprint``; and what was ``measured``, in seconds, which does not belong to the fingerprint.

    Raises:
        ResourceError: the batch that is asked for does not fit into the memory; says which one would.
        ConfigurationError: not even one epoch fits into the time budget; says how long one takes. Or torch.compile is
            asked for and does not work here.
    """
    minimum = effective_values(training, proposal)["min_steps_per_epoch"]
    plan = _within_memory(plan, setup, minimum, given=training.batch_size != "auto")
    if not (foretell or training.max_time_minutes is not None or _may_compile(plan, training)):
        return with_fingerprint(plan)
    speed = measure_speed(plan, setup, folder, QUICKLY if training.max_time_minutes is None else CAREFULLY)
    plan, speed = _compile_where_it_pays(plan, training, setup, speed)
    if training.max_time_minutes is not None:
        seconds = (1 - MARGIN) * 60 * training.max_time_minutes - (time.perf_counter() - started)
        epochs, steps = epochs_for_time_budget(
            speed, seconds, training.max_time_minutes, plan["accumulate_grad_batches"]
        )
        plan = plan | {"epochs": epochs, "cycles": [epochs], "steps_per_epoch": steps}
    seconds = speed.training(plan["epochs"], plan["steps_per_epoch"])
    logger.info(
        "about %s: %.0f images/s, network %s, loading %s a batch, validation %s an epoch",
        *(duration(seconds), plan["batch_size"] / speed.batch),
        *(_short(value) for value in (speed.step, speed.loading, speed.validation)),
    )
    return with_fingerprint(plan | {"measured": asdict(speed) | {"training": seconds}})


# -- speed


def measure_speed(plan: dict[str, Any], setup: TrainingInputs, folder: Path, seconds: float) -> StepTimings:
    """Time the training's own steps, loading and validation.

    Args:
        plan: of the training.
        setup: what to try it with.
        folder: where a checkpoint is written for a moment.
        seconds: of steps that are timed, after two that are not.
    """
    plan = _of_one_device(plan)
    train, validation = make_loaders(plan, setup)
    batch, loading = _timed_loading(loaded(train), seconds / 2)
    tiles: Any = validation.dataset
    pixels = [height * width * len(items) for (height, width), items in tiles.batches]
    largest = max(range(len(pixels)), key=pixels.__getitem__)
    tile = tiles[largest]
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(folder)
    try_training(plan, setup.network, setup.classes, Repeated(batch, seconds), Batches(tile, tile), clock)
    return StepTimings(
        step=clock.step,
        loading=loading / max(1, plan["num_workers"]),
        overlapping=plan["num_workers"] > 0,
        validation=clock.validations[-1] * sum(pixels) / pixels[largest],
        checkpoint=clock.saving,
        max_time_fraction=plan["parameters"]["checkpoint"]["max_time_fraction"],
    )


def _timed_loading(batches: Iterator[Batch], seconds: float) -> tuple[Batch, float]:
    """Return a batch, and how long each takes: the first is a warm-up, then five, or as many as there is time for."""
    batch = next(batches)
    began, times = time.perf_counter(), [0.0]
    for _ in islice(batches, 5):
        times.append(time.perf_counter() - began)
        if times[-1] > seconds:
            break
    return batch, times[-1] / max(1, len(times) - 1)


def _of_one_device(plan: dict[str, Any]) -> dict[str, Any]:
    share = -(-plan["batch_size"] // world_size(plan))
    return plan | {"devices": 1, "num_nodes": 1, "batch_size": share}


def epochs_for_time_budget(
    speed: StepTimings, seconds: float, max_time_minutes: float, accumulate: int = 1
) -> tuple[int, int]:
    """Turn a time budget into epochs and steps.

    Args:
        speed: as measured.
        seconds: that are left of the budget.
        max_time_minutes: the budget, as given.
        accumulate: batches to a step of the optimizer.

    Returns:
        How many epochs: about 15, fewer where validation and checkpoints would take more than a tenth of the time. And
        of how many steps each, a multiple of ``accumulate``.

    Raises:
        ConfigurationError: not even one step of the optimizer fits.
    """
    epochs = max(1, int(seconds / max(seconds / VALIDATIONS, speed.shortest_epoch(OVERHEAD))))
    steps = max(accumulate, speed.steps_within(seconds, epochs) // accumulate * accumulate)
    epochs = speed.epochs_within(seconds, steps)
    if epochs < 1:
        raise ConfigurationError(
            f"training.max_time_minutes: {max_time_minutes:g} min are not enough to learn anything: the least, "
            f"{accumulate} {'batches' if accumulate > 1 else 'batch'} of {_short(speed.batch)} and then "
            f"{_short(speed.validation + speed.checkpoint)} for validation and checkpoint, takes about "
            f"{duration(speed.training(1, accumulate))} here. Raise it, or lower training.batch_size or "
            "training.patch_size"
        )
    return epochs, steps


# -- memory


def _within_memory(
    plan: dict[str, Any], setup: TrainingInputs, min_steps_per_epoch: int, *, given: bool
) -> dict[str, Any]:
    """Halve the batch until it fits; refuse one that was given and does not."""
    if plan["accelerator"] == "cuda":
        fitting, need = _fitting_on_cuda(plan, setup), ""
    elif plan["accelerator"] == "cpu":
        fitting, need = _fitting_on_cpu(plan, setup)
    else:
        return plan
    if fitting == plan["batch_size"]:
        return plan
    if given or fitting < min(2, plan["batch_size"]):
        way_out = f"take {fitting} (or auto), " if fitting else "take "
        raise ResourceError(
            f"training.batch_size: {plan['batch_size']} patches of {plan['patch_size']} px do not fit into the "
            f"{'GPU' if plan['accelerator'] == 'cuda' else 'machine'}'s memory{need}: {way_out}smaller patches "
            f"(training.patch_size) or a smaller network"
        )
    logger.info("batches of %d patches instead of %d, as memory allows", fitting, plan["batch_size"])
    values = {"batch_size": fitting, "min_steps_per_epoch": min_steps_per_epoch}
    steps = steps_per_epoch(values, plan["accumulate_grad_batches"], len(plan["samples"]["train"]))
    return plan | {"batch_size": fitting, "steps_per_epoch": steps}


def _fitting_on_cuda(plan: dict[str, Any], setup: TrainingInputs) -> int:
    """Try steps of half as many patches each time, until they fit; 0: none does."""
    batch = plan["batch_size"]
    while batch:
        if _fits_on_cuda(plan | {"batch_size": batch}, setup):
            return batch
        gc.collect()  # what the trial has left in cycles
        batch //= 2
    return 0


def _fits_on_cuda(plan: dict[str, Any], setup: TrainingInputs) -> bool:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    one = _of_one_device(plan)
    batch = _first_patches(one, setup, one["batch_size"])
    try:
        try_training(one, setup.network, setup.classes, Batches(batch, batch), None, Clock())
    except ResourceError:  # made of torch.OutOfMemoryError
        return False
    finally:
        torch.cuda.empty_cache()
    return torch.cuda.max_memory_allocated() <= USABLE * free


def _fitting_on_cpu(plan: dict[str, Any], setup: TrainingInputs) -> tuple[int, str]:
    """Return the largest batch, halved again and again, whose activations fit; and in words, what the planned one needs.

    Nothing is tried at full size: where a CPU runs out of memory the process is killed without a word. What the
    forward passes of two and of three patches keep gives the rest, by a straight line.
    """
    room = USABLE * available_memory()
    batch = plan["batch_size"]
    if batch * plan["patch_size"] ** 2 * PLENTY < room:
        return batch, ""
    saved = SavedBytes()
    small = [_first_patches(plan, setup, count) for count in (2, 3)]
    try_training(plan, setup.network, setup.classes, Batches(*small), None, saved)
    each = saved.steps[1] - saved.steps[0]
    fixed = saved.steps[0] - 2 * each
    weights = WEIGHTS * sum(parameter.nbytes for parameter in setup.network.parameters())

    def need(patches: int) -> float:
        return plan["devices"] * (weights + REST * fixed) + REST * each * patches

    while batch and need(batch) > room:
        batch //= 2
    gib = 1 << 30
    return batch, f" (about {need(plan['batch_size']) / gib:.1f} GiB; {room / gib:.1f} GiB may be used)"


def _first_patches(plan: dict[str, Any], setup: TrainingInputs, count: int) -> Batch:
    """Return so many patches of the training."""
    small = _of_one_device(plan) | {"batch_size": count}
    return next(loaded(make_loaders(small, setup)[0]))


def available_memory() -> float:
    """Bytes of memory that this process may still take: of the machine, or of its container."""
    return min(psutil.virtual_memory().available, _container_memory())


def _container_memory(folder: Path = Path("/sys/fs/cgroup")) -> float:
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        statistics = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        used = next(int(line.split()[1]) for line in statistics if line.startswith("anon "))
        return max(0, limit - used)  # what files are cached in is given back when it is needed
    except (OSError, ValueError, StopIteration):  # no such limit
        return math.inf


# -- torch.compile


def _compile_where_it_pays(
    plan: dict[str, Any], training: TrainingParameters, setup: TrainingInputs, speed: StepTimings
) -> tuple[dict[str, Any], StepTimings]:
    """Try torch.compile where a training on a GPU is long enough for its warm-up, and nobody has decided."""
    total = speed.training(plan["epochs"], plan["steps_per_epoch"])
    if training.max_time_minutes is not None:
        total = 60 * training.max_time_minutes
    if not _may_compile(plan, training) or total < WORTH_COMPILING:
        return plan, speed
    compiled = plan | {"compile": True}
    one = _of_one_device(compiled)
    batch = _first_patches(one, setup, one["batch_size"])
    clock = Clock()
    try:
        try_training(one, setup.network, setup.classes, Repeated(batch, QUICKLY), None, clock)
    except ConfigurationError as error:
        logger.info("not compiled: %s", error)
        return plan, speed
    faster = replace(speed, step=clock.step)
    saved = total * (1 - faster.batch / speed.batch)
    if saved <= clock.steps[0]:
        return plan, speed
    logger.info("compiled: %s to begin with, to save about %s", duration(clock.steps[0]), duration(saved))
    return compiled, faster


def _may_compile(plan: dict[str, Any], training: TrainingParameters) -> bool:
    return training.compile == "auto" and plan["accelerator"] == "cuda"


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


# -- an unfinished training


def find_resumable_plan(folder: Path, request: dict[str, Any], extra_epochs: int | None) -> dict[str, Any] | None:
    """Return the plan of the unfinished training of the same request; nothing of it is measured or resolved again.

    Args:
        folder: where working folders lie.
        request: what :func:`plan.request_of` returned.
        extra_epochs: to be added to the newest finished training of the request.

    Returns:
        The plan, or None where a new one has to be made.

    Raises:
        ConfigurationError: epochs are to be added, but there is no finished training.
    """
    if extra_epochs is not None:
        return _with_more_epochs(folder, request, extra_epochs)
    unfinished = find_run_directory(folder, request["request"], delivered=False)
    if unfinished is not None and len(unfinished.plan["cycles"]) == 1:
        return unfinished.plan
    _say_what_changed(folder, request)
    return None


def _with_more_epochs(folder: Path, request: dict[str, Any], epochs: int) -> dict[str, Any]:
    same = [work for work in list_run_directories(folder) if work.plan.get("request") == request["request"]]
    if same and not same[0].delivered.is_file() and same[0].plan["cycles"][1:] and same[0].plan["cycles"][-1] == epochs:
        return same[0].plan  # a training with these very epochs added was stopped
    finished = find_run_directory(folder, request["request"], delivered=True)
    if finished is None:
        raise ConfigurationError(
            f"training.extra_epochs: {epochs} cannot be added, as there is no finished training of this configuration "
            f"and data in {folder}. Leave it out: kedro run trains {'on' if same else 'anew'}, with training.epochs."
        )
    plan = with_extra_epochs(finished.plan, epochs)
    RunDirectory(folder, plan["fingerprint"]).copy_from(finished, plan)
    return plan


def _say_what_changed(folder: Path, request: dict[str, Any]) -> None:
    if found := explain_mismatch(folder, request):
        when, differences = found
        logger.info("The unfinished training of %s is not taken up, as this differs: %s", when, ", ".join(differences))
