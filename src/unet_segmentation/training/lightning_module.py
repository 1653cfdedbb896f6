"""The LightningModule: the network, its loss, its optimizer and its validation scores."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from unet_segmentation.metrics.definitions import global_scores
from unet_segmentation.models.components import check_model_supports, get_encoder
from unet_segmentation.models.deep_supervision import DeepSupervision
from unet_segmentation.parameters.training import OptimizerParameters
from unet_segmentation.training.composite_loss import CompositeLoss, all_reduce_sum
from unet_segmentation.training.lr_schedule import lr_lambda
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.utils.ignore_index import IGNORE_INDEX
from unet_segmentation.utils.private_api import foreach_lerp_


class SegmentationTask(L.LightningModule):
    """Trains a segmentation network.

    Sums stay on the device during an epoch and are read once at its end: no step waits for the host. Metrics are not
    logged through Lightning, which would round them to float32.

    Raises:
        ConfigurationError: the plan asks for an encoder or decoder stages that the network does not have.
    """

    RANK_LOCAL_BUFFERS = ("loss_sum", "loss_count", "confusion")  # of this process; summed over all when read

    loss_sum: Tensor
    loss_count: Tensor
    confusion: Tensor

    def __init__(self, network: nn.Module, plan: TrainingPlan, classes: list[str]) -> None:
        super().__init__()
        self.network, self.plan, self.classes = network, plan, classes
        parameters = plan.parameters
        self.loss = CompositeLoss(parameters.loss, plan.class_weights)
        decay = parameters.ema_decay
        self.average = None if decay is None else ExponentialMovingAverage(network, decay)
        check_model_supports(network, parameters)
        self.supervision = (  # after the average, whose copy of the network gets no hooks
            DeepSupervision(network, len(classes), parameters.seed) if parameters.deep_supervision else None
        )
        self.train_loss = math.nan  # of this epoch, from its last step on
        self.validation_scores: dict[str, float] = {}  # of this epoch, once it is validated
        self.freezable: list[nn.Parameter] = []
        if parameters.freeze_encoder_epochs:
            encoder = get_encoder(network, "training.freeze_encoder_epochs")
            self.freezable = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        self.register_buffer("loss_sum", torch.zeros(()))  # in checkpoints, which may fall within an epoch
        self.register_buffer("loss_count", torch.zeros(()))
        self.register_buffer("confusion", torch.zeros(len(classes) ** 2 + 1, dtype=torch.int64), persistent=False)

    @property
    def eval_network(self) -> nn.Module:
        """Return the network that is validated and saved: the moving average of the weights, if there is one."""
        return self.network if self.average is None else self.average.network

    @property
    def trainable_modules(self) -> nn.ModuleList:
        """Return what the optimizer trains: the network, and the heads of deep supervision."""
        return nn.ModuleList([self.network] if self.supervision is None else [self.network, self.supervision])

    def on_train_start(self) -> None:
        """Freeze or unfreeze the encoder where a training resumes within an epoch: there no epoch starts."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Freeze the encoder's weights and batch statistics in the first epochs, then unfreeze them."""
        epochs = self.plan.parameters.freeze_encoder_epochs
        if epochs:
            frozen = self.current_epoch < epochs
            get_encoder(self.network, "training.freeze_encoder_epochs").train(not frozen)
            for parameter in self.freezable:
                parameter.requires_grad_(not frozen)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Compute the loss of one batch of patches."""
        images, masks = batch
        logits = self.network(images)
        loss = self.loss(logits, masks) if self.supervision is None else self.supervision(logits, masks, self.loss)
        self.loss_sum += loss.detach()
        self.loss_count += 1
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - Lightning's
        """Step, and update the moving average."""
        super().optimizer_step(*arguments, **options)
        if self.average is not None:
            self.average.update(self.network)

    def on_validation_start(self) -> None:
        """Read the loss of the training steps."""
        self.train_loss = self._pop_mean_loss()

    def _pop_mean_loss(self) -> float:
        """All-reduce, return and reset the mean loss (collective): per batch in training, per pixel in validation."""
        total = all_reduce_sum(torch.stack([self.loss_sum, self.loss_count]))
        mean = (total[0] / total[1]).item()
        self.loss_sum.zero_()
        self.loss_count.zero_()
        return mean

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Add the loss and the confusion matrix of one batch of tiles."""
        images, masks = batch
        logits = self.eval_network(images)
        pixels = (masks != IGNORE_INDEX).sum()
        loss = self.loss(logits, masks)
        self.loss_sum += loss * pixels
        self.loss_count += pixels
        classes = len(self.classes)
        truth, prediction = masks.long(), logits.argmax(dim=1)
        cell = torch.where(masks == IGNORE_INDEX, classes**2, truth * classes + prediction)
        self.confusion += torch.bincount(cell.flatten(), minlength=classes**2 + 1)

    def on_validation_epoch_end(self) -> None:
        """Read loss and scores of the validation split."""
        classes = len(self.classes)
        matrix = all_reduce_sum(self.confusion)[:-1].view(classes, classes).cpu().numpy()
        scores = global_scores(matrix, self.classes)
        self.confusion.zero_()
        self.validation_scores = {"loss": self._pop_mean_loss()} | scores

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - as Lightning wants it
        """Set up AdamW, and a learning rate that changes with every step."""
        parameters = self.plan.parameters
        key = "training.optimizer.encoder_lr_multiplier"
        encoder = None if parameters.optimizer.encoder_lr_multiplier == 1.0 else get_encoder(self.network, key)
        fused = self.plan.hardware.precision != "16-mixed"
        optimizer = make_optimizer(self.trainable_modules, parameters.optimizer, encoder=encoder, fused=fused)
        per_epoch = self.plan.steps_per_epoch // parameters.accumulate_grad_batches
        cycles = [epochs * per_epoch for epochs in self.plan.cycles]
        factor = partial(lr_lambda, cycles=cycles, schedule=parameters.schedule)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, *_: object, **__: object) -> None:
        """Clip the norm of the gradient."""
        limit = self.plan.parameters.gradient_clip_val
        if limit:
            torch.nn.utils.clip_grad_norm_(self.trainable_modules.parameters(), limit)


class ExponentialMovingAverage(nn.Module):
    """An exponential moving average of a network's weights and buffers.

    The decay rises with the number of updates n as ``min(decay, (1 + n) / (10 + n))``, so that the first, random
    weights are soon forgotten.

    Lightning's `WeightAveraging` does something else: its first update copies the weights, and it swaps all buffers of
    the module, the sums of an epoch among them, around each validation.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards ``network``."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        foreach_lerp_([average for average, _ in floating], [value for _, value in floating], 1.0 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)

    def get_extra_state(self) -> dict[str, int]:
        """Return the number of updates, to be stored with the weights."""
        return {"updates": self.updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Restore the number of updates."""
        self.updates = state["updates"]

    def train(self, mode: bool = True) -> ExponentialMovingAverage:
        """Stay in evaluation mode, whatever the module around does."""
        return super().train(False)


def make_optimizer(
    network: nn.Module, optimizer: OptimizerParameters, *, encoder: nn.Module | None = None, fused: bool = True
) -> torch.optim.AdamW:
    """Build AdamW. Biases and the scales of normalization layers (one-dimensional, all of them) are not decayed.

    The encoder, if given, learns at ``encoder_lr_multiplier`` of the rate: in two groups, decayed and not, after the
    two of the rest. ``fused`` is one kernel for all parameters.
    """
    encoder_params = set() if encoder is None else set(encoder.parameters())
    groups = _groups([parameter for parameter in network.parameters() if parameter not in encoder_params], optimizer)
    if encoder is not None:
        rate = optimizer.learning_rate * optimizer.encoder_lr_multiplier
        groups += [group | {"lr": rate} for group in _groups(list(encoder.parameters()), optimizer)]
    return torch.optim.AdamW(groups, lr=optimizer.learning_rate, betas=optimizer.betas, fused=fused)


def _groups(parameters: list[nn.Parameter], optimizer: OptimizerParameters) -> list[dict[str, Any]]:
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": optimizer.weight_decay}, {"params": others, "weight_decay": 0.0}]
