"""The U-Net of Ronneberger, Fischer and Brox, 2015 (https://arxiv.org/abs/1505.04597)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from unet_segmentation.models.architecture import Architecture
from unet_segmentation.models.architectures import register_model
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.models.upsampling import SubpixelConvolution, Upsampling, learned_upsampling
from unet_segmentation.utils.strict_model import StrictModel


@register_model("unet_original")
class UNet(Architecture):
    """Two 3x3 convolutions per stage, ``depth`` times down and up, every skip connection, a 1x1 head.

    Two things differ from the paper, as in every reimplementation of today. Convolutions pad, so that the output is as
    large as the input (the paper crops its skips instead), and each may be followed by batch normalization, which the
    paper does not have. With ``base_channels`` 64, ``depth`` 4, one input channel, two classes and no batch
    normalization there are 31,030,658 parameters, the paper's own number, with ``transposed``, ``bilinear`` and
    ``nearest``.

    Upsampling is the paper's "upsampling of the feature map followed by a 2x2 convolution that halves the number of
    feature channels": ``transposed`` does both in one transposed convolution, ``bilinear`` and ``nearest``
    interpolate first; ``transposed_k4`` and ``subpixel`` are other layers that do both. Height and width need not be
    divisible: what was rounded off on the way down comes back by repeating the border. The first stage has
    ``base_channels``; each stage down doubles them.
    """

    class Settings(StrictModel):
        """`base_channels` and `norm_layer` of `model`."""

        base_channels: int = Field(default=64, ge=1)
        norm_layer: Literal["batch", "none"] = "batch"

    default_upsampling = "transposed"

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        base_channels: int = 64,
        depth: int = 4,
        upsampling: Upsampling = "transposed",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**stage for stage in range(depth + 1)]
        self.down = nn.ModuleList(
            _double_convolution(before, after, batch_norm)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(_up(2 * channels, channels, upsampling) for channels in reversed(widths[:-1]))
        self.merge = nn.ModuleList(
            _double_convolution(2 * channels, channels, batch_norm) for channels in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(base_channels, classes, kernel_size=1)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, classes, H, W)."""
        features = images
        skips: list[Tensor] = []
        for stage, convolutions in enumerate(self.down):
            features = convolutions(features if stage == 0 else functional.max_pool2d(features, 2))
            skips.append(features)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            features = merge(torch.cat([skip, _as_large_as(up(features), skip)], dim=1))
        return self.head(features)

    @classmethod
    def from_spec(cls, spec: ModelSpec, settings: Settings) -> Self:
        """Build the network of a spec."""
        assert spec.encoder_depth is not None
        return cls(
            spec.in_channels,
            len(spec.classes),
            base_channels=settings.base_channels,
            depth=spec.encoder_depth,
            upsampling=cast("Upsampling", spec.upsampling),
            batch_norm=settings.norm_layer == "batch",
        )

    def deep_supervision_stages(self) -> list[nn.Module]:
        """Return the double convolutions of the decoder, coarsest first."""
        return list(self.merge)

    @classmethod
    def describe_settings(cls, network: Mapping[str, Any]) -> str:
        """Name the width, as the channels of the first stage are also called."""
        return f"width {network.get('base_channels', 64)}"


def _double_convolution(before: int, after: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, kernel_size=3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(after)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _up(before: int, after: int, upsampling: Upsampling) -> nn.Module:
    match upsampling:
        case "bilinear" | "nearest":
            return nn.Sequential(
                nn.Upsample(scale_factor=2, mode=upsampling),
                nn.ZeroPad2d((0, 1, 0, 1)),  # a 2x2 kernel has no center: pad on one side
                nn.Conv2d(before, after, kernel_size=2),
            )
        case _:
            return learned_upsampling(upsampling, before, after)


def _as_large_as(features: Tensor, skip: Tensor) -> Tensor:
    rows, columns = skip.shape[-2] - features.shape[-2], skip.shape[-1] - features.shape[-1]
    return functional.pad(features, (0, columns, 0, rows), mode="replicate") if rows or columns else features


def _initialize(module: nn.Module) -> None:
    """Draw weights with standard deviation sqrt(2 / N), N the inputs of one neuron, as the paper does (He et al.)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, SubpixelConvolution):  # its convolution was drawn just before
        module.init_icnr()
