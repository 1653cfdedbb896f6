"""Base class and types that parameter models share."""

from typing import Literal

from unet_segmentation.utils.strict_model import StrictModel

Auto = Literal["auto"]

__all__ = ["Auto", "StrictModel"]
