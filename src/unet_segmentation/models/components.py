"""The parts of a network that a training can treat apart: its encoder, and the stages of its decoder."""

from __future__ import annotations

from torch import nn

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.models.architecture import Architecture
from unet_segmentation.parameters.training import TrainingParameters


def check_model_supports(network: nn.Module, training: TrainingParameters) -> None:
    """Raise a ConfigurationError where a training needs a part that the network does not have."""
    if training.freeze_encoder_epochs:
        get_encoder(network, "training.freeze_encoder_epochs")
    if training.optimizer.encoder_lr_multiplier != 1.0:
        get_encoder(network, "training.optimizer.encoder_lr_multiplier")
    if training.deep_supervision:
        deep_supervision_stages(network)


def get_encoder(network: nn.Module, key: str) -> nn.Module:
    """Return the encoder of a network; raise a ConfigurationError that names the parameter where there is none."""
    inner = getattr(network, "network", network)
    encoder = getattr(inner, "encoder", None)
    if encoder is None:
        raise ConfigurationError(
            f"{key}: {type(inner).__name__} has no encoder of its own; leave {key} out, or take an architecture with "
            "one (model.architecture: unet)"
        )
    return encoder


def deep_supervision_stages(network: nn.Module) -> list[nn.Module]:
    """Return the stages of the decoder that deep supervision adds a head to, each half as fine as the one before.

    These are all but the finest, whose output goes to the network's own head, and the coarsest, which nnU-Net leaves
    out.

    Raises:
        ConfigurationError: the architecture is not one of those with such stages, or has too few.
    """
    import segmentation_models_pytorch as smp

    inner = getattr(network, "network", network)
    stages: list[nn.Module] = []
    if isinstance(inner, Architecture):
        stages = inner.deep_supervision_stages()
    elif isinstance(inner, smp.Unet | smp.MAnet):
        stages = list(inner.decoder.blocks)
    elif isinstance(inner, smp.UnetPlusPlus):
        stages = [inner.decoder.blocks[f"x_0_{stage}"] for stage in range(inner.decoder.depth + 1)]
    if not stages:
        raise ConfigurationError(
            f"training.deep_supervision: not for {type(inner).__name__}; set it to false, or model.architecture to "
            "unet, unetplusplus, manet or unet_original"
        )
    if len(stages) < 3:
        raise ConfigurationError(
            f"training.deep_supervision: a decoder of {len(stages)} stages leaves none to supervise; set it to false, "
            "or raise model.encoder_depth to 3 or more"
        )
    return stages[-2:0:-1]
