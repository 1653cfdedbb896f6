"""Nodes of the planning pipeline: thin, the rules are in ``unet_segmentation.learning.planning``."""

from typing import Any

from unet_segmentation.parameters import NetworkParameters, TrainingParameters


def propose_plan(
    profile: dict[str, Any], network: NetworkParameters, training: TrainingParameters, classes: list[str]
) -> dict[str, Any]:
    """Give a value, and the reason for it, for whatever the parameters leave open.

    Returns:
        YAML that may be edited: ``values`` and ``reasons`` by name.
    """
    from unet_segmentation.learning import planning

    return planning.propose_plan(profile, network, training, classes)
