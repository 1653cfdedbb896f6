"""What training does to its samples before the network sees them."""

from typing import Any

from pydantic import Field

from unet_segmentation.parameters.base import StrictModel

RECIPE_VERSION = 1


class TransformParameters(StrictModel):
    """One albumentations transform.

    Attributes:
        name: the class's name, such as `HorizontalFlip`.
        parameters: its keyword arguments; an unknown one is an error.
    """

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class AugmentationParameters(StrictModel):
    """The transforms of training, in their order, and the preview of them.

    Attributes:
        transforms: applied after the patch was cut. Empty means none.
        preview_samples: how many samples of the first batches of the first epoch the contact sheet shows.
    """

    transforms: list[TransformParameters] = Field(default_factory=list)
    preview_samples: int = Field(default=16, ge=1)


class AugmentationRecipe(StrictModel):
    """The transforms with everything resolved, as training applies them.

    Attributes:
        version: of the form of the recipe.
        library: with its version, which decides the defaults of the transforms.
        transforms: in their order; 255 (ignored) is written in wherever one fills a mask.
    """

    version: int = RECIPE_VERSION
    library: str = ""
    transforms: tuple[TransformParameters, ...] = ()
