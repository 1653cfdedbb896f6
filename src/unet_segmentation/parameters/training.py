"""The network and its training."""

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.utils.registry import Registry

Upsampling = Literal["auto", "bilinear", "nearest", "transposed", "transposed_k4", "subpixel"]
Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class ModelParameters(StrictModel):
    """Which network is trained.

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
            2, stride 2), `transposed_k4` (kernel 4, stride 2), `subpixel` convolution (with ICNR initialisation).
        base_channels: channels of the first stage of `unet_original` (64 in the paper).
        norm_layer: `batch` or `none` (as in the paper), after every convolution of `unet_original`.
        decoder_channels: channels of the decoder's stages, deepest first; null keeps the architecture's own.
        input_normalization: mean and standard deviation that pixels are normalised with: `data` (of the training
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
    settings: dict[str, Any] = Field(default_factory=dict)


class _LossSection(StrictModel):
    """A weighted sum of losses, in float32, ignored pixels masked in each; the formulas are in docs/training.md.

    Every file of `learning/losses` that registers a loss adds its weight, under the loss's name, and its settings,
    under `<loss>_<setting>`.

    Attributes:
        class_weights: `none`, `auto` (from the shares of the training split) or a list, for the cross-entropy, the
            focal loss and OHEM.
    """

    class_weights: Literal["none", "auto"] | list[float] = "none"

    @property
    def weights(self) -> dict[str, float]:
        """The losses whose weight is above 0, by name."""
        return {name: weight for name in _losses().names() if (weight := getattr(self, name)) > 0}

    def settings(self, name: str) -> StrictModel:
        """Return the settings of a loss, of its class `Settings`."""
        settings: type[StrictModel] = _losses()[name].Settings
        return settings(**{field: getattr(self, _key(name, field)) for field in settings.model_fields})

    @model_validator(mode="after")
    def _any_weight(self) -> Self:
        if not self.weights:
            raise ValueError("at least one of the losses (cross_entropy, dice, ...) must be above 0")
        return self


def _losses() -> Registry[Any]:
    """Return the registered losses. Their package lies above this one, so it is looked up by name, like a plug-in."""
    registry: Registry[Any] = import_module("unet_segmentation.training.losses.base").LOSSES
    return registry


def _key(loss: str, field: str) -> str:
    return loss if field == "weight" else f"{loss}_{field}"


def _loss_fields() -> dict[str, Any]:
    """Return the fields of the section: type and default of every setting of every registered loss."""
    return {
        _key(name, field): (information.annotation, information)
        for name, loss in _losses()
        for field, information in loss.Settings.model_fields.items()
    }


if TYPE_CHECKING:

    class LossParameters(_LossSection):
        """The section `training.loss`; its keys are known at run time."""

        def __init__(self, **values: object) -> None: ...

else:
    LossParameters = create_model(
        "LossParameters", __base__=_LossSection, __doc__=_LossSection.__doc__, __module__=__name__, **_loss_fields()
    )


class OptimizerParameters(StrictModel):
    """AdamW.

    Attributes:
        learning_rate: of the decoder and the last layer; of the encoder times `encoder_lr_multiplier`.
        encoder_lr_multiplier: such as 0.1 for a pretrained encoder.
        weight_decay: of the weights; biases and normalisation layers are not decayed.
        betas: of AdamW.
    """

    learning_rate: float = Field(default=1e-3, gt=0)
    encoder_lr_multiplier: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)


class ScheduleParameters(StrictModel):
    """Learning rate over the steps: a linear warm-up, then poly or cosine down to `min_lr_ratio`; or one-cycle."""

    name: Literal["poly", "cosine", "one_cycle", "constant"] = "cosine"
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1)
    power: float = Field(default=0.9, gt=0)
    min_lr_ratio: float = Field(default=0.01, ge=0, le=1)


class EarlyStoppingParameters(StrictModel):
    """Stop when the validation score has not risen for `patience` epochs; null means never."""

    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)


class CheckpointParameters(StrictModel):
    """What a training keeps, so that it can go on.

    Attributes:
        every_n_train_steps: besides one at the end of each epoch, a checkpoint within it after every so many batches,
            for long epochs; null: none.
        keep_last_n: checkpoints kept, the newest; the model of the best epoch is kept besides.
        max_time_fraction: of the time that checkpoints may take. Where epochs are so short that one after each would
            take more, some epochs are kept, and told of, together with the next. 1: after each epoch.
    """

    every_n_train_steps: int | None = Field(default=None, ge=1)
    keep_last_n: int = Field(default=1, ge=1)
    max_time_fraction: float = Field(default=0.02, gt=0, le=1)


class SamplingParameters(StrictModel):
    """Where patches are cut.

    Attributes:
        oversample_foreground_fraction: share of the patches, among images that have a chosen class, that are centred on
            a pixel of one, each class equally often (nnU-Net takes a third); the others are cut anywhere. `auto`: see
            the plan.
        classes: the classes that are chosen, by name; `auto`: the rare ones.
    """

    oversample_foreground_fraction: Share | Auto = "auto"
    classes: list[str] | Auto = "auto"


class TrainingParameters(StrictModel):
    """How the network is trained. Whatever is `auto` is decided once, before the first step, by the plan.

    Attributes:
        seed: decides initial weights, order of samples and augmentation.
        epochs: passes of `min_steps_per_epoch` steps or more each, with one validation after each.
        max_time_minutes: a time budget, turned into a number of epochs and their steps before the first step; null:
            none. Instead of `epochs` and `min_steps_per_epoch`.
        min_steps_per_epoch: an epoch has at least so many steps, so that a tiny data set does not drown in validation;
            larger data sets take one pass over their samples.
        batch_size: samples of one step, over all devices.
        accumulate_grad_batches: batches whose gradients are summed for one step of the optimizer.
        patch_size: side of the square training crop, in pixels.
        sampling: where patches are cut.
        freeze_encoder_epochs: the encoder's weights (and batch statistics) stay as they are for so many epochs.
        deep_supervision: losses at the coarser stages of the decoder too (weights 1, 1/2, 1/4, ...).
        precision: `auto` takes bf16 where the hardware has it, else float32.
        accelerator: `auto`, `cpu`, `cuda` or `mps`.
        devices: how many devices of this host train together; `auto`: all GPUs, one CPU.
        num_nodes: how many hosts train together, with a store that all share; the others join with the command shown.
        rdzv_endpoint: `address:port` of this host, that the others can reach; for several hosts.
        compile: torch.compile; its warm-up takes a minute or more.
        num_workers: processes that load batches; `auto` takes none on a CPU.
        num_threads: torch's threads; `auto` takes the cores.
        gradient_clip_val: largest gradient norm; 0 means no clipping.
        ema_decay: decay of an exponential moving average of the weights, which is then what is validated and kept;
            null means none.
        monitor: what decides which epoch is best, measured on validation.
        checkpoint: what is kept, so that a training that was stopped can go on.
        resume: go on with an unfinished training of the same configuration and data; false: start anew.
        extra_epochs: go on with a finished training of the same configuration and data for so many epochs.
    """

    seed: int = Field(default=0, ge=0)
    epochs: Count | Auto = 20
    max_time_minutes: float | None = Field(default=None, gt=0)
    min_steps_per_epoch: Count | Auto = 10
    batch_size: Count | Auto = 16
    accumulate_grad_batches: int = Field(default=1, ge=1)
    patch_size: int | Auto = "auto"
    sampling: SamplingParameters = SamplingParameters()
    freeze_encoder_epochs: int = Field(default=0, ge=0)
    deep_supervision: bool = False
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Count | Auto = 1
    num_nodes: int = Field(default=1, ge=1)
    rdzv_endpoint: str | None = None
    compile: bool = False
    num_workers: Annotated[int, Field(ge=0)] | Auto = "auto"
    num_threads: Count | Auto = "auto"
    deterministic: bool = True
    gradient_clip_val: float = Field(default=1.0, ge=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    monitor: Literal["iou/mean", "dice/mean", "iou/foreground_mean", "dice/foreground_mean"] = "dice/mean"
    loss: LossParameters = LossParameters()
    optimizer: OptimizerParameters = OptimizerParameters()
    schedule: ScheduleParameters = ScheduleParameters()
    early_stopping: EarlyStoppingParameters = EarlyStoppingParameters()
    checkpoint: CheckpointParameters = CheckpointParameters()
    resume: bool = True
    extra_epochs: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _sensible_patch(self) -> Self:
        if isinstance(self.patch_size, int) and (self.patch_size < 32 or self.patch_size % 32):
            raise ValueError("patch_size must be a multiple of 32, at least 32 (encoders halve it five times)")
        if self.num_nodes > 1 and self.rdzv_endpoint is None:
            raise ValueError("rendezvous must be this host's address:port, for the other hosts to join")
        return self
