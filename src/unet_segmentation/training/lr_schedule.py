"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.parameters.training import ScheduleParameters

ONE_CYCLE_RISE = 0.3  # of the steps
ONE_CYCLE_START = 1 / 25  # of the learning rate


def lr_lambda(step: int, cycles: Sequence[int], schedule: ScheduleParameters) -> float:
    """Compute the factor of the learning rate at a step.

    A linear warm-up over the first ``warmup_fraction`` of the steps; then, with x going from 0 to 1 over the rest and f
    the final share: poly ``f + (1 - f) (1 - x)^power`` (DeepLab), cosine ``f + (1 - f) (1 + cos(pi x)) / 2``
    (Loshchilov and Hutter 2017), or constant.

    One-cycle (Smith and Topin 2017, https://arxiv.org/abs/1708.07120, as torch's OneCycleLR has it) rises along a
    cosine from 1/25 over the first 30 % of the steps, whatever ``warmup_fraction`` says, and falls along one to f.

    Epochs that are added to a finished training start the schedule again, without the warm-up or the rise (a warm
    restart, Loshchilov and Hutter 2017).
    Steps are those of the optimizer, from 0; `cycles` are the steps of each cycle, one unless epochs were added.
    """
    cycle = 0
    while step >= cycles[cycle] and cycle < len(cycles) - 1:
        step -= cycles[cycle]
        cycle += 1
    if schedule.name == "one_cycle":
        return _one_cycle(step, cycles[cycle], schedule.min_lr_ratio, rises=cycle == 0)
    return _within(step, cycles[cycle], schedule, schedule.warmup_fraction if cycle == 0 else 0.0)


def _within(step: int, steps: int, schedule: ScheduleParameters, warmup_fraction: float) -> float:
    warmup = round(warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    passed = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    if schedule.name == "constant":
        return 1.0
    left = (1.0 - passed) ** schedule.power if schedule.name == "poly" else (1.0 + math.cos(math.pi * passed)) / 2.0
    return schedule.min_lr_ratio + (1.0 - schedule.min_lr_ratio) * left


def _one_cycle(step: int, steps: int, min_lr_ratio: float, *, rises: bool) -> float:
    top = max(0.0, ONE_CYCLE_RISE * steps - 1.0) if rises else 0.0  # between two steps, as torch has it
    if step < top:
        low, away = ONE_CYCLE_START, 1.0 - step / top
    else:
        low, away = min_lr_ratio, min(1.0, (step - top) / max(1.0, steps - 1 - top))
    return low + (1.0 - low) * (1.0 + math.cos(math.pi * away)) / 2.0


class LearningRateTest(StrictModel):
    """The learning rates of a range test: suggested, current and of each step, with the steps' smoothed losses."""

    suggested: float
    current: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
