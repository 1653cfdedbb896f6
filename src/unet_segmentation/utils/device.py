"""The device that a network runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unet_segmentation.errors import ResourceError

if TYPE_CHECKING:
    import torch

Accelerator = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(accelerator: Accelerator) -> torch.device:
    """Return the device that a network runs on; `auto` takes a GPU where there is one.

    Raises:
        ResourceError: the accelerator is not there.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[accelerator]:
        raise ResourceError(f"accelerator: {accelerator} was asked for, but there is none here. Use auto or cpu.")
    return torch.device(accelerator)
