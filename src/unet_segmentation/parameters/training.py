"""The network and its training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from unet_segmentation.parameters.base import StrictModel

Upsampling = Literal["auto", "transposed", "bilinear", "nearest"]


class NetworkParameters(StrictModel):
    """Which network is trained.

    Attributes:
        architecture: any of segmentation-models-pytorch by name (`unet`, `unetplusplus`, `fpn`, ...), or `paper_unet`:
            the U-Net of Ronneberger et al. 2015.
        encoder: any encoder of segmentation-models-pytorch by name, `tu-...` of timm included. Not for `paper_unet`.
        encoder_weights: `imagenet` (or another name the encoder has; needs the network once), or null: from scratch.
        encoder_depth: how often the encoder halves height and width; null takes the architecture's own (5 for `unet`,
            4 for `paper_unet`).
        upsampling: how the decoder goes up. `auto` takes bilinear where the architecture lets choose, else its own;
            for `paper_unet`, transposed. `transposed` is only for `paper_unet`.
        width: channels of the first stage of `paper_unet` (64 in the paper).
        normalization: `batch` or `none` (as in the paper), after every convolution of `paper_unet`.
        decoder_channels: channels of the decoder's stages, deepest first; null keeps the architecture's own.
    """

    architecture: str = "unet"
    encoder: str = "resnet18"
    encoder_weights: str | None = None
    encoder_depth: int | None = Field(default=None, ge=2, le=6)
    upsampling: Upsampling = "auto"
    width: int = Field(default=64, ge=1)
    normalization: Literal["batch", "none"] = "batch"
    decoder_channels: list[int] | None = None


class LossParameters(StrictModel):
    """Cross-entropy plus Dice, in float32, ignored pixels masked in both.

    Attributes:
        cross_entropy: weight of the cross-entropy.
        dice: weight of the Dice loss.
        class_weights: `none`, `auto` (from the shares of the training split) or a list, for the cross-entropy.
    """

    cross_entropy: float = Field(default=1.0, ge=0)
    dice: float = Field(default=1.0, ge=0)
    class_weights: Literal["none", "auto"] | list[float] = "none"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.cross_entropy + self.dice <= 0:
            raise ValueError("at least one of cross_entropy and dice must be above 0")
        return self


class OptimizerParameters(StrictModel):
    """AdamW."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)


class ScheduleParameters(StrictModel):
    """Learning rate over the steps: a linear warm-up, then poly or cosine down to `final_share` of it."""

    name: Literal["poly", "cosine", "constant"] = "cosine"
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    power: float = Field(default=0.9, gt=0)
    final_share: float = Field(default=0.01, ge=0, le=1)


class EarlyStoppingParameters(StrictModel):
    """Stop when the validation score has not risen for `patience` epochs; null means never."""

    patience: int | None = Field(default=None, ge=1)
    minimum_gain: float = Field(default=0.0, ge=0)


class TrainingParameters(StrictModel):
    """How the network is trained.

    Attributes:
        seed: decides initial weights, order of samples and augmentation.
        epochs: passes of `steps_per_epoch` steps each, with one validation after each.
        minimum_steps: an epoch has at least so many steps, so that a tiny data set does not drown in validation;
            larger data sets take one pass over their samples.
        batch_size: samples of one step.
        patch_size: side of the square training crop, in pixels; `auto` takes the smaller of 256 and the largest
            multiple of 32 within the median image.
        precision: `auto` takes bf16 where the hardware has it, else float32.
        accelerator: `auto`, `cpu`, `cuda` or `mps`.
        workers: processes that load batches; `auto` takes none on a CPU.
        threads: torch's threads; `auto` takes the cores.
        gradient_clip: largest gradient norm; 0 means no clipping.
        ema_decay: decay of an exponential moving average of the weights, which is then what is validated and kept;
            null means none.
        score: what decides which epoch is best, measured on validation.
    """

    seed: int = Field(default=0, ge=0)
    epochs: int = Field(default=20, ge=1)
    minimum_steps: int = Field(default=10, ge=1)
    batch_size: int = Field(default=16, ge=1)
    patch_size: int | Literal["auto"] = "auto"
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int | Literal["auto"] = "auto"
    threads: int | Literal["auto"] = "auto"
    deterministic: bool = True
    gradient_clip: float = Field(default=1.0, ge=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    score: Literal["iou/mean", "dice/mean", "iou/foreground_mean", "dice/foreground_mean"] = "dice/mean"
    loss: LossParameters = LossParameters()
    optimizer: OptimizerParameters = OptimizerParameters()
    schedule: ScheduleParameters = ScheduleParameters()
    early_stopping: EarlyStoppingParameters = EarlyStoppingParameters()

    @model_validator(mode="after")
    def _sensible_patch(self) -> Self:
        if isinstance(self.patch_size, int) and (self.patch_size < 32 or self.patch_size % 32):
            raise ValueError("patch_size must be a multiple of 32, at least 32 (encoders halve it five times)")
        if isinstance(self.workers, int) and self.workers < 0:
            raise ValueError("workers must be 0 or more")
        if isinstance(self.threads, int) and self.threads < 1:
            raise ValueError("threads must be 1 or more")
        return self
