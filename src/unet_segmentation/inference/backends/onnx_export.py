"""ONNX: the network, its normalisation and the softmax in one file that holds no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.inference.backends.torch_export import quiet
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    from torch.export import ExportedProgram

INPUT, OUTPUTS = "images", ("probabilities", "logits")


def save_onnx(program: ExportedProgram, spec: ModelSpec, path: Path) -> None:
    """Write a program as ONNX, with the spec in its metadata.

    Args:
        program: see `program.export_program`.
        spec: of the network.
        path: of the file, written atomically.

    Raises:
        ConfigurationError: an operator of the network has no counterpart in ONNX.
    """
    import onnx
    import torch

    with quiet():
        try:
            made = torch.onnx.export(
                program, dynamo=True, input_names=[INPUT], output_names=list(OUTPUTS), verbose=False, optimize=True
            )
        except Exception as error:
            raise ConfigurationError(
                f"model: {spec.architecture} with encoder {spec.encoder} cannot be "
                f"written as ONNX ({str(error).splitlines()[0][:200]}). docs/how-to/export-onnx.md says which networks can."
            ) from error
        assert made is not None
        model = made.model_proto
    _name_sizes(model)
    onnx.helper.set_model_props(model, {"specification": json.dumps(spec.to_json())})
    with atomic_write(path) as temporary:
        onnx.save(model, temporary)


def _name_sizes(model: Any) -> None:  # noqa: ANN401 - an onnx.ModelProto
    """Name the free sizes for people; what the exporter noted of the sizes in between would contradict them."""
    axes = {INPUT: ("batch", "height", "width"), **dict.fromkeys(OUTPUTS, ("batch", None, "height", "width"))}
    for value in (*model.graph.input, *model.graph.output):
        for place, name in zip(value.type.tensor_type.shape.dim, axes[value.name], strict=False):
            if name is not None:
                place.dim_param = name
    del model.graph.value_info[:]
