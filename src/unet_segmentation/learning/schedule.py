"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from unet_segmentation.parameters.training import ScheduleParameters


def learning_rate_factor(step: int, steps: int, schedule: ScheduleParameters) -> float:
    """Give the share of the full learning rate that a step takes.

    A linear warm-up over the first ``warmup_share`` of the steps; then, with x going from 0 to 1 over the rest and f
    the final share: poly ``f + (1 - f) (1 - x)^power`` (DeepLab), cosine ``f + (1 - f) (1 + cos(pi x)) / 2``
    (Loshchilov and Hutter 2017), or constant.

    Args:
        step: from 0.
        steps: of the whole training.
        schedule: the parameters.
    """
    warmup = round(schedule.warmup_share * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    passed = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    if schedule.name == "constant":
        return 1.0
    left = (1.0 - passed) ** schedule.power if schedule.name == "poly" else (1.0 + math.cos(math.pi * passed)) / 2.0
    return schedule.final_share + (1.0 - schedule.final_share) * left
