"""The model file: weights and all that is needed to rebuild the network, in one safetensors file without code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unet_segmentation.errors import ProjectError
from unet_segmentation.models.spec import ModelInfo, ModelSpec
from unet_segmentation.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unet_segmentation.models.factory import SegmentationModel


def save_model(path: Path, network: nn.Module, info: ModelInfo) -> None:
    """Save a network; the file is replaced as a whole."""
    save_weights(path, network.state_dict(), info)


def save_weights(path: Path, weights: Mapping[str, Tensor], info: ModelInfo) -> None:
    """Save what :func:`save_model` saves, from a state dict."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    training = {"epoch": info.epoch, "scores": dict(info.scores), "fingerprint": info.fingerprint}
    header = {"specification": json.dumps(info.spec.to_json()), "information": json.dumps(training)}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        temporary.chmod(0o644)  # safetensors makes it private


def load_model(path: Path) -> tuple[SegmentationModel, ModelInfo]:
    """Load the network, in evaluation mode on the CPU, and the header of a model file; no code in it is executed."""
    from safetensors.torch import load_file

    from unet_segmentation.models.factory import build_model

    info = read_header(path)
    network = build_model(info.spec)
    network.load_state_dict(load_file(path))
    return network.eval(), info


def read_header(path: Path) -> ModelInfo:
    """Read the header of a model file, without torch; raise a ProjectError where it is no model of this project."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
        training = json.loads(header["information"])
        return ModelInfo(
            ModelSpec.from_json(json.loads(header["specification"])),
            epoch=int(training.get("epoch", 0)),
            scores=training.get("scores", {}),
            fingerprint=training.get("fingerprint", ""),
        )
    except (SafetensorError, KeyError, OSError) as error:
        raise ProjectError(f"{path} is not a model of this project ({error}); train one with: kedro run") from error


def file_sha256(path: Path) -> str:
    """Hash a whole file: the header of a model says what pixels are normalized with."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_sha256(file: Path) -> str:
    """Hash the weights of a safetensors file: names, types, shapes and values, but not what else its header tells.

    The format: 8 bytes (little endian) say how long the JSON header is, which the values follow.
    Source: https://github.com/huggingface/safetensors#format
    """
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        header.pop("__metadata__", None)
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
