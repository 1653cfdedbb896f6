"""The machine and the library versions that a run is made with, as tags; nothing heavy is imported."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "unet-segmentation",
    "torch",
    "lightning",
    "segmentation-models-pytorch",
    "albumentations",
    "numpy",
    "kedro",
    "mlflow",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that matter, as tags."""
    tags = {"version.python": platform.python_version()}
    for library in LIBRARIES:
        try:
            tags[f"version.{library}"] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return tags


def machine() -> dict[str, str]:
    """Return the system, the processor and the GPUs, as tags."""
    facts = {"system": platform.platform(), "processor": _processor(), "gpus": ", ".join(gpus())}
    return {f"machine.{name}": value for name, value in facts.items() if value}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return the names of NVIDIA's GPUs; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return []
