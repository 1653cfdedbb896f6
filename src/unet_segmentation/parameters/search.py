"""The search for the best parameters of a problem's training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from unet_segmentation.parameters.base import StrictModel


class RangeParameters(StrictModel):
    """A range of numbers.

    Attributes:
        low: the smallest; where both are whole numbers, so are all.
        high: the largest.
        log: drawn evenly in the logarithm.
        step: distance between neighbors; None: any number (1 for whole ones).
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0, and no step")
        return self


class SearchParameters(StrictModel):
    """What is searched, and how. Only the pipeline `search` reads this.

    Attributes:
        space: dotted name of a parameter to its range (`{low: 1.0e-4, high: 1.0e-2, log: true}`) or its values (a
            list).
        n_trials: in all, over all processes and all earlier runs of the same search.
        seed: of the sampler.
        pruner: ends a trial after an epoch at which it does badly: `median`, worse than half of the earlier ones at
            that epoch; `hyperband`; or `none`.
        n_startup_trials: drawn at random, and never pruned by the median, before anything is learned from them.
    """

    space: dict[str, Any] = Field(default_factory=dict)
    n_trials: int = Field(default=20, ge=1)
    seed: int = Field(default=0, ge=0)
    pruner: Literal["median", "hyperband", "none"] = "median"
    n_startup_trials: int = Field(default=5, ge=1)

    @field_validator("space")
    @classmethod
    def _each_a_range_or_a_list(cls, space: dict[str, Any]) -> dict[str, Any]:
        for name, values in space.items():
            if isinstance(values, dict) and "low" in values:
                RangeParameters.model_validate(values)
            elif isinstance(values, dict) and values:
                cls._each_a_range_or_a_list(values)  # nested names
            elif not isinstance(values, list) or not values:
                raise ValueError(f"space: {name}: give a range, as {{low: 1, high: 8}}, or a list of values")
        return space
