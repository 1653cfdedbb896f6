"""What a model file says of its model. Standard library only: exported models carry this module along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A resolved model: the same network can be built from it anywhere."""

    architecture: str  # of segmentation-models-pytorch or of this project
    encoder: str | None = None
    encoder_weights: str | None = None  # what the encoder started from
    encoder_depth: int | None = None  # how often height and width are halved
    upsampling: str | None = None  # of the decoder; None where the architecture has its own
    base_channels: int | None = None  # of the first stage; None where the encoder decides
    norm_layer: str | None = None  # behind every convolution; None where the encoder decides
    decoder_channels: tuple[int, ...] | None = None  # deepest first
    in_channels: int
    classes: tuple[str, ...]  # names, in the order of their ids
    mean: tuple[float, ...]  # that pixels are normalized with, by channel, in raw pixel units
    std: tuple[float, ...]
    range: tuple[float, float] | None = None  # mapped to 0..65535, for images not in uint8 or uint16
    bands: tuple[int, ...] | None = None  # of the files, that are used
    images: Mapping[str, Any] | None = None  # how files are read, see `parameters.ImageParameters`
    typical: Mapping[str, Any] | None = None  # see `data.statistics.ReferenceStatistics`; None in older files
    parameters: int = 0  # their number
    multiple: int = 32  # what height and width of the input must be divisible by
    settings: Mapping[str, Any] = field(default_factory=dict)  # of an architecture, besides the two above

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build the spec from what `to_json` returned; keys of other versions are left out.

        Raises:
            KeyError: a key without a default is missing.
        """
        for name in ("architecture", "in_channels", "classes", "mean", "std"):
            values[name]
        present: dict[str, Any] = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        for name, value in present.items():
            present[name] = tuple(value) if isinstance(value, list) else value
        return cls(**present)

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
    """The header of a model file."""

    spec: ModelSpec
    epoch: int = 0  # that the weights are of
    scores: Mapping[str, float] = field(default_factory=dict)  # on validation, by name (`validation/...`)
    fingerprint: str = ""  # of the plan of the training
