"""The network: described as JSON, built from the description, stored beside it in one file."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.errors import ConfigurationError, ProjectError
from unet_segmentation.models.components import get_encoder
from unet_segmentation.models.pretrained import check_name, is_file, load_encoder, offline_aware_download
from unet_segmentation.models.unet import UNet
from unet_segmentation.models.upsampling import LEARNABLE_MODES, replace_upsampling
from unet_segmentation.parameters.model import ModelParameters
from unet_segmentation.utils.atomic_io import atomic_write
from unet_segmentation.utils.did_you_mean import unknown_name_error

PAPER_UNET = "unet_original"
PAPER_DEPTH = 4
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # red, green, blue; of a largest value of 1
LEAST_SHARE = 1e-6  # of a class, as an untrained network expects it


class SegmentationModel(nn.Module):
    """From raw pixel values to logits: normalises on the device, then applies the network.

    Args:
        network: maps (N, channels, H, W) to (N, classes, H, W).
        mean: by channel, in raw pixel units.
        std: by channel, in raw pixel units.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        scale = [1.0 / value if value > 0 else 1.0 for value in std]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: (N, channels, H, W), raw pixel values of any dtype (uint8, int32 for 16-bit images, float). Height
                and width are multiples of the specification's ``multiple``.

        Returns:
            float32 logits (N, classes, H, W).
        """
        return self.network((images.float() - self.mean) * self.scale).float()


def resolve_model_spec(network: ModelParameters, classes: list[str], statistics: DatasetStatistics) -> dict[str, Any]:
    """Resolve the parameters into a specification: JSON from which the same network can be built anywhere.

    Args:
        network: the parameters.
        classes: names of the classes, in the order of their ids.
        statistics: of the training split.

    Returns:
        ``architecture, encoder, encoder_weights, encoder_depth, upsampling, width, normalization, decoder_channels``
        (null where the architecture has no such thing), ``in_channels, classes, mean, std, range, bands, images,
        typical``,
        ``parameters`` (how many) and ``multiple`` (what height and width of the input must be divisible by).

    Raises:
        ConfigurationError: an unknown name, or a combination that does not exist.
    """
    images = statistics.images.model_dump(mode="json")
    specification: dict[str, Any] = {
        "architecture": network.architecture.lower(),
        "encoder": None,
        "encoder_weights": network.encoder_weights,
        "encoder_depth": network.encoder_depth,
        "upsampling": None,
        "base_channels": None,
        "norm_layer": None,
        "decoder_channels": None,
        "in_channels": len(statistics.mean),
        "classes": list(classes),
        **_pixel_statistics(network, statistics),
        "range": images["range"],
        "bands": images["bands"],
        "images": images,
        "typical": statistics.typical.model_dump(mode="json"),
    }
    specification |= _describe_paper(network) if network.architecture.lower() == PAPER_UNET else _describe_smp(network)
    skeleton = _skeleton(specification)
    specification["parameters"] = sum(parameter.numel() for parameter in skeleton.parameters())
    specification["multiple"] = _multiple(skeleton, specification)
    return specification


def build_model(specification: dict[str, Any], encoder_weights: str | None = None) -> SegmentationModel:
    """Build the network of a specification, with weights drawn from torch's random state.

    Args:
        specification: what :func:`describe_network` returned.
        encoder_weights: pretrained weights of the encoder, by name (``imagenet``; fetched once, then cached) or in a
            file (see :func:`pretrained.load_encoder`).

    Raises:
        ConfigurationError: the pretrained weights do not exist, do not fit, or cannot be had without a network.
    """
    if encoder_weights is None:
        network = _build(specification, None)
    elif is_file(encoder_weights):
        network = _build(specification, None)
        load_encoder(get_encoder(network, "model.encoder_weights"), Path(encoder_weights))
    else:
        check_name(specification["encoder"], encoder_weights)
        with offline_aware_download(specification["encoder"], encoder_weights):
            network = _build(specification, encoder_weights)
    return SegmentationModel(network, specification["mean"], specification["std"])


def init_bias_from_class_priors(network: nn.Module, shares: Sequence[float]) -> None:
    """Let an untrained network expect each class as often as it occurs, instead of all equally often.

    Sets the biases of the last convolution to the logarithm of the shares, so that the first steps need not unlearn
    foreground that was never there (Lin et al., Focal Loss for Dense Object Detection, 2017, section 3.3).

    Args:
        network: ends in a convolution with one output per class.
        shares: of the training pixels by class. One below `LEAST_SHARE` counts as that: a class that training lacks
            must not get a bias of minus infinity.
    """
    last = segmentation_head(network, len(shares))
    if last is not None and last.bias is not None:
        with torch.no_grad():
            last.bias.copy_(torch.tensor(shares).clamp(min=LEAST_SHARE).log())


def segmentation_head(network: nn.Module, classes: int) -> nn.Conv2d | None:
    """Find the last convolution that has a bias and one output per class."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == classes]
    return next((layer for layer in reversed(layers) if layer.bias is not None), None)


def save_model(path: Path, network: nn.Module, specification: dict[str, Any], **information: Any) -> None:  # noqa: ANN401
    """Write weights and everything needed to rebuild the network into one safetensors file.

    Args:
        path: the file; replaced as a whole.
        network: a :class:`SegmentationNetwork`.
        specification: what :func:`describe_network` returned.
        **information: JSON values that travel with the model (epoch, scores, plan, ...).
    """
    save_weights(path, network.state_dict(), specification, **information)


def save_weights(path: Path, weights: Mapping[str, Tensor], specification: dict[str, Any], **information: Any) -> None:  # noqa: ANN401
    """Write what :func:`save_model` writes, for weights that are at hand."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    header = {"specification": json.dumps(specification), "information": json.dumps(information)}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        temporary.chmod(0o644)  # safetensors makes it private


def load_model(path: Path) -> tuple[SegmentationModel, dict[str, Any]]:
    """Read what :func:`save_model` wrote. No code in the file is executed.

    Returns:
        The network in evaluation mode on the CPU, and the information, with the specification under
        ``specification``.

    Raises:
        ProjectError: the file is not a model of this project.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        information = {"specification": json.loads(header["specification"]), **json.loads(header["information"])}
    except (SafetensorError, KeyError, OSError) as error:
        raise ProjectError(f"{path} is not a model of this project ({error}); train one with: kedro run") from error
    network = build_model(information["specification"])
    network.load_state_dict(load_file(path))
    return network.eval(), information


def _pixel_statistics(network: ModelParameters, statistics: DatasetStatistics) -> dict[str, list[float]]:
    """Choose what pixels are normalised with, in raw units: what the encoder's weights were trained with, if known."""
    channels, weights = len(statistics.mean), network.encoder_weights
    wanted = network.input_normalization
    if wanted == "auto":
        wanted = "imagenet" if weights is not None and not is_file(weights) and channels == 3 else "data"
    if wanted == "data":
        return {"mean": list(statistics.mean), "std": list(statistics.std)}
    if channels != 3:
        raise ConfigurationError(
            f"model.input_normalization: imagenet has 3 channels, these images have {channels}; take data or auto"
        )
    return {name: [value * statistics.maximum_value for value in values] for name, values in IMAGENET.items()}


def _describe_paper(network: ModelParameters) -> dict[str, Any]:
    if network.encoder_weights is not None:
        raise ConfigurationError("model.encoder_weights: unet_original has no pretrained encoder; set it to null")
    if network.decoder_channels is not None:
        raise ConfigurationError(
            "model.decoder_channels: unet_original has model.base_channels instead; set it to null"
        )
    return {
        "encoder_depth": _number(network.encoder_depth) or PAPER_DEPTH,
        "upsampling": "transposed" if network.upsampling == "auto" else network.upsampling,
        "base_channels": network.base_channels,
        "norm_layer": network.norm_layer,
    }


def _describe_smp(network: ModelParameters) -> dict[str, Any]:
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING as ARCHITECTURES

    architecture = network.architecture.lower()
    if architecture not in ARCHITECTURES:
        raise unknown_name_error("model.architecture", network.architecture, [*ARCHITECTURES, PAPER_UNET])
    _check_encoder(network.encoder)
    arguments = inspect.signature(ARCHITECTURES[architecture]).parameters
    decoder = arguments.get("decoder_channels")
    channels = network.decoder_channels
    if channels is not None and (decoder is None or not isinstance(decoder.default, tuple)):
        raise ConfigurationError(f"model.decoder_channels: {architecture} takes no such list; set it to null")
    depth = _number(network.encoder_depth) or arguments["encoder_depth"].default
    if channels is None and decoder is not None and isinstance(decoder.default, tuple):
        channels = list(decoder.default[:depth])
    return {
        "architecture": architecture,
        "encoder": network.encoder,
        "encoder_depth": depth,
        "upsampling": _smp_upsampling(network, architecture, "decoder_interpolation" in arguments),
        "decoder_channels": channels,
    }


def _number(depth: int | str | None) -> int | None:
    return depth if isinstance(depth, int) else None  # auto, with no plan to ask, is the architecture's own


def _smp_upsampling(network: ModelParameters, architecture: str, can_choose: bool) -> str | None:
    if network.upsampling == "auto":
        return "bilinear" if can_choose else None
    if network.upsampling in LEARNABLE_MODES and architecture != "unet":
        raise ConfigurationError(
            f"model.upsampling: {architecture} cannot choose {network.upsampling}; unet and unet_original can "
            "(model.architecture). Otherwise take auto."
        )
    if not can_choose:
        raise ConfigurationError(f"model.upsampling: {architecture} goes up in its own way; set it to auto")
    return network.upsampling


def validate_model_name(network: ModelParameters) -> None:
    """Refuse an architecture or an encoder that nobody knows; nothing is built.

    Raises:
        ConfigurationError: names the nearest that exists.
    """
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING as ARCHITECTURES

    architecture = network.architecture.lower()
    if architecture == PAPER_UNET:
        return
    if architecture not in ARCHITECTURES:
        raise unknown_name_error("model.architecture", network.architecture, [*ARCHITECTURES, PAPER_UNET])
    _check_encoder(network.encoder)


def _check_encoder(name: str) -> None:
    """Refuse an encoder that neither smp nor (with the prefix ``tu-``) timm knows."""
    import timm
    from segmentation_models_pytorch.encoders import get_encoder_names

    if name.startswith("tu-"):
        if not timm.is_model(name[3:]):
            raise unknown_name_error("model.encoder", name, [f"tu-{known}" for known in timm.list_models()])
    elif name not in get_encoder_names():
        raise unknown_name_error("model.encoder", name, get_encoder_names())


def _build(specification: dict[str, Any], encoder_weights: str | None) -> nn.Module:
    if specification["architecture"] == PAPER_UNET:
        return UNet(
            specification["in_channels"],
            len(specification["classes"]),
            base_channels=specification["base_channels"],
            depth=specification["encoder_depth"],
            upsampling=specification["upsampling"],
            batch_norm=specification["norm_layer"] == "batch",
        )
    import segmentation_models_pytorch as smp

    options: dict[str, Any] = {}
    upsampling = specification["upsampling"]
    if upsampling is not None and upsampling not in LEARNABLE_MODES:
        options["decoder_interpolation"] = upsampling
    if specification["decoder_channels"] is not None:
        options["decoder_channels"] = specification["decoder_channels"]
    if specification["architecture"] == "dpt":
        options["dynamic_img_size"] = True  # otherwise its vision transformer takes one size only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's and smp's talk about names that are going away
        network = smp.create_model(
            specification["architecture"],
            specification["encoder"],
            # timm's encoders carry the variant in their name and take only yes or no; no is None, not False
            True if encoder_weights and specification["encoder"].startswith("tu-") else encoder_weights,
            in_channels=specification["in_channels"],
            classes=len(specification["classes"]),
            encoder_depth=specification["encoder_depth"],
            **options,
        )
    if upsampling in LEARNABLE_MODES:
        replace_upsampling(network, upsampling)
    return network


def _skeleton(specification: dict[str, Any]) -> nn.Module:
    """Build the network without drawing its weights where the encoder allows it: only its shape is wanted."""
    try:
        try:
            with torch.device("meta"):
                return _build(specification, None)
        except (RuntimeError, NotImplementedError):  # some encoders compute with tensors while they are built
            with torch.random.fork_rng(devices=[]):
                return _build(specification, None)
    except Exception as error:
        raise ConfigurationError(
            f"model: {specification['architecture']} cannot be built with encoder {specification['encoder']}, "
            f"encoder_depth {specification['encoder_depth']} and decoder_channels "
            f"{specification['decoder_channels']}: {error}"
        ) from error


def _multiple(network: nn.Module, specification: dict[str, Any]) -> int:
    encoder = getattr(network, "encoder", None)
    return int(getattr(encoder, "output_stride", 2 ** specification["encoder_depth"]))
