"""The training plan: everything that is `auto` resolved once, before the first step, into a file of the run.

Importing this module is cheap: nodes name its classes in their annotations. torch is imported where it is used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import computed_field, model_validator

import unet_segmentation
from unet_segmentation.data.statistics import DatasetStatistics, labeled_ids_by_split
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.parameters.training import TrainingParameters
from unet_segmentation.training.foreground_sampler import ForegroundSampling
from unet_segmentation.training.hardware import ResolvedHardware, resolve_hardware
from unet_segmentation.training.plan_rules import PlanValues, proposed_plan_error
from unet_segmentation.utils.did_you_mean import unknown_name_error
from unet_segmentation.utils.stable_hash import stable_hash

if TYPE_CHECKING:
    from unet_segmentation.training.training_inputs import TrainingInputs

logger = logging.getLogger(__name__)

RESULT_NEUTRAL = {"resume", "extra_epochs", "rdzv_endpoint", "num_workers"}  # parameters that do not change the result


class InputHashes(StrictModel):
    """A hash of each thing that a training starts from."""

    data: str | None
    split: str
    plan: str  # of the proposed plan's values
    network: str
    initial_weights: str
    augmentation: str


class TrainingRequest(StrictModel):
    """What is asked for, before anything is measured or resolved on this machine."""

    parameters: TrainingParameters
    versions: dict[str, str]  # of the libraries that decide the result
    inputs: InputHashes

    def request_hash(self) -> str:
        """Compute a hash: an unfinished training with the same one is the same training."""
        parameters = self.parameters.model_dump(mode="json", exclude=RESULT_NEUTRAL)
        return stable_hash(parameters, self.versions, self.inputs.model_dump())

    def differences(self, other: TrainingRequest) -> list[str]:
        """Name what differs in another request."""
        first, second = (one.parameters.model_dump(exclude=RESULT_NEUTRAL) for one in (self, other))
        names = [f"training.{name}" for name, value in first.items() if value != second[name]]
        names += [name for name, value in self.versions.items() if value != other.versions.get(name)]
        inputs = other.inputs.model_dump()
        return names + [name.replace("_", " ") for name, value in self.inputs if value != inputs[name]]


class StepTimings(StrictModel):
    """Seconds of each part of a training, as measured."""

    step: float  # seconds of the network, for one batch in memory
    loading: float  # seconds of one batch, with all workers loading
    overlapping: bool  # whether workers load batches during the steps
    validation: float  # seconds of all tiles

    @property
    def batch(self) -> float:
        """Seconds of a batch, loading included."""
        return max(self.step, self.loading) if self.overlapping else self.step + self.loading


class TrainingPlan(TrainingRequest):
    """All decisions about a training."""

    hardware: ResolvedHardware
    batch_size: int  # patches of one batch, over all processes
    patch_size: int  # side, in pixels
    cycles: tuple[int, ...]  # epochs of each cycle of the schedule; one, unless epochs were added
    steps_per_epoch: int  # batches
    foreground: ForegroundSampling
    class_weights: tuple[float, ...] | None
    samples: dict[str, tuple[str, ...]]  # ids by split, train and validation
    measured: StepTimings | None = None  # by the preflight

    @computed_field  # type: ignore[prop-decorator]
    @property
    def epochs(self) -> int:
        """Return the epochs of all cycles."""
        return sum(self.cycles)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fingerprint(self) -> str:
        """Compute a hash of all decisions, without what was measured; it names the run directory."""
        excluded = {"measured": True, "epochs": True, "fingerprint": True, "parameters": RESULT_NEUTRAL}
        return stable_hash(self.model_dump(mode="json", exclude=excluded))  # type: ignore[arg-type]

    @model_validator(mode="before")
    @classmethod
    def _without_computed_fields(cls, data: Any) -> Any:  # noqa: ANN401 - whatever is validated
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if name not in cls.model_computed_fields}

    def for_one_device(self) -> Self:
        """Return the plan of a single process, with its share of the batch."""
        share = -(-self.batch_size // self.hardware.world_size)
        hardware = self.hardware.model_copy(update={"devices": 1, "num_nodes": 1})
        return self.model_copy(update={"hardware": hardware, "batch_size": share})


def resolve_plan(training: TrainingParameters, inputs: TrainingInputs) -> TrainingPlan:
    """Decide everything about a training that needs no measurement.

    Raises:
        ConfigurationError: what is asked for is not possible on this machine, or does not fit together.
        DataError: the training or validation split is empty.
    """
    split, spec = labeled_ids_by_split(inputs.samples), inputs.spec
    for name in ("train", "validation"):
        if not split.get(name):
            raise DataError(
                f"The {name} split has no sample with a mask: give the data more, or change split.validation, "
                "split.test or source.splits"
            )
    hardware = resolve_hardware(training)
    values = effective_values(training, inputs.proposal)
    _log_overruled_values(values, inputs.proposal)
    _check_sizes(values, hardware.world_size, spec.multiple)
    return TrainingPlan(
        **dict(training_request(training, inputs)),
        hardware=hardware,
        batch_size=values.batch_size,
        patch_size=values.patch_size,
        cycles=(values.epochs,),
        steps_per_epoch=steps_per_epoch(values, training.accumulate_grad_batches, len(split["train"])),
        foreground=foreground_sampling(training, values, spec.classes),
        class_weights=_class_weights(training, spec.classes, inputs.statistics),
        samples={name: tuple(split[name]) for name in ("train", "validation")},
    )


def training_request(training: TrainingParameters, inputs: TrainingInputs) -> TrainingRequest:
    """Build the request of a training: its parameters, and hashes of its inputs."""
    import torch

    split = labeled_ids_by_split(inputs.samples)
    return TrainingRequest(
        parameters=training,
        versions={"unet_segmentation": unet_segmentation.__version__, "torch": torch.__version__},
        inputs=InputHashes(
            data=inputs.statistics.data_sha256,
            split=stable_hash({name: split.get(name, []) for name in ("train", "validation")}),
            plan=stable_hash(inputs.proposal.model_dump()),
            network=stable_hash(inputs.spec.to_json()),
            initial_weights=inputs.initial_weights_sha256,
            augmentation=stable_hash(inputs.recipe.model_dump(mode="json")),
        ),
    )


def effective_values(training: TrainingParameters, proposal: PlanValues) -> PlanValues:
    """Return the values of the parameters, and those of the proposal where the parameters leave them open."""
    values = {
        "patch_size": training.patch_size,
        "batch_size": training.batch_size,
        "epochs": training.epochs,
        "min_steps_per_epoch": training.min_steps_per_epoch,
        "oversample_foreground_fraction": training.sampling.oversample_foreground_fraction,
        "foreground_classes": training.sampling.classes,
    }
    return proposal.model_copy(update={name: value for name, value in values.items() if value != "auto"})


def foreground_sampling(training: TrainingParameters, values: PlanValues, classes: Sequence[str]) -> ForegroundSampling:
    """Convert the names of the classes that patches are centered on into ids.

    Raises:
        ConfigurationError: a name in `training.sampling.classes`, or in the proposed plan, is none of the classes.
    """
    for name in values.foreground_classes:
        if name in classes:
            continue
        if training.sampling.classes != "auto":
            raise unknown_name_error("training.sampling.classes", name, classes)
        names = ", ".join(classes)
        raise proposed_plan_error([f"values.foreground_classes: {name!r} is not one of the classes {names}"])
    class_ids = sorted({classes.index(name) for name in values.foreground_classes})
    return ForegroundSampling(share=values.oversample_foreground_fraction, class_ids=tuple(class_ids))


def steps_per_epoch(values: PlanValues, accumulate: int, samples: int) -> int:
    """Count the batches of an epoch: one pass over the samples, the last batch filled up, or more of them."""
    steps = max(values.min_steps_per_epoch, -(-samples // values.batch_size))
    return -(-steps // accumulate) * accumulate


def _log_overruled_values(values: PlanValues, proposal: PlanValues) -> None:
    for name, value in values:
        proposed = getattr(proposal, name)
        if proposed != value:
            logger.info(
                "%s is %s, as the parameters say, and not %s, as proposed_plan.yml does; auto would take the plan's",
                name,
                value,
                proposed,
                extra={"once": f"{name} {value} {proposed}"},
            )


def _check_sizes(values: PlanValues, world_size: int, multiple: int) -> None:
    if values.batch_size % world_size:
        raise ConfigurationError(
            f"training.batch_size: {values.batch_size} patches cannot be shared out among {world_size} processes "
            f"equally; take a multiple of {world_size}"
        )
    if values.patch_size < multiple:
        raise ConfigurationError(
            f"training.patch_size: {values.patch_size} px is smaller than the network's downsampling factor "
            f"({multiple}); raise training.patch_size or lower model.encoder_depth"
        )


def _class_weights(
    training: TrainingParameters, classes: Sequence[str], statistics: DatasetStatistics
) -> tuple[float, ...] | None:
    class_weights = training.loss.class_weights
    if class_weights == "none":
        return None
    if class_weights == "auto":
        return tuple(automatic_class_weights([statistics.class_shares[name] for name in classes]))
    return tuple(float(weight) for weight in class_weights)


def automatic_class_weights(shares: Sequence[float]) -> list[float]:
    """Weigh rare classes more: w = 1 / ln(1.02 + share of the training pixels), brought to a mean of 1.

    The formula of ENet (Paszke et al. 2016, https://arxiv.org/abs/1606.02147): bounded, unlike the inverse share.
    """
    weights = [1.0 / math.log(1.02 + share) for share in shares]
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]
