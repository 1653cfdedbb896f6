"""The plan: everything that is `auto` resolved once, before the first step, into JSON that belongs to the run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import unet_segmentation
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters.training import TrainingParameters
from unet_segmentation.training.class_weights import automatic_class_weights
from unet_segmentation.training.patch_dataset import SampleStore
from unet_segmentation.utils.did_you_mean import unknown_name_error

logger = logging.getLogger(__name__)

CUDA_WORKERS = 8
RESULT_NEUTRAL = {
    "resume",
    "extra_epochs",
    "rdzv_endpoint",
    "num_workers",
}  # parameters that change nothing in what is computed


def resolve_plan(
    training: TrainingParameters,
    proposal: Mapping[str, Any],
    spec: ModelSpec,
    samples: SampleStore,
    split: Mapping[str, Sequence[str]],
    recipe: dict[str, Any],
    profile: dict[str, Any],
    initial_weights: str = "",
) -> dict[str, Any]:
    """Decide everything about a training.

    Args:
        training: the parameters.
        proposal: ``values`` of :func:`plan_rules.propose_plan`: for whatever the parameters leave open.
        spec: of the model.
        samples: packed images.
        split: sample ids by split; ``train`` and ``validation`` are used.
        recipe: of the augmentation.
        profile: statistics of the training split: ``data_sha256``, and ``class_shares`` by class.
        initial_weights: hash of the network's initial weights.

    Returns:
        JSON: ``accelerator, devices, hosts, precision, compile, threads, workers, batch_size, accumulate, patch_size,
        cycles`` (epochs of each cycle of the schedule; one, unless epochs were added), ``epochs`` (their sum),
        ``steps_per_epoch`` (batches), ``seed, oversample_foreground_fraction, foreground_classes`` (ids),
        ``class_weights, samples`` (ids by split), ``parameters`` (as given), ``versions``, ``inputs`` (hashes),
        ``request`` (hash of everything that was asked for, before anything was resolved) and ``fingerprint`` (of the
        whole plan).

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
    devices = resolve_devices(training.devices, accelerator)
    values = effective_values(training, proposal)
    _say_what_is_overruled(values, proposal)
    plan: dict[str, Any] = {
        "accelerator": accelerator,
        "devices": devices,
        "num_nodes": training.num_nodes,
        "precision": resolve_precision(training.precision, accelerator),
        "compile": training.compile is True,
        "num_threads": max(1, available_cores() // devices) if training.num_threads == "auto" else training.num_threads,
        "num_workers": _workers(accelerator) if training.num_workers == "auto" else training.num_workers,
        "batch_size": _check_batch(values["batch_size"], devices * training.num_nodes),
        "accumulate_grad_batches": training.accumulate_grad_batches,
        "patch_size": _check_patch(values["patch_size"], spec.multiple),
        "cycles": [values["epochs"]],
        "epochs": values["epochs"],
        "steps_per_epoch": steps_per_epoch(values, training.accumulate_grad_batches, len(split["train"])),
        "seed": training.seed,
        "oversample_foreground_fraction": values["oversample_foreground_fraction"],
        "foreground_classes": class_ids(values["foreground_classes"], list(spec.classes)),
        "class_weights": _class_weights(training, list(spec.classes), profile),
        "samples": {name: list(split[name]) for name in ("train", "validation")},
    }
    plan |= training_request(training, proposal, spec, split, recipe, profile, initial_weights)
    return with_fingerprint(plan)


def training_request(
    training: TrainingParameters,
    proposal: Mapping[str, Any],
    spec: ModelSpec,
    split: Mapping[str, Sequence[str]],
    recipe: dict[str, Any],
    profile: dict[str, Any],
    initial_weights: str = "",
) -> dict[str, Any]:
    """Describe what is asked for, before anything is measured or resolved on this machine.

    Args: as for :func:`resolve_plan`.

    Returns:
        ``parameters`` (those that matter), ``versions``, ``inputs`` (a hash of each thing that training starts from)
        and ``request``, the hash of all three: an unfinished training with the same one is the same training.
    """
    parts: dict[str, Any] = {
        "parameters": training.model_dump(mode="json", exclude=RESULT_NEUTRAL),
        "versions": {"unet_segmentation": unet_segmentation.__version__, "torch": torch.__version__},
        "inputs": {
            "data": profile.get("data_sha256"),
            "split": fingerprint({name: list(split.get(name, [])) for name in ("train", "validation")}),
            "plan": fingerprint(dict(proposal)),
            "network": fingerprint(spec.to_json()),
            "initial weights": initial_weights,
            "augmentation": fingerprint(recipe),
        },
    }
    return parts | {"request": fingerprint(parts)}


def with_fingerprint(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan the fingerprint of what it says now; what was ``measured`` on the way does not belong to it."""
    rest = {name: value for name, value in plan.items() if name not in {"fingerprint", "measured"}}
    return plan | {"fingerprint": fingerprint(rest)}


def with_extra_epochs(plan: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Add epochs to the plan of a finished training, as one more cycle of the schedule."""
    cycles = [*plan["cycles"], epochs]
    return with_fingerprint(plan | {"cycles": cycles, "epochs": sum(cycles)})


def effective_values(training: TrainingParameters, proposal: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the parameters say, and the proposal's value where they leave it open."""
    given = {
        "patch_size": training.patch_size,
        "batch_size": training.batch_size,
        "epochs": training.epochs,
        "min_steps_per_epoch": training.min_steps_per_epoch,
        "oversample_foreground_fraction": training.sampling.oversample_foreground_fraction,
        "foreground_classes": training.sampling.classes,
    }
    return {name: proposal[name] if value == "auto" else value for name, value in given.items()}


def class_ids(chosen_classes: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Turn the names of `training.sampling.classes` into ids, each once.

    Raises:
        ConfigurationError: a name that is none of the classes.
    """
    for name in chosen_classes:
        if name not in classes:
            raise unknown_name_error("training.sampling.classes", name, list(classes))
    return sorted({list(classes).index(name) for name in chosen_classes})


def _say_what_is_overruled(values: Mapping[str, Any], proposal: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if proposal[name] != value:
            logger.info(
                "%s is %s, as the parameters say, and not %s, as proposed_plan.yml does; auto would take the plan's",
                *(name, value, proposal[name]),
                extra={"once": f"{name} {value} {proposal[name]}"},
            )


def resolve_devices(wanted: int | str, accelerator: str) -> int:
    """Choose how many devices train together: all GPUs, or one CPU, where it is ``auto``.

    Raises:
        ConfigurationError: there are fewer.
    """
    present = torch.cuda.device_count() if accelerator == "cuda" else 1
    if wanted == "auto":
        return present
    if accelerator != "cpu" and int(wanted) > present:
        raise ConfigurationError(f"training.devices: {wanted} are asked for, but there are {present}; take auto")
    return int(wanted)


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
    if wanted == "16-mixed" and accelerator == "cpu":
        raise ConfigurationError("training.precision: 16-mixed needs a GPU; take auto, bf16-mixed or 32-true")
    if wanted != "auto":
        return wanted
    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if accelerator == "cpu" and cpu_has_bf16() else "32-true"


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies in bfloat16 (AVX-512 BF16 or AMX): where it only emulates, float32 is faster."""
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


def steps_per_epoch(values: Mapping[str, Any], accumulate: int, samples: int) -> int:
    """Count the batches of an epoch: one pass over the samples, the last batch filled up, or more of them."""
    steps = max(values["min_steps_per_epoch"], -(-samples // values["batch_size"]))
    return -(-steps // accumulate) * accumulate


def labelled_ids_by_split(samples: pd.DataFrame) -> dict[str, list[str]]:
    """Name the samples that have a mask, by split, in an order that does not depend on the table's.

    Args:
        samples: columns ``sample_id, split, masks``.
    """
    labelled = samples[samples["masks"].map(len) > 0].sort_values("sample_id")
    return {str(name): ids.tolist() for name, ids in labelled.groupby("split")["sample_id"]}


def data_fingerprint(profile: Mapping[str, Any], samples: pd.DataFrame) -> str:
    """Hash the data and who is in which split.

    Args:
        profile: statistics of the training split, with ``data_sha256``.
        samples: columns ``sample_id, split, masks``.
    """
    return fingerprint(profile.get("data_sha256"), labelled_ids_by_split(samples))


def _check_batch(batch_size: int, processes: int) -> int:
    if batch_size % processes:
        raise ConfigurationError(
            f"training.batch_size: {batch_size} patches cannot be shared out among {processes} processes equally; take "
            f"a multiple of {processes}"
        )
    return batch_size


def _check_patch(patch_size: int, multiple: int) -> int:
    if patch_size < multiple:
        raise ConfigurationError(
            f"training.patch_size: {patch_size} px are fewer than the {multiple} that this network halves away; "
            "raise training.patch_size or lower model.encoder_depth"
        )
    return patch_size


def _class_weights(training: TrainingParameters, classes: list[str], profile: dict[str, Any]) -> list[float] | None:
    wanted = training.loss.class_weights
    if wanted == "none":
        return None
    if wanted == "auto":
        return automatic_class_weights([profile["class_shares"][name] for name in classes])
    return [float(weight) for weight in wanted]
