"""Batch normalization folded into the convolution before it: the same function, in fewer passes over memory."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ALIKE = 1e-3  # of the largest logit: beyond that, folding has changed more than the last bits


def fuse_conv_bn(network: nn.Module, example: Tensor) -> nn.Module:
    """Fold what can be folded (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2).

    A layer is folded where, in a pass over the example input, a convolution's output is what a batch normalization
    takes, and both are used once. Return a copy in evaluation mode; an unfolded one should the results differ.
    """
    fused = copy.deepcopy(network).eval()
    with torch.inference_mode():
        expected = fused(example)
    for convolution, normalization in _pairs(fused, example):
        # With statistics and weights of its own, a folded convolution needs no normalization behind it.
        _replace(fused, convolution, fuse_conv_bn_eval(convolution, normalization))
        _replace(fused, normalization, nn.Identity())
    with torch.inference_mode():
        result = fused(example)
    same = torch.allclose(result, expected, rtol=0, atol=ALIKE * max(1.0, float(expected.abs().max())))
    return fused if same else copy.deepcopy(network).eval()


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find the convolutions whose output goes into a batch normalization, by watching one pass."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # with the tensors, so that no two have one id
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    calls: dict[nn.Module, int] = {}

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = module, output
        elif id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], module))  # type: ignore[arg-type] # hooked below, by type

    hooks = [module.register_forward_hook(after) for module in network.modules() if _is_watched(module)]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1 and pair[1].running_mean is not None]


def _is_watched(module: nn.Module) -> bool:
    """Leave out subclasses of the normalization, such as timm's with an activation inside: they do more."""
    return isinstance(module, nn.Conv2d) or type(module) is nn.BatchNorm2d


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
