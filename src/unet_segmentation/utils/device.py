"""The device that a network runs on, and what else the last bits of its output depend on."""

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


def compute_environment() -> dict[str, str]:
    """Return where and how the predictor computes on this machine. Equal environments give equal bits.

    The number of threads is left out: a convolution is divided among them by its outputs, never within a sum.

    Returns:
        `device` (the model of a GPU, the vector instructions of a CPU), `precision` and `torch` (its version).
    """
    import torch

    device, name, precision = pick_device("auto"), "", "float32"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability(device) >= (8, 0):
            precision = "tf32"
    elif device.type == "cpu":
        name = torch.backends.cpu.get_cpu_capability()
    return {"device": f"{device.type} {name}".strip(), "precision": precision, "torch": torch.__version__}
