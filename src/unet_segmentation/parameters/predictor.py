"""How the model is applied to whole images."""

from typing import Annotated, Literal

from pydantic import Field

from unet_segmentation.parameters.base import Auto, StrictModel

Symmetries = Literal["none", "flip", "d4"]


class PredictorParameters(StrictModel):
    """The predictor's parameters; they travel with the model.

    Attributes:
        max_pixels: a larger image goes through the model in tiles.
        tile_size: side of a tile, in pixels, a multiple of 32.
        overlap: share of a tile's side that neighbors share.
        raster_overlap: the same where a raster goes window by window, 0 to 0.5; less than `overlap`, as what tiles
            share is computed twice, and a raster is nearly all seams.
        batch_size: tiles (or images of one size) that go through the network together at most; `auto` takes what fits
            into a GPU's free memory. Where memory runs short, a batch is halved.
        test_time_augmentation: `flip` averages over an image and its three mirror images, `d4` over all eight
            symmetries of the square; four and eight times the work.
    """

    max_pixels: int = Field(default=1_048_576, ge=1024)
    tile_size: int = Field(default=512, ge=32, multiple_of=32)
    overlap: float = Field(default=0.25, ge=0, lt=0.9)
    raster_overlap: float = Field(default=0.125, ge=0, le=0.5)
    batch_size: Annotated[int, Field(ge=1)] | Auto = 8
    test_time_augmentation: Symmetries = "none"
