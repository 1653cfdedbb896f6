"""The rules of the plan: what the data's profile says about whatever the parameters leave open. No pixel is read.

The rules follow nnU-Net (Isensee et al. 2021), carried over to the encoders used here; docs/planning.md says where they
differ, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unet_segmentation.parameters.training import NetworkParameters, TrainingParameters

LARGEST_PATCH = 256
SMALLEST_PATCH = 32
EPOCHS, STEPS, BATCH = 20, 10, 16

Proposal = tuple[Any, str]  # a value and the reason for it


def propose_plan(
    profile: Mapping[str, Any], network: NetworkParameters, training: TrainingParameters, classes: list[str]
) -> dict[str, Any]:
    """Propose a value for whatever is open.

    Args:
        profile: statistics of the training split: ``samples`` by split, ``height`` and ``width`` (``minimum``,
            ``median``, ``maximum``), ``class_shares`` by class.
        network: the parameters.
        training: the parameters; what they say stands in the plan as it is.
        classes: names of the classes.

    Returns:
        ``values``: ``patch_size, batch_size, epochs, minimum_steps, encoder_depth, foreground_share,
        foreground_classes`` (names); and ``reasons``: a sentence for each. Both may be edited: the network is built,
        and the training planned, from ``values``.
    """
    proposals = {
        "patch_size": _patch_size(training, profile),
        "batch_size": _given(training.batch_size) or (BATCH, "the default"),
        "epochs": _given(training.epochs) or (EPOCHS, "the default"),
        "minimum_steps": _given(training.minimum_steps) or (STEPS, "the default"),
        "encoder_depth": _encoder_depth(network),
        "foreground_share": _given(training.sampling.foreground_share) or (0.0, "no class is rare"),
        "foreground_classes": _given(training.sampling.classes) or ([], "no class is rare"),
    }
    return {
        "values": {name: value for name, (value, _) in proposals.items()},
        "reasons": {name: reason for name, (_, reason) in proposals.items()},
    }


def _given(value: Any) -> Proposal | None:  # noqa: ANN401 - a parameter
    return None if value == "auto" else (value, "as the parameters say")


def default_values(training: TrainingParameters, profile: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values alone, for a network with the architecture's own depth; for scripts and notebooks."""
    return propose_plan(profile, NetworkParameters(), training, list(profile["class_shares"]))["values"]


def _patch_size(training: TrainingParameters, profile: Mapping[str, Any]) -> Proposal:
    if given := _given(training.patch_size):
        return given
    side = int(min(profile["height"]["median"], profile["width"]["median"]))
    patch = max(SMALLEST_PATCH, min(LARGEST_PATCH, side) // SMALLEST_PATCH * SMALLEST_PATCH)
    return patch, f"the largest multiple of 32 within {LARGEST_PATCH} and the median image's shorter side, {side}"


def _encoder_depth(network: NetworkParameters) -> Proposal:
    if network.encoder_depth != "auto":
        return network.encoder_depth, "as the parameters say"
    return None, "the architecture's own"
