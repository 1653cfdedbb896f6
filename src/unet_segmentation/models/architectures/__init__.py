"""Architectures of this project, one file each: the file has the name by which the architecture is registered.

Files import torch; `ARCHITECTURES.module_names()` reads their names without importing them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_segmentation.utils.registry import Registry

if TYPE_CHECKING:
    from unet_segmentation.models.architecture import Architecture

ARCHITECTURES: Registry[type[Architecture]] = Registry("model.architecture", "unet_segmentation.models.architectures")
register_model = ARCHITECTURES.register
