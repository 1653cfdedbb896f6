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
from unet_segmentation.learning.batches import Samples
from unet_segmentation.learning.losses import automatic_class_weights
from unet_segmentation.learning.names import unknown
from unet_segmentation.parameters.training import TrainingParameters

logger = logging.getLogger(__name__)

CUDA_WORKERS = 8
UNIMPORTANT = {"resume", "more_epochs", "rendezvous", "workers"}  # parameters that change nothing in what is computed


def resolve_plan(
    training: TrainingParameters,
    proposal: Mapping[str, Any],
    network: dict[str, Any],
    samples: Samples,
    split: Mapping[str, Sequence[str]],
    recipe: dict[str, Any],
    profile: dict[str, Any],
    initial_weights: str = "",
) -> dict[str, Any]:
    """Decide everything about a training.

    Args:
        training: the parameters.
        proposal: ``values`` of :func:`planning.propose_plan`: for whatever the parameters leave open.
        network: the specification.
        samples: packed images.
        split: sample ids by split; ``train`` and ``validation`` are used.
        recipe: of the augmentation.
        profile: statistics of the training split: ``data_sha256``, and ``class_shares`` by class.
        initial_weights: hash of the network's initial weights.

    Returns:
        JSON: ``accelerator, devices, hosts, precision, compile, threads, workers, batch_size, accumulate, patch_size,
        cycles`` (epochs of each cycle of the schedule; one, unless epochs were added), ``epochs`` (their sum),
        ``steps_per_epoch`` (batches), ``seed, foreground_share, foreground_classes`` (ids), ``class_weights, samples``
        (ids by split), ``parameters`` (as given), ``versions``, ``inputs`` (hashes), ``request`` (hash of everything
        that was asked for, before anything was resolved) and ``fingerprint`` (of the whole plan).

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
    values = chosen(training, proposal)
    _say_what_is_overruled(values, proposal)
    plan: dict[str, Any] = {
        "accelerator": accelerator,
        "devices": devices,
        "hosts": training.hosts,
        "precision": resolve_precision(training.precision, accelerator),
        "compile": training.compile is True,
        "threads": max(1, available_cores() // devices) if training.threads == "auto" else training.threads,
        "workers": _workers(accelerator) if training.workers == "auto" else training.workers,
        "batch_size": _check_batch(values["batch_size"], devices * training.hosts),
        "accumulate": training.accumulate,
        "patch_size": _check_patch(values["patch_size"], network["multiple"]),
        "cycles": [values["epochs"]],
        "epochs": values["epochs"],
        "steps_per_epoch": steps_per_epoch(values, training.accumulate, len(split["train"])),
        "seed": training.seed,
        "foreground_share": values["foreground_share"],
        "foreground_classes": class_ids(values["foreground_classes"], network["classes"]),
        "class_weights": _class_weights(training, network["classes"], profile),
        "samples": {name: list(split[name]) for name in ("train", "validation")},
    }
    plan |= request_of(training, proposal, network, split, recipe, profile, initial_weights)
    return sealed(plan)


def request_of(
    training: TrainingParameters,
    proposal: Mapping[str, Any],
    network: dict[str, Any],
    split: Mapping[str, Sequence[str]],
    recipe: dict[str, Any],
    profile: dict[str, Any],
    initial_weights: str = "",
) -> dict[str, Any]:
    """Say what is asked for, before anything is measured or resolved on this machine.

    Args: as for :func:`resolve_plan`.

    Returns:
        ``parameters`` (those that matter), ``versions``, ``inputs`` (a hash of each thing that training starts from)
        and ``request``, the hash of all three: an unfinished training with the same one is the same training.
    """
    parts: dict[str, Any] = {
        "parameters": training.model_dump(mode="json", exclude=UNIMPORTANT),
        "versions": {"unet_segmentation": unet_segmentation.__version__, "torch": torch.__version__},
        "inputs": {
            "data": profile.get("data_sha256"),
            "split": fingerprint({name: list(split.get(name, [])) for name in ("train", "validation")}),
            "plan": fingerprint(dict(proposal)),
            "network": fingerprint(network),
            "initial weights": initial_weights,
            "augmentation": fingerprint(recipe),
        },
    }
    return parts | {"request": fingerprint(parts)}


def sealed(plan: dict[str, Any]) -> dict[str, Any]:
    """Give a plan the fingerprint of what it says now; what was ``measured`` on the way does not belong to it."""
    rest = {name: value for name, value in plan.items() if name not in {"fingerprint", "measured"}}
    return plan | {"fingerprint": fingerprint(rest)}


def extended(plan: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Add epochs to the plan of a finished training, as one more cycle of the schedule."""
    cycles = [*plan["cycles"], epochs]
    return sealed(plan | {"cycles": cycles, "epochs": sum(cycles)})


def chosen(training: TrainingParameters, proposal: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the parameters say, and the proposal's value where they leave it open."""
    given = {
        "patch_size": training.patch_size,
        "batch_size": training.batch_size,
        "epochs": training.epochs,
        "minimum_steps": training.minimum_steps,
        "foreground_share": training.sampling.foreground_share,
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
            raise unknown("training.sampling.classes", name, list(classes))
    return sorted({list(classes).index(name) for name in chosen_classes})


def _say_what_is_overruled(values: Mapping[str, Any], proposal: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if proposal[name] != value:
            logger.info(
                "%s is %s, as the parameters say, and not %s, as plan.yml does; auto would take the plan's",
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


def steps_per_epoch(values: Mapping[str, Any], accumulate: int, samples: int) -> int:
    """Count the batches of an epoch: one pass over the samples, the last batch filled up, or more of them."""
    steps = max(values["minimum_steps"], -(-samples // values["batch_size"]))
    return -(-steps // accumulate) * accumulate


def labelled_split(samples: pd.DataFrame) -> dict[str, list[str]]:
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
    return fingerprint(profile.get("data_sha256"), labelled_split(samples))


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
