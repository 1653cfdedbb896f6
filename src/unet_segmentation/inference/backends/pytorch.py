"""The backend that every other is compared with: the network as it was trained, in plain torch."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from unet_segmentation.inference.backends.base import Backend, BackendRequest, Image, Probabilities, register_backend
from unet_segmentation.models.fuse_batchnorm import fuse_conv_bn
from unet_segmentation.utils.device import Accelerator, pick_device

Precision = Literal["float32", "bfloat16", "float16"]

SHARE = 0.8  # of a GPU's free memory that a batch may take
MOST = 64  # images together on a GPU; beyond that nothing is gained


class EagerBackend(Backend):
    """A torch network on a device.

    Args:
        network: takes raw pixel values (N, channels, H, W), uint8 or int32, and gives logits (N, classes, H, W).
        accelerator: `auto` takes a GPU where there is one.
        precision: of what pays off in fewer bits, convolutions above all; the normalization of the pixels and the
            softmax stay in float32 (torch's autocast).

    Raises:
        ResourceError: the accelerator is not there.
    """

    def __init__(self, network: nn.Module, accelerator: Accelerator = "auto", precision: Precision = "float32") -> None:
        self.device = pick_device(accelerator)
        self.name = f"torch, {precision}, on {self.device}"
        self._precision = precision
        self.saturation_pixels = Backend.saturation_pixels if self.device.type == "cpu" else 2**26
        self._capacity: dict[tuple[int, int, int], int] = {}
        self._network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, images: Image) -> Probabilities:
        """Compute probabilities, see `Backend`."""
        return torch.softmax(self._logits(images), dim=1).cpu().numpy()

    @torch.inference_mode()
    def both(self, images: Image) -> tuple[Probabilities, Probabilities]:
        """Compute probabilities and logits, both (N, classes, height, width)."""
        logits = self._logits(images)
        return torch.softmax(logits, dim=1).cpu().numpy(), logits.cpu().numpy()

    def _logits(self, images: Image) -> Tensor:
        pixels = torch.from_numpy(images if images.dtype == np.uint8 else images.astype(np.int32)).to(self.device)
        few_bits = self._precision != "float32"
        with torch.autocast(self.device.type, getattr(torch, self._precision) if few_bits else None, enabled=few_bits):
            # (N, H, W, C) seen as (N, C, H, W) lies in channels_last order already.
            return self._network(pixels.permute(0, 3, 1, 2)).float()

    def capacity(self, shape: tuple[int, int, int]) -> int | None:
        """Return how many images fit; on a GPU one image is tried, and the memory it takes is measured."""
        if self.device.type != "cuda":
            return None
        if shape not in self._capacity:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            self(np.zeros((1, *shape), np.uint8))
            used = torch.cuda.max_memory_allocated(self.device) - before
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info(self.device)
            self._capacity[shape] = max(1, min(MOST, int(SHARE * free / max(1, used))))
        return self._capacity[shape]


@register_backend("pytorch")
def build_eager(request: BackendRequest) -> Backend:
    """Build what evaluation computes with: the network as it was trained, in float32."""
    return EagerBackend(copy.deepcopy(request.network), request.accelerator)


@register_backend("bfloat16")
def build_bfloat16(request: BackendRequest) -> Backend:
    """Build the network with its batch normalization fused, in bfloat16."""
    return EagerBackend(_fused(request), request.accelerator, "bfloat16")


@register_backend("float16")
def build_float16(request: BackendRequest) -> Backend:
    """Build the network with its batch normalization fused, in float16."""
    return EagerBackend(_fused(request), request.accelerator, "float16")


def _fused(request: BackendRequest) -> nn.Module:
    side = 2 * request.spec.multiple
    return fuse_conv_bn(request.network, torch.zeros(1, request.spec.in_channels, side, side, dtype=torch.int32))
