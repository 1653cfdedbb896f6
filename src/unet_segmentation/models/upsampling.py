"""Upsampling layers with parameters to learn, and how they get into the U-Net of smp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from segmentation_models_pytorch import Unet
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock

Interpolation = Literal["bilinear", "nearest"]
Learned = Literal["transposed", "transposed_k4", "subpixel"]
Upsampling = Literal[Interpolation, Learned]

LEARNABLE_MODES: tuple[str, ...] = get_args(Learned)


class SubpixelConvolution(nn.Sequential):
    """A 1x1 convolution to four times the channels, which are then laid out as pixels (Shi et al. 2016).

    It can do what a transposed convolution with kernel 2 and stride 2 can, no more and no less (Shi et al. 2016, "Is
    the deconvolution layer the same as a convolutional layer?", https://arxiv.org/abs/1609.07009). What differs is
    where it starts, see :meth:`init_icnr`.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(nn.Conv2d(before, 4 * after, kernel_size=1), nn.PixelShuffle(2))
        self.init_icnr()

    @torch.no_grad()
    def init_icnr(self) -> None:
        """Initialize the four pixels that come from one alike: no checkerboard before training has made one.

        ICNR, "initialized to convolution, nearest-neighbor resize" (Aitken et al. 2017,
        https://arxiv.org/abs/1707.02937, section 3): of the four kernels that were drawn for a channel the first counts
        for all, and so does its bias.
        """
        convolution = self[0]
        assert isinstance(convolution, nn.Conv2d)
        for tensor in (convolution.weight, convolution.bias):
            if tensor is not None:
                tensor.copy_(tensor[::4].repeat_interleave(4, dim=0))


def learned_upsampling(kind: Learned, before: int, after: int) -> nn.Module:
    """Build a layer that doubles height and width, and turns the channels before into those after.

    `transposed` is a transposed convolution with kernel 2 and stride 2; `transposed_k4` one with kernel 4, stride 2 and
    padding 1, so that kernels overlap evenly; `subpixel` is :class:`SubpixelConvolution`.
    """
    if kind == "transposed":
        return nn.ConvTranspose2d(before, after, kernel_size=2, stride=2)
    if kind == "transposed_k4":
        return nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1)
    return SubpixelConvolution(before, after)


class LearnedUpBlock(nn.Module):
    """A block of smp's U-Net decoder with a layer that doubles height and width in place of its interpolation."""

    def __init__(self, block: UnetDecoderBlock, up: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.block = block

    def forward(self, features: Tensor, height: int, width: int, skip_connection: Tensor | None = None) -> Tensor:
        """Do what ``UnetDecoderBlock.forward`` does; height and width are always twice those of the features."""
        block, features = self.block, self.up(features)
        if skip_connection is not None:
            features = block.attention1(torch.cat([features, skip_connection], dim=1))
        return block.attention2(block.conv2(block.conv1(features)))


def replace_upsampling(unet: Unet, kind: Learned) -> None:
    """Replace every interpolation by a learned layer in the decoder of smp's U-Net.

    The layers are drawn after all others, as torch draws its layers: with one seed, what the networks of all modes
    have in common starts alike.
    """
    blocks = unet.decoder.blocks
    channels = int(unet.encoder.out_channels[-1])
    for number, block in enumerate(blocks):
        blocks[number] = LearnedUpBlock(block, learned_upsampling(kind, channels, channels))
        channels = block.conv2[0].out_channels
