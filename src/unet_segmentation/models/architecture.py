"""What an architecture of this project is: a network, its settings, and what a training asks of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from torch import nn

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters.model import ModelParameters
from unet_segmentation.utils.did_you_mean import unknown_name_error
from unet_segmentation.utils.strict_model import StrictModel

SHARED = ("base_channels", "norm_layer")  # settings that are keys of `model`; all others are in `model.settings`


class Architecture(nn.Module):
    """Base of the networks in `models/architectures`: from images (N, in_channels, H, W) to logits (N, classes, H, W).

    `Settings` are `base_channels` and `norm_layer` where it takes them, and the keys of `model.settings`.
    """

    Settings: ClassVar[type[StrictModel]] = StrictModel
    default_depth: ClassVar[int] = 4  # how often height and width are halved, where `model.encoder_depth` does not say
    default_upsampling: ClassVar[str | None] = None  # where `model.upsampling` is `auto`; None: there is no choice

    @classmethod
    @abstractmethod
    def from_spec(cls, spec: ModelSpec, settings: Any) -> Self:  # noqa: ANN401 - of the class `Settings`
        """Build the network, with weights drawn from torch's random state."""

    def deep_supervision_stages(self) -> list[nn.Module]:
        """Return the decoder's stages, coarsest first, for losses at each; none: there is no deep supervision."""
        return []

    @classmethod
    def describe_settings(cls, network: Mapping[str, Any]) -> str:
        """Format what distinguishes two networks of this architecture, for names of runs."""
        return " ".join(f"{name} {value}" for name, value in (network.get("settings") or {}).items())

    @classmethod
    def resolve_settings(cls, model_params: ModelParameters) -> StrictModel:
        """Validate the settings; raise a ConfigurationError where one does not exist, or is out of range."""
        names = cls.Settings.model_fields
        if strangers := [name for name in model_params.settings if name not in names]:
            raise unknown_name_error("model.settings", strangers[0], [name for name in names if name not in SHARED])
        shared = {name: getattr(model_params, name) for name in SHARED if name in names}
        try:
            return cls.Settings.model_validate({**shared, **model_params.settings})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in problem["loc"])
            raise ConfigurationError(f"model.settings.{key}: {problem['msg']}") from None

    @classmethod
    def settings_of(cls, spec: ModelSpec) -> StrictModel:
        """Return the settings in a model's spec."""
        shared = {name: getattr(spec, name) for name in SHARED if name in cls.Settings.model_fields}
        return cls.Settings.model_validate({**shared, **spec.settings})
