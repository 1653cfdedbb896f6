"""Specs of models that need not be built."""

from __future__ import annotations

from typing import Any

from unet_segmentation.models.spec import ModelSpec

DEFAULTS: dict[str, Any] = {"architecture": "unet", "in_channels": 3, "classes": ("a", "b"), "multiple": 32}


def make_spec(**fields: Any) -> ModelSpec:
    """A spec with a few fields set; the others are of no importance."""
    values = DEFAULTS | fields
    channels = values["in_channels"]
    return ModelSpec.from_json({"mean": [100.0] * channels, "std": [50.0] * channels} | values)
