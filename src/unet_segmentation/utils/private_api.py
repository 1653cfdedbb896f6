"""Private names of other libraries that are used here, each with its reason and the version it was checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cpu_computes_bfloat16() -> bool:
    """Return whether oneDNN computes bfloat16 here in instructions of the processor; else it would be slow.

    torch 2.11: there is no public question; `torch.backends.cpu.get_cpu_capability` does not tell.
    """
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def storage_id(tensor: Tensor) -> int:
    """Return the identity of the memory behind a tensor, also where there is none (`data_ptr` is 0 on `meta`).

    torch 2.11: `untyped_storage()` makes a new Python object at each call.
    """
    return int(tensor.untyped_storage()._cdata)
