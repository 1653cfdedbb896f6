"""How the network is applied to whole images, and what is made of its predictions."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from unet_segmentation.parameters.base import StrictModel

Symmetries = Literal["none", "flip", "d4"]
BoundaryScore = Literal["boundary_iou", "hd95", "surface_dice"]


class PredictorParameters(StrictModel):
    """The predictor's parameters; they travel with the model.

    Attributes:
        max_pixels: an image of at most so many pixels goes through the network whole; a larger one in tiles.
        tile_size: side of a tile, in pixels, a multiple of 32.
        overlap: share of a tile's side that neighbours share.
        raster_overlap: the same where a raster goes window by window, 0 to 0.5; less than `overlap`, as what tiles
            share is computed twice, and a raster is nearly all seams.
        batch_size: tiles (or images of one size) that go through the network together at most; `auto` takes what fits
            into a GPU's free memory. Where memory runs short, a batch is halved.
        test_time_augmentation: `flips` averages over an image and its three mirror images, `d4` over all eight
            symmetries of the square; four and eight times the work.
    """

    max_pixels: int = Field(default=1_048_576, ge=1024)
    tile_size: int = Field(default=512, ge=32, multiple_of=32)
    overlap: float = Field(default=0.25, ge=0, lt=0.9)
    raster_overlap: float = Field(default=0.125, ge=0, le=0.5)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 8
    test_time_augmentation: Symmetries = "none"


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
        """Take one word for a list: Kedro's --params cannot hold one."""
        if value == "all":
            return list(get_args(BoundaryScore))
        return [value] if isinstance(value, str) else value
