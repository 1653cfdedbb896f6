"""The processes that train together, as each of them sees the others."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and how many train together: (0, 1) where it trains alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class _Sum(torch.autograd.Function):
    """The sum over all processes, from which every process computes the same loss.

    Gradients of the weights are averaged over processes afterwards, so that what flows back here counts once for each.
    """

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:  # noqa: ANN401 - autograd's
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override] # noqa: ANN401
        return gradient * torch.distributed.get_world_size()


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over all processes that train together; differentiable. The values themselves where there is only one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    return _Sum.apply(values)
