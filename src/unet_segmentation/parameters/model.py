"""The model: architecture, encoder, upsampling."""

from typing import Annotated, Literal

from pydantic import Field

from unet_segmentation.parameters.base import Auto, StrictModel

Upsampling = Literal["auto", "bilinear", "nearest", "transposed", "transposed_k4", "subpixel"]


class ModelParameters(StrictModel):
    """Which model is trained.

    Attributes:
        architecture: any of segmentation-models-pytorch by name (`unet`, `unetplusplus`, `fpn`, ...), or
            `unet_original`: the U-Net of Ronneberger et al. 2015.
        encoder: any encoder of segmentation-models-pytorch by name, `tu-...` of timm included. Not for `unet_original`.
        encoder_weights: null: from scratch; `imagenet` (or another name the encoder has; needs a connection once); or
            a file of weights (`.safetensors`, or `.pt`, `.pth`, `.ckpt` loaded without executing code).
        encoder_depth: how often the encoder halves height and width; `auto` follows the patch (see the plan), null
            takes the architecture's own (5 for `unet`, 4 for `unet_original`).
        upsampling: how the decoder goes up. `auto` takes bilinear where the architecture lets choose, else its own;
            for `unet_original`, transposed. `unet` and `unet_original` can learn it: `transposed` convolution (kernel
            2, stride 2), `transposed_k4` (kernel 4, stride 2), `subpixel` convolution (with ICNR initialization).
        base_channels: channels of the first stage of `unet_original` (64 in the paper).
        norm_layer: `batch` or `none` (as in the paper), after every convolution of `unet_original`.
        decoder_channels: channels of the decoder's stages, deepest first; null keeps the architecture's own.
        input_normalization: mean and standard deviation that pixels are normalized with: `data` (of the training
            split), `imagenet`, or `auto`: those the encoder's weights were trained with, else `data`.
        settings: what else an architecture of this project takes, see its file in `models/architectures`.
    """

    architecture: str = "unet"
    encoder: str = "resnet18"
    encoder_weights: str | None = None
    encoder_depth: Annotated[int, Field(ge=2, le=6)] | Auto | None = None
    upsampling: Upsampling = "auto"
    base_channels: int = Field(default=64, ge=1)
    norm_layer: Literal["batch", "none"] = "batch"
    decoder_channels: list[int] | None = None
    input_normalization: Literal["auto", "data", "imagenet"] = "auto"
    settings: dict[str, object] = Field(default_factory=dict)
