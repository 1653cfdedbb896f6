"""What a network costs, as far as it does not depend on the machine."""

from __future__ import annotations

from typing import Any

import torch


def network_costs(specification: dict[str, Any], side: int) -> dict[str, int]:
    """Count a network's parameters, and the multiply-adds of one square image.

    Args:
        specification: of the network.
        side: of the image, in pixels.

    Returns:
        `parameters` and `multiply_adds`.
    """
    try:
        from unet_segmentation.learning.costs import network_costs as measured
    except ImportError:
        return {"parameters": int(specification["parameters"]), "multiply_adds": _multiply_adds(specification, side)}
    found = measured(specification, side, side)
    return {name: int(found[name]) for name in ("parameters", "multiply_adds")}


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
