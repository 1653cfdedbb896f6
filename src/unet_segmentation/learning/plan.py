"""The plan: everything that is `auto` resolved once, before the first step, into JSON that belongs to the run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch

import unet_segmentation
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.learning.batches import Samples
from unet_segmentation.learning.losses import automatic_class_weights
from unet_segmentation.parameters.training import TrainingParameters

LARGEST_PATCH = 256
SMALLEST_PATCH = 32
CUDA_WORKERS = 8


def resolve_plan(
    training: TrainingParameters,
    network: dict[str, Any],
    samples: Samples,
    split: Mapping[str, Sequence[str]],
    recipe: dict[str, Any],
    profile: dict[str, Any],
) -> dict[str, Any]:
    """Decide everything about a training.

    Args:
        training: the parameters.
        network: the specification.
        samples: packed images, asked for their sizes only.
        split: sample ids by split; ``train`` and ``validation`` are used.
        recipe: of the augmentation.
        profile: statistics of the training split: ``data_sha256``, and ``class_shares`` by class.

    Returns:
        JSON: ``accelerator, precision, memory_format, threads, workers, batch_size, patch_size, epochs,
        steps_per_epoch, seed, class_weights, samples`` (ids by split), ``parameters`` (as given), ``versions`` and
        ``fingerprint`` (of all this, the network, the recipe and the data).

    Raises:
        ConfigurationError: what is asked for cannot be done on this machine, or does not fit together.
        DataError: there is nothing to train on, or to validate with.
    """
    for name in ("train", "validation"):
        if not split.get(name):
            raise DataError(
                f"The {name} split has no sample with a mask: give the data more, or change split.validation, "
                "split.test or source.splits"
            )
    accelerator = resolve_accelerator(training.accelerator)
    plan: dict[str, Any] = {
        "accelerator": accelerator,
        "precision": resolve_precision(training.precision, accelerator),
        "memory_format": "channels_last",
        "threads": available_cores() if training.threads == "auto" else training.threads,
        "workers": _workers(accelerator) if training.workers == "auto" else training.workers,
        "batch_size": training.batch_size,
        "patch_size": _check_patch(resolve_patch_size(training, samples, split["train"]), network["multiple"]),
        "epochs": training.epochs,
        "steps_per_epoch": resolve_steps(training, len(split["train"])),
        "seed": training.seed,
        "class_weights": _class_weights(training, network["classes"], profile),
        "samples": {name: list(split[name]) for name in ("train", "validation")},
        "parameters": training.model_dump(mode="json"),
        "versions": {"unet_segmentation": unet_segmentation.__version__, "torch": torch.__version__},
    }
    return plan | {"fingerprint": fingerprint(plan, network, recipe, profile.get("data_sha256"))}


def fingerprint(*parts: object) -> str:
    """Hash JSON values: 16 hexadecimal digits, the same for the same content in any order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def resolve_accelerator(wanted: str) -> str:
    """Choose ``cuda``, ``mps`` or ``cpu``.

    Raises:
        ConfigurationError: the one asked for is not there.
    """
    present = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[wanted]:
        others = ", ".join(name for name, there in present.items() if there)
        why = " (this PyTorch is built without CUDA)" if wanted == "cuda" and torch.version.cuda is None else ""
        raise ConfigurationError(
            f"training.accelerator: {wanted} is asked for, but there is none here{why}. Take auto, or one of: {others}"
        )
    return wanted


def resolve_precision(wanted: str, accelerator: str) -> str:
    """Choose ``bf16`` where the hardware computes in it, else ``32``.

    Raises:
        ConfigurationError: 16 asked for on a CPU.
    """
    if wanted == "16" and accelerator == "cpu":
        raise ConfigurationError("training.precision: 16 needs a GPU; take auto, bf16 or 32")
    if wanted != "auto":
        return wanted
    if accelerator == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    return "bf16" if accelerator == "cpu" and cpu_has_bf16() else "32"


def cpu_has_bf16() -> bool:
    """Say whether the CPU multiplies in bfloat16 (AVX-512 BF16 or AMX): where it only emulates, float32 is faster."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def available_cores() -> int:
    """Count the physical cores that this process may use: affinity, container quota and OMP_NUM_THREADS respected."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, torch.get_num_threads(), _container_quota()))


def _container_quota() -> int:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such limit
        return 1 << 16


def _workers(accelerator: str) -> int:
    """On a CPU the cores are busy training: a worker process would only take them away."""
    return min(CUDA_WORKERS, max(1, available_cores() - 1)) if accelerator == "cuda" else 0


def resolve_patch_size(training: TrainingParameters, samples: Samples, sample_ids: Sequence[str]) -> int:
    """Choose the side of a patch: at most 256 and at most the median image's shorter side, a multiple of 32."""
    if training.patch_size != "auto":
        return training.patch_size
    side = int(median(min(samples.shape(sample_id)[:2]) for sample_id in sample_ids))
    return max(SMALLEST_PATCH, min(LARGEST_PATCH, side) // SMALLEST_PATCH * SMALLEST_PATCH)


def resolve_steps(training: TrainingParameters, samples: int) -> int:
    """Count the steps of an epoch: one pass over the samples, the last batch filled up, or more of them."""
    return max(training.minimum_steps, -(-samples // training.batch_size))


def labelled_split(samples: pd.DataFrame) -> dict[str, list[str]]:
    """Name the samples that have a mask, by split, in an order that does not depend on the table's.

    Args:
        samples: columns ``sample_id, split, masks``.
    """
    labelled = samples[samples["masks"].map(len) > 0].sort_values("sample_id")
    return {str(name): ids.tolist() for name, ids in labelled.groupby("split")["sample_id"]}


def _check_patch(patch_size: int, multiple: int) -> int:
    if patch_size < multiple:
        raise ConfigurationError(
            f"training.patch_size: {patch_size} px are fewer than the {multiple} that this network halves away; "
            "raise training.patch_size or lower network.encoder_depth"
        )
    return patch_size


def _class_weights(training: TrainingParameters, classes: list[str], profile: dict[str, Any]) -> list[float] | None:
    wanted = training.loss.class_weights
    if wanted == "none":
        return None
    if wanted == "auto":
        return automatic_class_weights([profile["class_shares"][name] for name in classes])
    return [float(weight) for weight in wanted]
