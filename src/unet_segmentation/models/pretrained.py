"""Pretrained weights of an encoder: by name from the hub of smp and timm, or from a file."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.utils.did_you_mean import unknown_name_error

KEY = "model.encoder_weights"
SUFFIXES = {".safetensors", ".pt", ".pth", ".ckpt"}
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which a checkpoint keeps the weights
PREFIXES = (
    "",  # an encoder's own names, or torchvision's
    "encoder.",  # a model of smp
    "network.encoder.",  # a model of this project
    "network.network.encoder.",  # a checkpoint of this project
    "model.encoder.",  # a model of smp in a Lightning module
    "module.",  # a network that was trained data-parallel
    "module.encoder.",
    "backbone.",
    "model.",
)
CLASSIFIERS = ("fc.", "_fc.", "classifier.", "last_linear.", "head.")
SHOWN = 3


def is_file(weights: str) -> bool:
    """Return whether pretrained weights are named by file rather than by name."""
    return Path(weights).suffix in SUFFIXES


def check_name(encoder: str, weights: str) -> None:
    """Raise a ConfigurationError for a name of weights that an encoder of smp does not have."""
    from segmentation_models_pytorch.encoders import encoders

    if encoder in encoders and weights not in encoders[encoder]["pretrained_settings"]:
        raise unknown_name_error(KEY, weights, encoders[encoder]["pretrained_settings"])


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Load the weights in a file into an encoder. No code in the file is executed.

    The file holds the weights of such an encoder, or of a model that has one: of this project (``best.safetensors`` or
    ``last.ckpt``), of smp, or of torchvision, whose classifier is left out. If its first convolution takes another
    number of channels, it is adapted as smp does: summed for one channel, else repeated and scaled to keep the sum.

    Raises:
        ConfigurationError: there is no such file, it holds no weights, or those of another network.
    """
    expected = encoder.state_dict()
    weights = _rename_to(expected, _load_weights(path))
    first = next(name for name, tensor in expected.items() if tensor.ndim == 4)
    if first in weights:
        weights[first] = adapt_input_channels(weights[first], expected[first].shape[1])
    _check(path, weights, expected)
    encoder.load_state_dict({name: weights.get(name, tensor) for name, tensor in expected.items()})


def adapt_input_channels(weight: Tensor, channels: int) -> Tensor:
    """Adapt a convolution's weight (out, in, height, width) to a number of input channels."""
    before = weight.shape[1]
    if channels == before:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, [channel % before for channel in range(channels)]] * (before / channels)


def _load_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConfigurationError(f"{KEY}: there is no file {path} (looked for at {path.resolve()})")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ConfigurationError(
            f"{KEY}: {path} is damaged, or holds more than weights, which is not loaded since it could execute code; "
            "save the state dict alone (torch.save(network.state_dict(), path))"
        ) from error
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = content.items() if isinstance(content, Mapping) else ()
    weights = {str(name): tensor for name, tensor in tensors if isinstance(tensor, Tensor)}
    if not weights:
        raise ConfigurationError(f"{KEY}: {path} holds no state dict (weights by name)")
    return weights


def _rename_to(expected: Mapping[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Find the encoder: leave out the prefix (or, for timm's, add one) under which the most names are the encoder's."""
    candidates = [
        {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        for prefix in PREFIXES
    ]
    candidates.append({f"model.{name}": tensor for name, tensor in weights.items()})
    best = max(candidates, key=lambda candidate: len(candidate.keys() & expected.keys()))
    return {
        name: tensor
        for name, tensor in best.items()
        if name in expected or not name.removeprefix("model.").startswith(CLASSIFIERS)
    }


def _check(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = [name for name in expected if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    differences = {"missing": missing, "not known to it": unexpected, "of another shape": shapes}
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for kind, names in differences.items()
        if names
    ]
    if problems:
        raise ConfigurationError(
            f"{KEY}: the weights in {path} are not those of this encoder: {'; '.join(problems)}. Set model.encoder "
            "and model.encoder_depth to those that the file was made with"
        )


@contextmanager
def offline_aware_download(encoder: str, weights: str) -> Iterator[None]:
    """Fetch quietly; where the hub cannot be reached, look into the cache only, and fail at once with a hint."""
    import requests
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    offline = constants.HF_HUB_OFFLINE
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        disable_progress_bars()
        try:
            requests.head(constants.ENDPOINT, timeout=5)
        except requests.RequestException:
            constants.HF_HUB_OFFLINE = True  # otherwise every file is tried for 20 seconds
        yield
    except (OSError, requests.RequestException, RuntimeError) as error:
        raise ConfigurationError(
            f"{KEY}: the {weights!r} weights of {encoder} are not in the "
            f"local cache ({constants.HF_HUB_CACHE}) and could not be fetched from {constants.ENDPOINT}. "
            "Either connect once, or set HF_ENDPOINT to a mirror, or copy the cache of another machine and set "
            "HF_HOME to it, or train from scratch with model.encoder_weights: null."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)
