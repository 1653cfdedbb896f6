"""The training of the model: loss, optimizer, schedule, checkpoints, devices."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from unet_segmentation.parameters.base import Auto, StrictModel
from unet_segmentation.parameters.loss import LossParameters

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class OptimizerParameters(StrictModel):
    """AdamW.

    Attributes:
        learning_rate: of the decoder and the last layer; of the encoder times `encoder_lr_multiplier`.
        encoder_lr_multiplier: such as 0.1 for a pretrained encoder.
        weight_decay: of the weights; biases and normalization layers are not decayed.
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
    """Checkpoints of a training run, so that it can be resumed.

    Attributes:
        every_n_train_steps: besides one at the end of each epoch, a checkpoint within it after every n batches,
            for long epochs; null: none.
        keep_last_n: checkpoints kept, the newest; the model of the best epoch is kept besides.
        max_time_fraction: of the time that checkpoints may take. Where epochs are so short that one after each would
            take more, some epochs are saved and logged together with the next. 1: after each epoch.
    """

    every_n_train_steps: int | None = Field(default=None, ge=1)
    keep_last_n: int = Field(default=1, ge=1)
    max_time_fraction: float = Field(default=0.02, gt=0, le=1)


class SamplingParameters(StrictModel):
    """Where patches are cut.

    Attributes:
        oversample_foreground_fraction: share of the patches, among images that have a chosen class, that are centered
            on a pixel of one, each class equally often (nnU-Net takes a third); the others are cut anywhere. `auto`:
            see the plan.
        classes: the classes that are chosen, by name; `auto`: the rare ones.
    """

    oversample_foreground_fraction: Share | Auto = "auto"
    classes: list[str] | Auto = "auto"


class TrainingParameters(StrictModel):
    """How the model is trained. Whatever is `auto` is decided once, before the first step, by the plan.

    Attributes:
        seed: decides initial weights, order of samples and augmentation.
        epochs: passes of `min_steps_per_epoch` steps or more each, with one validation after each.
        max_time_minutes: a time budget, turned into a number of epochs and their steps before the first step; null:
            none. Instead of `epochs` and `min_steps_per_epoch`.
        min_steps_per_epoch: least number of steps of an epoch, so that a tiny data set does not drown in validation;
            larger data sets take one pass over their samples.
        batch_size: samples of one step, over all devices.
        accumulate_grad_batches: batches whose gradients are summed for one step of the optimizer.
        patch_size: side of the square training crop, in pixels.
        sampling: where patches are cut.
        freeze_encoder_epochs: the encoder's weights (and batch statistics) stay as they are for that number of epochs.
        deep_supervision: losses at the coarser stages of the decoder too (weights 1, 1/2, 1/4, ...).
        precision: `auto` takes bf16-mixed where the hardware supports it, else 32-true.
        accelerator: `auto`, `cpu`, `cuda` or `mps`.
        devices: how many devices of this node train together; `auto`: all GPUs, one CPU.
        num_nodes: how many nodes train together, with a file system that all share; others join by the command shown.
        rdzv_endpoint: `address:port` of this node, that the others can reach; for several nodes.
        compile: torch.compile; its warm-up takes a minute or more.
        num_workers: processes that load batches; `auto` takes none on a CPU.
        num_threads: torch's threads; `auto` takes the cores.
        gradient_clip_val: largest gradient norm; 0 means no clipping.
        ema_decay: decay of an exponential moving average of the weights, which is then what is validated and saved;
            null means none.
        monitor: what decides which epoch is best, measured on validation.
        checkpoint: what is saved, so that an interrupted training can be resumed.
        resume: resume an unfinished training of the same configuration and data; false: start from scratch.
        extra_epochs: epochs added to a finished training of the same configuration and data.
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
