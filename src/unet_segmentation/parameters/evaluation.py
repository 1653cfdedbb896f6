"""What is evaluated, and how it is shown."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from unet_segmentation.parameters.base import StrictModel

BoundaryScore = Literal["boundary_iou", "hd95", "surface_dice"]


class EvaluationParameters(StrictModel):
    """What is evaluated and shown.

    Attributes:
        split: the split that is scored.
        boundary_metrics: the boundary scores that are wanted, `all`, or one name; they take longer than the others.
        surface_dice_tolerance_px: of the surface Dice: how far from each other contours may be, in pixels.
        gallery_samples: how many of the worst, of the median and of the best samples the gallery shows.
        gallery_score: what orders the samples.
    """

    split: Literal["test", "validation", "train"] = "test"
    boundary_metrics: list[BoundaryScore] = Field(default_factory=list)
    surface_dice_tolerance_px: float = Field(default=2.0, ge=0)
    gallery_samples: int = Field(default=4, ge=1, le=50)
    gallery_score: Literal["iou/per_image_mean", "dice/per_image_mean"] = "iou/per_image_mean"

    @field_validator("boundary_metrics", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        """Accept one word as a list: Kedro's --params cannot hold one."""
        if value == "all":
            return list(get_args(BoundaryScore))
        return [value] if isinstance(value, str) else value
