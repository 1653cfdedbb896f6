"""What every parameter model shares."""

from unet_segmentation.utils.strict_model import StrictModel

__all__ = ["StrictModel"]
