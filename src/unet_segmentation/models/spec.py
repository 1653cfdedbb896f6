"""What a model file says of its model. Standard library only: exported models carry this module along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

# Names in model files of before 0.1.0 was released.
RENAMED_KEYS = {"width": "base_channels", "normalization": "norm_layer"}
RENAMED_VALUES = {"architecture": {"paper_unet": "unet_original"}, "upsampling": {"transposed4": "transposed_k4"}}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A resolved model: the same network can be built from it anywhere.

    Attributes:
        architecture: of segmentation-models-pytorch or of this project.
        encoder: its encoder; None where the architecture has none.
        encoder_weights: what the encoder started from.
        encoder_depth: how often height and width are halved.
        upsampling: of the decoder; None where the architecture has its own.
        base_channels: channels of the first stage; None where the encoder decides.
        norm_layer: behind every convolution; None where the encoder decides.
        decoder_channels: of the decoder's stages, deepest first.
        in_channels: of an image.
        classes: names, in the order of their ids.
        mean: that pixels are normalised with, by channel, in raw pixel units.
        std: that pixels are normalised with, by channel.
        range: values that become black and white, of images that do not hold uint8 or uint16.
        bands: of the files, that are used.
        images: how files are read, see `parameters.ImageParameters`.
        typical: what the training images are like, see `data.statistics.ReferenceStatistics`; None in older files.
        parameters: their number.
        multiple: what height and width of the input must be divisible by.
        settings: of an architecture of this project, besides `base_channels` and `norm_layer`.
    """

    architecture: str
    encoder: str | None = None
    encoder_weights: str | None = None
    encoder_depth: int | None = None
    upsampling: str | None = None
    base_channels: int | None = None
    norm_layer: str | None = None
    decoder_channels: tuple[int, ...] | None = None
    in_channels: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    range: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None
    images: Mapping[str, Any] | None = None
    typical: Mapping[str, Any] | None = None
    parameters: int = 0
    multiple: int = 32
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build the spec from what `to_json` returned; keys of other versions are left out.

        Raises:
            KeyError: a key without a default is missing.
        """
        values = {RENAMED_KEYS.get(name, name): value for name, value in values.items()}
        for name, renamed in RENAMED_VALUES.items():
            if name in values:
                values[name] = renamed.get(values[name], values[name])
        names = {each.name for each in fields(cls)}
        for name in ("architecture", "in_channels", "classes", "mean", "std"):
            values[name]
        field_values: dict[str, Any] = {name: _frozen(value) for name, value in values.items() if name in names}
        return cls(**field_values)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, as model files hold them."""
        values = asdict(self)
        if not self.settings:
            del values["settings"]  # as in files of earlier versions
        return values

    @property
    def title(self) -> str:
        """Name the network for people: `unet with resnet18`."""
        return " with ".join(filter(None, (self.architecture, self.encoder)))

    def with_multiple(self, multiple: int) -> Self:
        """Return a copy for inputs of sides that are divisible by another number."""
        return replace(self, multiple=multiple)


@dataclass(frozen=True)
class ModelInfo:
    """The header of a model file.

    Attributes:
        spec: of the network.
        epoch: that the weights are of; 0 where it is not field_values.
        scores: on validation, by name (`validation/...`).
        fingerprint: of the plan of the training.
    """

    spec: ModelSpec
    epoch: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    fingerprint: str = ""


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
