"""How masks are read, what inspection does, and how samples are split."""

from typing import Literal, Self

from pydantic import Field, model_validator

from unet_segmentation.parameters.base import StrictModel

RGB = tuple[int, int, int]


class MaskParameters(StrictModel):
    """How the pixel values of a mask file become class ids.

    Attributes:
        encoding: `index` (values are class ids, or what `values` maps to them), `threshold` (two classes: values
            above `threshold` are class 1), `palette` (indices of a palette image), `colors` (RGB by class).
        values: mask value to class name, where ids are not 0..n-1.
        colors: class name to RGB.
        threshold: see above.
        ignore: mask values (or, for `colors`, none) whose pixels count nowhere. 255 is always ignored in
            `index` and `palette` masks unless `values` says otherwise.
        ignore_colors: RGB colours whose pixels count nowhere.
    """

    encoding: Literal["index", "threshold", "palette", "colors"] = "index"
    values: dict[int, str] = Field(default_factory=dict)
    colors: dict[str, RGB] = Field(default_factory=dict)
    threshold: int = 127
    ignore: list[int] = Field(default_factory=list)
    ignore_colors: list[RGB] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.encoding == "colors") != bool(self.colors):
            raise ValueError("encoding colors and the table colors go together: give both or neither")
        return self


class InspectionParameters(StrictModel):
    """How files are inspected.

    Attributes:
        workers: threads that decode files; 0 means one per core.
        rare_share: a class below this share of the pixels is reported as rare (a warning).
    """

    workers: int = Field(default=0, ge=0)
    rare_share: float = Field(default=0.001, ge=0, le=1)


class SplitParameters(StrictModel):
    """How samples are split where the source has no official split, or none for validation.

    Attributes:
        seed: same seed and samples, same split.
        validation: share of the samples for validation.
        test: share of the samples for testing.
    """

    seed: int = Field(default=0, ge=0)
    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave samples for training")
        return self
