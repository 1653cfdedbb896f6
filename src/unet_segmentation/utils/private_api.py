"""Private interfaces of other libraries, in one place: look here at every upgrade.

Each function says why nothing public serves, and with which version it was checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor, nn

# Elastic agents of torch 2.15 share one store between all restarts: a process that starts sooner than the others finds
# the addresses of those that died, and waits for them. With this variable each restart gets a store of its own.
STORE_PER_RESTART = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def foreach_lerp_(averages: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """Interpolate many tensors in place by one kernel; the public `Tensor.lerp_` takes one at a time (torch 2.15)."""
    import torch

    torch._foreach_lerp_(list(averages), list(values), weight)


def ignore_in_ddp(module: nn.Module, names: Sequence[str]) -> None:
    """Exclude buffers from the broadcast of DDP; its public switch excludes all or none (torch 2.15)."""
    from torch.nn.parallel import DistributedDataParallel

    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, list(names))


def processed_batches(checkpoint: Mapping[str, Any]) -> int:
    """Return how many batches of its epoch a checkpoint has behind it; Lightning 2.6 has no public name for it."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    return int(progress["processed"])


def first_batch(trainer: L.Trainer) -> int:
    """Return the batch that a training resumes with within an epoch; no public name either (Lightning 2.6)."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


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
