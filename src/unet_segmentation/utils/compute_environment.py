"""What the last bits of a network's output depend on, in addition to the network, the tiles and the batches."""

from __future__ import annotations

import torch

from unet_segmentation.utils.device import pick_device


def compute_environment() -> dict[str, str]:
    """Return where and how the predictor computes on this machine. Equal environments give equal bits.

    The number of threads is left out: a convolution is divided among them by its outputs, never within a sum.

    Returns:
        `device` (the model of a GPU, the vector instructions of a CPU), `precision` and `torch` (its version).
    """
    device = pick_device("auto")
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        tensor_cores = torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "tf32" if tensor_cores else "float32"
    else:
        name = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else ""
        precision = "float32"
    return {"device": f"{device.type} {name}".strip(), "precision": precision, "torch": torch.__version__}
