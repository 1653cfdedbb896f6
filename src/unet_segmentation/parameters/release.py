"""When a trained model is released: what the gate asks of it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from unet_segmentation.parameters.base import StrictModel

ReleaseScore = Literal[
    "dice/mean",
    "iou/mean",
    "dice/foreground_mean",
    "iou/foreground_mean",
    "dice/per_image_mean",
    "iou/per_image_mean",
    "iou/frequency_weighted",
    "accuracy/pixel",
    "accuracy/class_mean",
]


class ReleaseParameters(StrictModel):
    """What the gate asks of the challenger. Only the pipeline `release` reads this.

    Attributes:
        run: the challenger: an MLflow run's id, the beginning of one, or its name. None: the run whose model lies in
            `data/`.
        score: what has to be better, or at least not worse.
        noninferiority_margin: the challenger passes where the interval of the difference does not reach below -margin:
            it is better, or worse by less than what matters. 0: it has to be as good at least.
        class_noninferiority_margin: no class may fall by more than so much, in Dice (in IoU, where `score` is one).
        tolerance: how far a score may differ when the logged model runs on another device than evaluation's. On
            the same one it must not differ at all.
        force: release whatever the gate says.
        reason: the reason for that; needed with `force`.
    """

    run: str | None = None
    score: ReleaseScore = "dice/mean"
    noninferiority_margin: float = Field(default=0.015, ge=0, lt=1)
    class_noninferiority_margin: float = Field(default=0.05, ge=0, lt=1)
    tolerance: float = Field(default=0.001, ge=0, lt=1)
    force: bool = False
    reason: str | None = None

    @model_validator(mode="after")
    def _force_has_a_reason(self) -> Self:
        if self.force and not (self.reason or "").strip():
            raise ValueError("force: say why, with `reason`: the reason is kept with the release")
        return self
