"""Which backend predicts: the fastest of those that give the network's masks, measured on images that will be met."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from unet_segmentation.errors import ConfigurationError, ProjectError, ResourceError
from unet_segmentation.inference.backends.base import Backend, Image, Probabilities
from unet_segmentation.inference.ensemble import EnsembleBackend, common_specification
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.parameters.inference import BackendName
from unet_segmentation.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    from torch import nn

    from unet_segmentation.inference.backends.pytorch import Accelerator

logger = logging.getLogger(__name__)

AGREEMENT = 0.999  # share of the pixels that must get the class that eager float32 gives them
WORTH = 20.0  # seconds of work: below that, what takes seconds to be made (exported, ONNX) cannot pay off
SECONDS = 2.0  # of timing for each backend, at most
REPEATS = 5


@dataclass(frozen=True)
class BackendBenchmark:
    """A backend on the examples.

    Attributes:
        backend: its name.
        precision: what it computes in.
        images_per_second: median over repeats.
        agreement: share of the pixels with the class of eager float32.
        largest_difference: of a probability, from eager float32.
        verified: whether it agrees on enough pixels.
        chosen: whether it is what predicts.
        remark: why it was not measured, or what else there is to say.
    """

    backend: str
    precision: str = "float32"
    images_per_second: float = float("nan")
    agreement: float = float("nan")
    largest_difference: float = float("nan")
    verified: bool = False
    chosen: bool = False
    remark: str = ""


@dataclass(frozen=True)
class _Models:
    """What backends are made of."""

    files: Sequence[Path]
    networks: Sequence[nn.Module]
    specifications: Sequence[Mapping[str, Any]]
    examples: Sequence[Image]
    accelerator: Accelerator
    folder: Path


def choose_backend(
    models: Sequence[Path],
    examples: Sequence[Image],
    *,
    wanted: BackendName = "auto",
    accelerator: Accelerator = "auto",
    folder: Path,
    expected_images: int | None = None,
) -> tuple[Backend, pd.DataFrame]:
    """Choose what predicts, or make what is wanted.

    Each candidate is held against the network in eager float32 on all examples, and timed on them. Among those that
    agree on `AGREEMENT` of the pixels the fastest is chosen. The choice is kept in `folder`, by the weights, the
    machine, the libraries and the sizes; when it is met again, only the chosen backend is made, and verified anew.

    Args:
        models: safetensors files; several are averaged.
        examples: batches (N, height, width, channels) of raw pixels, of the sizes that will be met. A few are enough.
        wanted: a backend; `auto` chooses. `int8` is never chosen by itself: it is made from the examples, and its loss
            is to be known (see the pipeline `export`).
        accelerator: `auto` takes a GPU where there is one.
        folder: where exported files and choices are kept.
        expected_images: how many images will be predicted: where the work is small, only what is made at once is tried.

    Returns:
        The backend, and a row for each candidate with the columns of `Measured`.

    Raises:
        ProjectError: a file holds no network of this project, or the wanted backend cannot be made.
        ResourceError: the accelerator is not there, or the wanted backend does not run on it.
    """
    from unet_segmentation.models.factory import load_model

    if wanted not in get_args(BackendName):
        raise ConfigurationError(f"backend: {wanted} is not known. Take one of {', '.join(get_args(BackendName))}.")
    loaded = [load_model(file) for file in models]
    specifications = [information["specification"] for _, information in loaded]
    common_specification(specifications)
    ours = _Models(models, [network for network, _ in loaded], specifications, examples, accelerator, folder)
    eager = _make("pytorch", ours)
    if wanted == "pytorch" or (wanted == "auto" and not examples):
        return eager, _table(
            [BackendBenchmark("pytorch", agreement=1.0, largest_difference=0.0, verified=True, chosen=True)]
        )
    device = _device(ours)
    if wanted != "auto":
        return _as_wanted(wanted, ours, eager)
    key = _key(ours, device)
    known = _load_cached_choice(folder, key)
    if known is not None and (again := _verified_again(known, ours, eager)) is not None:
        return again, _table(known)
    candidates = ["bfloat16", "float16"] if device != "cpu" else _on_cpu(eager, ours, expected_images)
    return _fastest(candidates, ours, eager, key)


def _as_wanted(wanted: str, ours: _Models, eager: Backend) -> tuple[Backend, pd.DataFrame]:
    """Make what was asked for, and say how far it is from the network."""
    backend = _make(wanted, ours)
    rows = _measure({"pytorch": eager, wanted: backend}, ours.examples) if ours.examples else [BackendBenchmark(wanted)]
    rows = [replace(row, chosen=row.backend == wanted) for row in rows]
    chosen = rows[-1]
    if ours.examples and not chosen.verified:
        logger.warning(
            "%s gives %.2f %% of the pixels another class than float32", wanted, 100 * (1 - chosen.agreement)
        )
    return backend, _table(rows)


def _fastest(candidates: Sequence[str], ours: _Models, eager: Backend, key: str) -> tuple[Backend, pd.DataFrame]:
    backends: dict[str, Backend] = {"pytorch": eager}
    failed: list[BackendBenchmark] = []
    for name in candidates:
        try:
            backend = _make(name, ours)
            for example in ours.examples:  # some networks can be written in a form that then does not run
                backend(example)
            backends[name] = backend
        except (ProjectError, RuntimeError, MemoryError) as error:
            failed.append(BackendBenchmark(name, _precision(name), remark=str(error).partition("\n")[0]))
    rows = _measure(backends, ours.examples)
    best = max((row for row in rows if row.verified), key=lambda row: row.images_per_second)
    rows = [replace(row, chosen=row is best) for row in rows]
    if set(candidates) >= {"torch-export", "onnx"} or "float16" in candidates:  # everything was tried
        _cache_choice(ours.folder, key, rows + failed)
    return backends[best.backend], _table(rows + failed)


def _on_cpu(eager: Backend, ours: _Models, expected_images: int | None) -> list[str]:
    """Leave out what has to be made first, where all the work takes less time than that."""
    import torch

    fast = ["bfloat16"] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []
    if expected_images is not None:
        started = time.perf_counter()
        eager(ours.examples[0])
        seconds = (time.perf_counter() - started) / len(ours.examples[0]) * expected_images
        if seconds < WORTH:
            return fast
    return [*fast, "torch-export", "onnx"]


def _measure(backends: Mapping[str, Backend], examples: Sequence[Image]) -> list[BackendBenchmark]:
    """Hold every backend against the first, then let them take turns, so that a busy machine slows all alike."""
    reference, *_ = backends.values()
    equal, largest = dict.fromkeys(backends, 0), dict.fromkeys(backends, 0.0)
    for example in examples:
        wanted = reference(example)
        for name, backend in backends.items():
            found = wanted if backend is reference else backend(example)
            equal[name] += _equal_pixels(found, wanted)
            largest[name] = max(largest[name], float(np.abs(found - wanted).max()))
    pixels = sum(example[..., 0].size for example in examples)
    times = _timed(backends, max(examples, key=lambda example: example.size))
    return [
        BackendBenchmark(
            name,
            _precision(name),
            images_per_second=times[name],
            agreement=equal[name] / pixels,
            largest_difference=largest[name],
            verified=equal[name] >= AGREEMENT * pixels,
        )
        for name in backends
    ]


def _equal_pixels(found: Probabilities, wanted: Probabilities) -> int:
    pairs = zip(found, wanted, strict=True)
    return sum(int((argmax_mask(one) == argmax_mask(two)).sum()) for one, two in pairs)


def _timed(backends: Mapping[str, Backend], example: Image) -> dict[str, float]:
    """Return images per second of each, in turns; they are warm by now."""
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(REPEATS):
        for name, backend in backends.items():
            if sum(seconds[name]) > SECONDS:
                continue
            started = time.perf_counter()
            backend(example)
            seconds[name].append(time.perf_counter() - started)
    return {name: len(example) / median(taken) for name, taken in seconds.items()}


def _make(name: str, ours: _Models) -> Backend:
    """Make a backend of each network, and their mean where they are several."""
    members = [_make_one(name, ours, number) for number in range(len(ours.networks))]
    return members[0] if len(members) == 1 else EnsembleBackend(members)


def _make_one(name: str, ours: _Models, number: int) -> Backend:
    import copy

    from unet_segmentation.inference.backends.pytorch import EagerBackend

    network, specification = ours.networks[number], ours.specifications[number]
    if name == "pytorch":
        return EagerBackend(copy.deepcopy(network), ours.accelerator)
    if name in ("bfloat16", "float16"):
        precision: Literal["bfloat16", "float16"] = "bfloat16" if name == "bfloat16" else "float16"
        return EagerBackend(_folded(network, specification), ours.accelerator, precision)
    if _device(ours) != "cpu":
        raise ResourceError(f"backend: {name} computes on the CPU only. Take accelerator cpu, or another backend.")
    if name == "torch-export":
        from unet_segmentation.inference.backends.exported_program import ExportedBackend
        from unet_segmentation.inference.backends.torch_export import export_program

        return ExportedBackend(export_program(network, specification, "int32"))
    return _onnx(name, ours, number)


def _folded(network: nn.Module, specification: Mapping[str, Any]) -> nn.Module:
    import torch

    from unet_segmentation.models.fuse_batchnorm import fuse_conv_bn

    side = 2 * int(specification["multiple"])
    return fuse_conv_bn(network, torch.zeros(1, int(specification["in_channels"]), side, side, dtype=torch.int32))


def _onnx(name: str, ours: _Models, number: int) -> Backend:
    """Make the ONNX file, unless it is there from an earlier time."""
    import torch

    from unet_segmentation.inference.backends.onnx_export import save_onnx
    from unet_segmentation.inference.backends.onnxruntime import OnnxRuntimeBackend
    from unet_segmentation.inference.backends.torch_export import export_program

    specification = ours.specifications[number]
    label = hashlib.sha256(f"{_weights(ours.files[number])} {_versions()}".encode()).hexdigest()[:16]
    file = ours.folder / f"{label}.onnx"
    if not file.is_file():
        save_onnx(export_program(ours.networks[number], specification, "int32"), specification, file)
    if name == "onnx":
        return OnnxRuntimeBackend(file, threads=torch.get_num_threads())
    from unet_segmentation.inference.backends.quantization import quantise

    small = file.with_suffix(".int8.onnx")  # made anew each time: its ranges are those of these examples
    batches = (example[:1].astype(np.int32) for example in ours.examples)
    quantise(file, small, batches)  # type: ignore[arg-type] # the file takes int32, which holds both depths
    return OnnxRuntimeBackend(small, precision="int8", threads=torch.get_num_threads())


def _precision(name: str) -> str:
    return name if name in ("bfloat16", "float16", "int8") else "float32"


def _device(ours: _Models) -> str:
    from unet_segmentation.inference.backends.pytorch import pick_device

    return pick_device(ours.accelerator).type


def _weights(file: Path) -> str:
    """Hash the whole file: its header says what pixels are normalised with."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _versions() -> str:
    from importlib import metadata

    return " ".join(metadata.version(name) for name in ("torch", "onnxruntime", "onnx", "onnxscript"))


def _key(ours: _Models, device: str) -> str:
    """Name what a choice depends on."""
    import torch

    from unet_segmentation.utils.compute_environment import compute_environment
    from unet_segmentation.utils.machine import machine

    shapes = sorted({(*example.shape, str(example.dtype)) for example in ours.examples})
    parts = [
        [_weights(file) for file in ours.files],
        device,
        compute_environment(),
        machine().get("machine.processor"),
        torch.get_num_threads(),
        _versions(),
        shapes,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _load_cached_choice(folder: Path, key: str) -> list[BackendBenchmark] | None:
    try:
        rows = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        return [BackendBenchmark(**row) for row in rows]
    except (OSError, ValueError, TypeError):  # none yet, or of another version
        return None


def _cache_choice(folder: Path, key: str, rows: Sequence[BackendBenchmark]) -> None:
    with atomic_write(folder / f"{key}.json") as temporary:
        temporary.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")


def _verified_again(rows: Sequence[BackendBenchmark], ours: _Models, eager: Backend) -> Backend | None:
    """Make what was chosen earlier, if it agrees on these examples, too."""
    name = next((row.backend for row in rows if row.chosen), "pytorch")
    if name == "pytorch":
        return eager
    try:
        backend = _make(name, ours)
        equal = sum(_equal_pixels(backend(example), eager(example)) for example in ours.examples)
    except (ProjectError, RuntimeError, MemoryError):
        return None
    return backend if equal >= AGREEMENT * sum(example[..., 0].size for example in ours.examples) else None


def _table(rows: Sequence[BackendBenchmark]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])
