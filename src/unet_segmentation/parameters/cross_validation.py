"""K-fold cross-validation: a training run for each fold, every sample predicted by a model that never saw it."""

from typing import Literal

from pydantic import Field, field_validator

from unet_segmentation.parameters.base import StrictModel

Split = Literal["train", "validation", "test"]


class CrossValidationParameters(StrictModel):
    """Which samples take part, and how they are divided. Only the pipeline `cross_validation` reads this.

    Attributes:
        folds: number of parts; each is held out once.
        seed: same seed and samples, same folds.
        splits: the samples of these splits take part. With `test`, all of them: then no sample remains that
            no model has seen.
    """

    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=0, ge=0)
    splits: list[Split] = Field(default=["train", "validation"], min_length=1)

    @field_validator("splits")
    @classmethod
    def _each_once(cls, splits: list[Split]) -> list[Split]:
        if len(set(splits)) < len(splits):
            raise ValueError("splits: a split is named twice")
        return splits
