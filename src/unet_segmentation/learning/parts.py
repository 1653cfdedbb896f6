"""The parts of a network that a training can treat apart: its encoder, and the stages of its decoder."""

from __future__ import annotations

from torch import nn

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.learning.paper_unet import PaperUnet
from unet_segmentation.parameters.training import TrainingParameters


def check_parts(network: nn.Module, training: TrainingParameters) -> None:
    """Refuse a training that needs a part which the network does not have.

    Raises:
        ConfigurationError: as said.
    """
    if training.freeze_encoder_epochs:
        encoder_of(network, "training.freeze_encoder_epochs")
    if training.optimizer.encoder_factor != 1.0:
        encoder_of(network, "training.optimizer.encoder_factor")
    if training.deep_supervision:
        supervised_stages(network)


def encoder_of(network: nn.Module, key: str) -> nn.Module:
    """Give the encoder of a :class:`network.SegmentationNetwork`.

    Args:
        network: as said.
        key: the parameter that asks for it.

    Raises:
        ConfigurationError: it has none.
    """
    inner = getattr(network, "network", network)
    encoder = getattr(inner, "encoder", None)
    if encoder is None:
        raise ConfigurationError(
            f"{key}: {type(inner).__name__} has no encoder of its own; leave {key} out, or take an architecture with "
            "one (network.architecture: unet)"
        )
    return encoder


def supervised_stages(network: nn.Module) -> list[nn.Module]:
    """Give the stages of the decoder that deep supervision adds a head to, each half as fine as the one before.

    These are all but the finest, whose output goes to the network's own head, and the coarsest, which nnU-Net leaves
    out.

    Args:
        network: a :class:`network.SegmentationNetwork`.

    Raises:
        ConfigurationError: the architecture is not one of those with such stages, or has too few.
    """
    import segmentation_models_pytorch as smp

    inner = getattr(network, "network", network)
    if isinstance(inner, PaperUnet):
        stages = list(inner.merge)
    elif isinstance(inner, smp.Unet | smp.MAnet):
        stages = list(inner.decoder.blocks)
    elif isinstance(inner, smp.UnetPlusPlus):
        stages = [inner.decoder.blocks[f"x_0_{stage}"] for stage in range(inner.decoder.depth + 1)]
    else:
        raise ConfigurationError(
            f"training.deep_supervision: not for {type(inner).__name__}; set it to false, or network.architecture to "
            "unet, unetplusplus, manet or paper_unet"
        )
    if len(stages) < 3:
        raise ConfigurationError(
            f"training.deep_supervision: a decoder of {len(stages)} stages leaves none to supervise; set it to false, "
            "or raise network.encoder_depth to 3 or more"
        )
    return stages[-2:0:-1]
