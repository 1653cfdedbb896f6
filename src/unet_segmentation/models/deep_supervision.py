"""Deep supervision: a loss at the coarser stages of the decoder too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from unet_segmentation.models.components import deep_supervision_stages
from unet_segmentation.models.factory import segmentation_head

Loss = Callable[[Tensor, Tensor], Tensor]


class DeepSupervision(nn.Module):
    """A 1x1 convolution at each supervised stage of a decoder, for training only: no part of the network.

    As in nnU-Net (Isensee et al. 2021, after Lee et al. 2015, https://arxiv.org/abs/1409.5185): the network's own
    output and those of the heads, each half as fine as the one before, weigh 1, 1/2, 1/4, ..., divided by their sum.
    The mask is brought to the size of each by nearest neighbor: what is ignored stays ignored. The seed decides the
    weights of the heads; their biases start as those of the network's last layer.
    """

    def __init__(self, network: nn.Module, classes: int, seed: int) -> None:
        super().__init__()
        stages = deep_supervision_stages(network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleList(nn.Conv2d(_channels(stage), classes, kernel_size=1) for stage in stages)
        last = segmentation_head(network, classes)
        for head in self.heads if last is not None else ():
            head.bias.data.copy_(last.bias.data)  # type: ignore[union-attr, operator, arg-type]
        self.features: dict[int, Tensor] = {}
        for number, stage in enumerate(stages):
            stage.register_forward_hook(partial(self._listen, number))

    def forward(self, logits: Tensor, target: Tensor, loss: Loss) -> Tensor:
        """Compute the weighted mean of the losses of all outputs, from logits (N, classes, H, W) and ids (N, H, W)."""
        outputs = [logits, *(head(self.features.pop(number)) for number, head in enumerate(self.heads))]
        losses = [loss(output, resized(target, output)) for output in outputs]
        weights = [0.5**number for number in range(len(losses))]
        total = sum((weight * value for weight, value in zip(weights, losses, strict=True)), logits.new_zeros(()))
        return total / sum(weights)

    def _listen(self, number: int, stage: nn.Module, _: object, features: Tensor) -> None:
        if stage.training:
            self.features[number] = features


def resized(target: Tensor, output: Tensor) -> Tensor:
    """Bring a mask (N, H, W) of any integers to the height and width of an output, by nearest neighbor."""
    if target.shape[-2:] == output.shape[-2:]:
        return target
    small = functional.interpolate(target.unsqueeze(1).float(), size=output.shape[-2:], mode="nearest-exact")
    return small.squeeze(1).to(target.dtype)


def _channels(stage: nn.Module) -> int:
    """Count the channels a stage gives: those of its last 3x3 convolution, in every decoder here."""
    return [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)][-1].out_channels
