"""Variants of a problem's training that are compared with each other."""

from typing import Any, Literal

from pydantic import Field, field_validator

from unet_segmentation.parameters.base import StrictModel


class SweepParameters(StrictModel):
    """Which variants are trained, and on what terms. Only the pipeline `comparison` reads this.

    Each variant is trained once for each seed, from the same prepared data. What differs is given by dotted names of
    parameters below `model`, `training`, `augmentation` and `predictor`.

    Attributes:
        variants: name of a variant to what it changes (`{deep: {model.encoder_depth: 5}}`); `{}` changes nothing.
        grid: dotted name to its values; every combination is a variant. With `variants`, too, each is crossed with
            the grid.
        seeds: of the training runs (`training.seed`).
        budget: `epochs`: every variant is trained for `training.epochs`, unless it says another number itself;
            `minutes`: every one for `training.max_time_minutes` of wall-clock.
    """

    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    budget: Literal["epochs", "minutes"] = "epochs"

    @field_validator("variants", mode="before")
    @classmethod
    def _nothing_changed(cls, value: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        """Convert a name without anything below it to a variant that changes nothing."""
        return {name: changes or {} for name, changes in value.items()} if isinstance(value, dict) else value

    @field_validator("seeds", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        """Convert one number to a list: Kedro's --params cannot hold one."""
        return [value] if isinstance(value, int) else value

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("seeds: whole numbers from 0, each once")
        return seeds
