"""Resolve the parameters of a model into its spec, and build the network of a spec."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models.architecture import SHARED
from unet_segmentation.models.architectures import ARCHITECTURES
from unet_segmentation.models.components import get_encoder
from unet_segmentation.models.pretrained import check_name, is_file, load_encoder, offline_aware_download
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.models.upsampling import LEARNABLE_MODES, Learned, replace_upsampling
from unet_segmentation.parameters.model import ModelParameters
from unet_segmentation.utils.did_you_mean import unknown_name_error

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # red, green, blue; of a largest value of 1
LEAST_SHARE = 1e-6  # of a class, as an untrained network expects it


class SegmentationModel(nn.Module):
    """From raw pixel values to logits: normalizes on the device by channel, then applies the network."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        scale = [1.0 / value if value > 0 else 1.0 for value in std]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute float32 logits (N, classes, H, W).

        Args:
            images: (N, channels, H, W), raw pixel values of any dtype (uint8, int32 for 16-bit images, float). Height
                and width are multiples of the spec's ``multiple``.
        """
        return self.network((images.float() - self.mean) * self.scale).float()


def resolve_model_spec(
    model_params: ModelParameters, classes: Sequence[str], statistics: DatasetStatistics
) -> ModelSpec:
    """Resolve the parameters into a spec from which the same network can be built anywhere.

    Raises:
        ConfigurationError: an unknown name, or a combination that does not exist.
    """
    mean, std = _pixel_statistics(model_params, statistics)
    describe = _describe_own if model_params.architecture.lower() in ARCHITECTURES else _describe_smp
    spec = ModelSpec(
        **describe(model_params),
        encoder_weights=model_params.encoder_weights,
        in_channels=len(mean),
        classes=tuple(classes),
        mean=mean,
        std=std,
        range=_as_tuple(statistics.images.range),
        bands=_as_tuple(statistics.images.bands),
        images=statistics.images.model_dump(mode="json"),
        typical=statistics.typical.model_dump(mode="json"),
    )
    skeleton = _skeleton(spec)
    parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    multiple = getattr(getattr(skeleton, "encoder", None), "output_stride", 2 ** (spec.encoder_depth or 0))
    return replace(spec, parameters=parameters, multiple=int(multiple))


def build_model(spec: ModelSpec, encoder_weights: str | None = None) -> SegmentationModel:
    """Build the network of a spec, with weights drawn from torch's random state.

    Pretrained weights of the encoder are those of a name (``imagenet``; fetched once, then cached) or in a file (see
    :func:`pretrained.load_encoder`).

    Raises:
        ConfigurationError: the pretrained weights do not exist, do not fit, or cannot be had without a network.
    """
    if encoder_weights is None:
        network = _build(spec, None)
    elif is_file(encoder_weights):
        network = _build(spec, None)
        load_encoder(get_encoder(network, "model.encoder_weights"), Path(encoder_weights))
    else:
        encoder = str(spec.encoder)
        check_name(encoder, encoder_weights)
        with offline_aware_download(encoder, encoder_weights):
            network = _build(spec, encoder_weights)
    return SegmentationModel(network, spec.mean, spec.std)


def init_bias_from_class_priors(network: nn.Module, shares: Sequence[float]) -> None:
    """Initialize the biases so that an untrained network predicts each class as often as it occurs.

    Sets the biases of the last convolution to the logarithm of the classes' shares of the training pixels, so that the
    first steps need not unlearn foreground that was never there (Lin et al., Focal Loss for Dense Object Detection,
    2017, section 3.3). A share below `LEAST_SHARE` counts as that: no bias is minus infinity.
    """
    last = segmentation_head(network, len(shares))
    if last is not None and last.bias is not None:
        with torch.no_grad():
            last.bias.copy_(torch.tensor(shares).clamp(min=LEAST_SHARE).log())


def segmentation_head(network: nn.Module, classes: int) -> nn.Conv2d | None:
    """Find the last convolution that has a bias and one output per class."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == classes]
    return next((layer for layer in reversed(layers) if layer.bias is not None), None)


def _pixel_statistics(
    model_params: ModelParameters, statistics: DatasetStatistics
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Choose mean and deviation that pixels are normalized with, in raw units."""
    channels, weights = len(statistics.mean), model_params.encoder_weights
    choice = model_params.input_normalization
    if choice == "auto":
        choice = "imagenet" if weights is not None and not is_file(weights) and channels == 3 else "data"
    if choice == "data":
        return tuple(map(float, statistics.mean)), tuple(map(float, statistics.std))
    if channels != 3:
        raise ConfigurationError(
            f"model.input_normalization: imagenet has 3 channels, these images have {channels}; take data or auto"
        )
    maximum = statistics.maximum_value
    return tuple(value * maximum for value in IMAGENET_MEAN), tuple(value * maximum for value in IMAGENET_STD)


def _describe_own(model_params: ModelParameters) -> dict[str, Any]:
    name = model_params.architecture.lower()
    architecture = ARCHITECTURES[name]
    if model_params.encoder_weights is not None:
        raise ConfigurationError(f"model.encoder_weights: {name} has no pretrained encoder; set it to null")
    if model_params.decoder_channels is not None:
        raise ConfigurationError(f"model.decoder_channels: {name} takes no such list; set it to null")
    settings = architecture.resolve_settings(model_params).model_dump(mode="json")
    shared = {key: settings.pop(key) for key in SHARED if key in settings}
    if architecture.default_upsampling is None and model_params.upsampling != "auto":
        raise ConfigurationError(f"model.upsampling: {name} goes up in its own way; set it to auto")
    return {
        "architecture": name,
        "encoder_depth": _number(model_params.encoder_depth) or architecture.default_depth,
        "upsampling": architecture.default_upsampling if model_params.upsampling == "auto" else model_params.upsampling,
        **shared,
        "settings": settings,
    }


def _describe_smp(model_params: ModelParameters) -> dict[str, Any]:
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING as SMP

    architecture = model_params.architecture.lower()
    validate_model_name(model_params)
    if model_params.settings:
        raise ConfigurationError(f"model.settings: {architecture} takes none; set it to {{}}")
    arguments = inspect.signature(SMP[architecture]).parameters
    decoder = arguments.get("decoder_channels")
    channels: Sequence[int] | None = model_params.decoder_channels
    if channels is not None and (decoder is None or not isinstance(decoder.default, tuple)):
        raise ConfigurationError(f"model.decoder_channels: {architecture} takes no such list; set it to null")
    depth = _number(model_params.encoder_depth) or arguments["encoder_depth"].default
    if channels is None and decoder is not None and isinstance(decoder.default, tuple):
        channels = decoder.default[:depth]
    return {
        "architecture": architecture,
        "encoder": model_params.encoder,
        "encoder_depth": depth,
        "upsampling": _smp_upsampling(model_params, architecture, "decoder_interpolation" in arguments),
        "decoder_channels": _as_tuple(channels),
    }


def _number(depth: int | str | None) -> int | None:
    return depth if isinstance(depth, int) else None  # auto, with no plan to ask, is the architecture's own


def _smp_upsampling(model_params: ModelParameters, architecture: str, can_choose: bool) -> str | None:
    if model_params.upsampling == "auto":
        return "bilinear" if can_choose else None
    if model_params.upsampling in LEARNABLE_MODES and architecture != "unet":
        raise ConfigurationError(
            f"model.upsampling: {architecture} cannot choose {model_params.upsampling}; unet and unet_original can "
            "(model.architecture). Otherwise take auto."
        )
    if not can_choose:
        raise ConfigurationError(f"model.upsampling: {architecture} goes up in its own way; set it to auto")
    return model_params.upsampling


def validate_model_name(model_params: ModelParameters) -> None:
    """Raise a ConfigurationError, with the nearest name, for an architecture or an encoder that does not exist.

    Encoders are smp's and (with the prefix ``tu-``) timm's. Nothing is built.
    """
    import timm
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING as SMP
    from segmentation_models_pytorch.encoders import get_encoder_names

    architecture, name = model_params.architecture.lower(), model_params.encoder
    if architecture in ARCHITECTURES:
        return
    if architecture not in SMP:
        raise unknown_name_error("model.architecture", model_params.architecture, [*SMP, *ARCHITECTURES.names()])
    if name.startswith("tu-"):
        if not timm.is_model(name[3:]):
            raise unknown_name_error("model.encoder", name, [f"tu-{model}" for model in timm.list_models()])
    elif name not in get_encoder_names():
        raise unknown_name_error("model.encoder", name, get_encoder_names())


def _build(spec: ModelSpec, encoder_weights: str | None) -> nn.Module:
    if spec.architecture in ARCHITECTURES:
        architecture = ARCHITECTURES[spec.architecture]
        return architecture.from_spec(spec, architecture.settings_of(spec))
    import segmentation_models_pytorch as smp

    options: dict[str, Any] = {}
    if spec.upsampling is not None and spec.upsampling not in LEARNABLE_MODES:
        options["decoder_interpolation"] = spec.upsampling
    if spec.decoder_channels is not None:
        options["decoder_channels"] = list(spec.decoder_channels)
    if spec.architecture == "dpt":
        options["dynamic_img_size"] = True  # otherwise its vision transformer takes one size only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's and smp's talk about names that are going away
        network: nn.Module = smp.create_model(
            spec.architecture,
            spec.encoder,
            # timm's encoders carry the variant in their name and take only yes or no; no is None, not False
            True if encoder_weights and str(spec.encoder).startswith("tu-") else encoder_weights,
            in_channels=spec.in_channels,
            classes=len(spec.classes),
            encoder_depth=spec.encoder_depth,
            **options,
        )
    if spec.upsampling in LEARNABLE_MODES:
        replace_upsampling(network, cast("Learned", spec.upsampling))
    return network


def _skeleton(spec: ModelSpec) -> nn.Module:
    """Build the network without drawing its weights where the encoder allows it: only its shape matters."""
    try:
        try:
            with torch.device("meta"):
                return _build(spec, None)
        except (RuntimeError, NotImplementedError):  # some encoders compute with tensors while they are built
            with torch.random.fork_rng(devices=[]):
                return _build(spec, None)
    except Exception as error:
        channels = None if spec.decoder_channels is None else list(spec.decoder_channels)
        raise ConfigurationError(
            f"model: {spec.architecture} cannot be built with encoder {spec.encoder}, encoder_depth "
            f"{spec.encoder_depth} and decoder_channels {channels}: {error}"
        ) from error


def _as_tuple(values: Sequence[Any] | None) -> Any:  # noqa: ANN401 - of what the sequence is of
    return None if values is None else tuple(values)
