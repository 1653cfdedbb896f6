"""What a network costs, as far as it does not depend on the machine."""

from __future__ import annotations

from typing import Any

import torch

BYTES_OF_A_WEIGHT = 16  # float32: the weight, its gradient, and AdamW's two moments


def network_costs(specification: dict[str, Any], side: int, batch_size: int) -> dict[str, int | None]:
    """Count a network's parameters, the multiply-adds of one square image, and the memory that a training step keeps.

    Args:
        specification: of the network.
        side: of the image, in pixels.
        batch_size: of the training.

    Returns:
        `parameters`, `multiply_adds` and `memory_bytes`: what the backward pass needs of a batch, in float32, and the
        weights with what the optimizer keeps of them; counted, not measured. None where it cannot be counted.
    """
    try:
        from unet_segmentation.learning.costs import network_costs as measured
    except ImportError:
        counts = {"parameters": int(specification["parameters"]), "multiply_adds": _multiply_adds(specification, side)}
        return counts | {"memory_bytes": None}
    found = measured(specification, side, side)
    memory = batch_size * found["activation_bytes"] + BYTES_OF_A_WEIGHT * found["parameters"]
    return {"parameters": found["parameters"], "multiply_adds": found["multiply_adds"], "memory_bytes": memory}


def _multiply_adds(specification: dict[str, Any], side: int) -> int:
    """Let torch count while one image goes through (convolutions and matrix products; two operations each)."""
    from torch.utils.flop_counter import FlopCounterMode

    from unet_segmentation.learning.network import build_network

    with torch.random.fork_rng():
        network = build_network(specification).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, specification["in_channels"], side, side))
    return counter.get_total_flops() // 2


class PeakMemory:
    """The most memory that a GPU held while a block ran; nothing is known elsewhere.

    Attributes:
        mib: in MiB; None without a GPU.
    """

    def __init__(self) -> None:
        self.mib: float | None = None

    def __enter__(self) -> PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            self.mib = torch.cuda.max_memory_allocated() / 2**20
