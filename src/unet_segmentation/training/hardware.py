"""Which device, precision and threads a training uses on this machine. torch is imported where it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.parameters.training import TrainingParameters
from unet_segmentation.utils.machine import usable_cores

MAX_CUDA_WORKERS = 8
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class ResolvedHardware(StrictModel):
    """What a training runs on, every ``auto`` resolved."""

    accelerator: str  # cuda, mps or cpu
    devices: int  # of each host
    num_nodes: int  # hosts that train together
    precision: Precision
    num_threads: int  # of torch, in each process
    num_workers: int  # processes that load batches

    @property
    def world_size(self) -> int:
        """Return how many processes train together, over all hosts."""
        return self.devices * self.num_nodes


def resolve_hardware(training: TrainingParameters) -> ResolvedHardware:
    """Resolve what the parameters leave to the machine.

    Raises:
        ConfigurationError: a device or precision is not available here.
    """
    accelerator = _resolve_accelerator(training.accelerator)
    devices = _resolve_devices(training.devices, accelerator)
    return ResolvedHardware(
        accelerator=accelerator,
        devices=devices,
        num_nodes=training.num_nodes,
        precision=resolve_precision(training.precision, accelerator),
        num_threads=max(1, available_cores() // devices) if training.num_threads == "auto" else training.num_threads,
        num_workers=_default_workers(accelerator) if training.num_workers == "auto" else training.num_workers,
    )


def _resolve_accelerator(accelerator: str) -> str:
    """Return ``cuda``, ``mps`` or ``cpu``; raise a ConfigurationError where it is not available."""
    import torch

    available = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if accelerator == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[accelerator]:
        others = ", ".join(name for name, present in available.items() if present)
        reason = " (this PyTorch is built without CUDA)" if accelerator == "cuda" and torch.version.cuda is None else ""
        raise ConfigurationError(
            f"training.accelerator: {accelerator} is asked for, but there is none here{reason}. Take auto, or one of: "
            f"{others}"
        )
    return accelerator


def _resolve_devices(devices: int | str, accelerator: str) -> int:
    """Return how many devices train together: where it is ``auto``, all GPUs or one CPU."""
    import torch

    available = torch.cuda.device_count() if accelerator == "cuda" else 1
    if devices == "auto":
        return available
    if accelerator != "cpu" and int(devices) > available:
        raise ConfigurationError(f"training.devices: {devices} are asked for, but there are {available}; take auto")
    return int(devices)


def resolve_precision(precision: Precision | Literal["auto"], accelerator: str) -> Precision:
    """Return ``bf16-mixed`` where it is ``auto`` and the hardware computes in it, else ``32-true``."""
    import torch

    if precision == "16-mixed" and accelerator == "cpu":
        raise ConfigurationError("training.precision: 16-mixed needs a GPU; take auto, bf16-mixed or 32-true")
    if precision != "auto":
        return precision
    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    capabilities = torch.cpu.get_capabilities() if accelerator == "cpu" else {}
    multiplies_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")  # emulated it would be slower
    return "bf16-mixed" if multiplies_bf16 else "32-true"


def available_cores() -> int:
    """Count the physical cores that this process may use: affinity, container quota and OMP_NUM_THREADS respected."""
    import torch

    return max(1, min(usable_cores(), torch.get_num_threads(), _container_quota()))


def _container_quota() -> int:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such limit
        return 1 << 16


def _default_workers(accelerator: str) -> int:
    """On a CPU the cores are busy training: a worker process would only take them away."""
    return min(MAX_CUDA_WORKERS, max(1, available_cores() - 1)) if accelerator == "cuda" else 0
