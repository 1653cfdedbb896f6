"""The rules of the plan: what the statistics of the data say about what the parameters leave open. No pixel is read.

The rules follow nnU-Net (Isensee et al. 2021), carried over to the encoders used here;
`docs/explanation/automatic-configuration.md` says where they differ, and why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.parameters.model import ModelParameters
from unet_segmentation.parameters.training import Count, Share, TrainingParameters

LARGEST_PATCH, SMALLEST_PATCH, MULTIPLE = 256, 32, 32  # pixels; encoders halve five times
DEEPEST_SIDE, LEAST_DEPTH, LARGEST_DEPTH = 4, 2, 5  # pixels of the deepest feature map; halvings
BATCH_PIXELS, LARGEST_BATCH, BATCH_SHARE = 16 * 128**2, 32, 0.05  # a batch; of the training pixels
SEEN, LEAST_STEPS, MOST_STEPS = 50, 300, 20_000  # how often each training pixel is seen; steps in all
STEPS_OF_AN_EPOCH, FEWEST_EPOCHS, EPOCHS = 10, 5, 50  # at least; validations, about
VALIDATION_COST, VALIDATION_SHARE = 1 / 3, 0.1  # of training on the same pixels; of the time
FOREGROUND_SHARE = 1 / 3
COVERED = 0.5  # a patch that covers more of the median image is not aimed

Proposal = tuple[Any, str]  # a value and the reason for it


class PlanValues(StrictModel):
    """The ``values`` of a plan, which people may edit."""

    patch_size: int = Field(ge=SMALLEST_PATCH, multiple_of=MULTIPLE)
    batch_size: Count
    epochs: Count
    min_steps_per_epoch: Count
    encoder_depth: int | None = Field(ge=2, le=6)
    oversample_foreground_fraction: Share
    foreground_classes: list[str]

    @field_validator("patch_size", "batch_size", "epochs", "min_steps_per_epoch", "encoder_depth", mode="before")
    @classmethod
    def _whole_number(cls, value: object) -> object:
        if isinstance(value, bool | str):
            raise ValueError("must be a whole number")
        return value


class ProposedPlan(StrictModel):
    """What proposed_plan.yml holds, and people may edit; the network is built and the training planned from it."""

    values: PlanValues
    reasons: dict[str, str]  # a sentence for each value, for people only


def propose_plan(
    statistics: DatasetStatistics, model_params: ModelParameters, training: TrainingParameters, classes: list[str]
) -> ProposedPlan:
    """Propose a value for whatever the parameters leave open; what they say stands in the plan as it is."""
    patch = _fixed(training.patch_size) or _patch_size(statistics)
    batch = _fixed(training.batch_size) or _batch_size(statistics, patch[0])
    minimum = _fixed(training.min_steps_per_epoch) or _minimum_steps(statistics, batch[0] * patch[0] ** 2)
    foreground = _foreground(statistics, training, patch[0], classes)
    proposals = {
        "patch_size": patch,
        "batch_size": batch,
        "epochs": _fixed(training.epochs) or _epochs(statistics, batch[0], batch[0] * patch[0] ** 2, minimum[0]),
        "min_steps_per_epoch": minimum,
        "encoder_depth": _encoder_depth(model_params, patch[0]),
        "oversample_foreground_fraction": foreground[0],
        "foreground_classes": foreground[1],
    }
    return ProposedPlan(
        values=_validated({name: value for name, (value, _) in proposals.items()}),
        reasons={name: reason for name, (_, reason) in proposals.items()},
    )


def validate_proposed_plan(document: object) -> ProposedPlan:
    """Validate what was read from proposed_plan.yml, where people may have edited it.

    Raises:
        ConfigurationError: names the key in proposed_plan.yml, what is wrong with it and how to correct it.
    """
    values = document.get("values") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or not isinstance(values, Mapping):
        raise proposed_plan_error(["values: is missing"])
    reasons = document.get("reasons")
    sentences = {str(name): str(reason) for name, reason in reasons.items()} if isinstance(reasons, Mapping) else {}
    return ProposedPlan(values=_validated(values), reasons=sentences)


def default_plan_values(training: TrainingParameters, statistics: DatasetStatistics) -> PlanValues:
    """Propose the values alone, for a network with the architecture's own depth; for scripts and notebooks."""
    return propose_plan(statistics, ModelParameters(), training, list(statistics.class_shares)).values


# -- the rules


def _fixed(value: Any) -> Proposal | None:  # noqa: ANN401 - a parameter
    return None if value == "auto" else (value, "as the parameters say")


def _patch_size(statistics: DatasetStatistics) -> Proposal:
    side = min(_median_size(statistics))
    patch = max(SMALLEST_PATCH, min(LARGEST_PATCH, int(side)) // MULTIPLE * MULTIPLE)
    return patch, (
        f"the largest multiple of {MULTIPLE} within {LARGEST_PATCH} and the median image's shorter side, {side:g} px"
    )


def _batch_size(statistics: DatasetStatistics, patch: int) -> Proposal:
    by_pixels = min(LARGEST_BATCH, BATCH_PIXELS / patch**2)
    by_data = BATCH_SHARE * _training_pixels(statistics) / patch**2
    batch = 2 ** int(math.log2(max(2.0, min(by_pixels, by_data))))
    if by_data < by_pixels:
        return batch, f"a power of two, at least 2, that takes at most {BATCH_SHARE:.0%} of the training pixels at once"
    return batch, f"as many pixels as 16 patches of 128 px, and at most {LARGEST_BATCH} patches"


def _total_steps(statistics: DatasetStatistics, pixels_of_a_step: int) -> int:
    steps = math.ceil(SEEN * _training_pixels(statistics) / pixels_of_a_step)
    return max(LEAST_STEPS, min(MOST_STEPS, steps))


def _minimum_steps(statistics: DatasetStatistics, pixels_of_a_step: int) -> Proposal:
    """Bound the share of time of validation, and the number of epochs."""
    steps = _total_steps(statistics, pixels_of_a_step)
    height, width = _median_size(statistics)
    validation = VALIDATION_COST * statistics.samples.get("validation", 0) * height * width / pixels_of_a_step
    by_time = min(math.ceil(validation * (1 / VALIDATION_SHARE - 1)), steps // FEWEST_EPOCHS)
    by_number = math.ceil(steps / EPOCHS)
    if by_time > max(by_number, STEPS_OF_AN_EPOCH):
        return by_time, f"so that validation takes about {VALIDATION_SHARE:.0%} of the time, in a few epochs at least"
    if by_number > STEPS_OF_AN_EPOCH:
        return by_number, f"so that the training is validated about {EPOCHS} times"
    return STEPS_OF_AN_EPOCH, f"an epoch has at least {STEPS_OF_AN_EPOCH}"


def _epochs(statistics: DatasetStatistics, batch: int, pixels_of_a_step: int, min_steps_per_epoch: int) -> Proposal:
    steps = _total_steps(statistics, pixels_of_a_step)
    per_epoch = max(min_steps_per_epoch, math.ceil(statistics.samples["train"] / batch))
    bound = {LEAST_STEPS: " (the least there are)", MOST_STEPS: " (the most there are)"}.get(steps, "")
    seen = steps * pixels_of_a_step / _training_pixels(statistics)
    return max(1, math.ceil(steps / per_epoch)), (
        f"{steps} steps{bound}, {per_epoch} an epoch: each training pixel is seen about {seen:.0f} times"
    )


def _encoder_depth(model_params: ModelParameters, patch: int) -> Proposal:
    if model_params.encoder_depth is None:
        return None, "the architecture's own"
    if model_params.encoder_depth != "auto":
        return model_params.encoder_depth, "as the parameters say"
    if model_params.decoder_channels is not None:
        return len(model_params.decoder_channels), "as many as model.decoder_channels"
    depth = max(LEAST_DEPTH, min(LARGEST_DEPTH, int(math.log2(patch / DEEPEST_SIDE))))
    return depth, (
        f"halved while a patch of {patch} px keeps a side of {DEEPEST_SIDE} px, {LEAST_DEPTH} to {LARGEST_DEPTH} times"
    )


def _foreground(
    statistics: DatasetStatistics, training: TrainingParameters, patch: int, classes: list[str]
) -> tuple[Proposal, Proposal]:
    """Return the share, and the classes."""
    shares = {name: class_share for name in classes if (class_share := statistics.class_shares.get(name, 0.0)) > 0}
    limit = 1 / (2 * len(classes))
    rare = [name for name, share in shares.items() if share < limit]
    height, width = _median_size(statistics)
    of_image = patch**2 / (height * width)
    share = _fixed(training.sampling.oversample_foreground_fraction)
    if fixed := _fixed(training.sampling.classes):
        names = fixed
    elif rare:
        names = rare, f"rarer than half of an equal share: below {limit:.1%} of the labeled pixels"
    elif share and share[0] > 0:
        most = max(shares, key=lambda name: shares[name], default=None)
        names = [name for name in shares if name != most], f"no class is rare: all but {most}, the most frequent"
    else:
        names = [], f"no class is rarer than half of an equal share, {limit:.1%} of the labeled pixels"
    if share is None and not names[0]:
        share = 0.0, "no class is rare"
    if share is None and of_image > COVERED:
        share = 0.0, f"a patch covers {min(1.0, of_image):.0%} of the median image: it need not be aimed"
    return share or (FOREGROUND_SHARE, f"a third, as in nnU-Net, for {', '.join(names[0])}"), names


def _median_size(statistics: DatasetStatistics) -> tuple[float, float]:
    return float(statistics.height.median), float(statistics.width.median)


def _training_pixels(statistics: DatasetStatistics) -> float:
    """Count them as if every image had the median size."""
    height, width = _median_size(statistics)
    return float(statistics.samples["train"] * height * width)


# -- what is wrong with an edited plan


def _validated(values: Mapping[str, object]) -> PlanValues:
    try:
        return PlanValues.model_validate(dict(values))
    except ValidationError as error:
        raise proposed_plan_error([_explained(one) for one in error.errors(include_url=False)]) from None


def proposed_plan_error(lines: list[str]) -> ConfigurationError:
    """Build the error for a wrong edit of proposed_plan.yml, a line for each thing that is wrong."""
    return ConfigurationError(
        "proposed_plan.yml was edited and is not valid:\n"
        + "\n".join(f"  {line}" for line in lines)
        + "\nCorrect it, or have it made again: kedro run --nodes training.propose_plan"
    )


def _explained(error: Any) -> str:  # noqa: ANN401 - pydantic's details of an error
    key = ".".join(["values", *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such value; known here: {', '.join(PlanValues.model_fields)}"
    if error["type"] == "missing":
        return f"{key}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]} (given: {error['input']!r})"
