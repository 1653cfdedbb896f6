"""ONNX: the network, its normalization and the softmax in one file that holds no code; in float32 or in 8 bits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.inference.backends.base import Image, first_line
from unet_segmentation.inference.backends.torch_export import quiet
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    from torch.export import ExportedProgram

INPUT, OUTPUTS = "images", ("probabilities", "logits")
# What `quantize` computes in 8 bits. The softmax stays as it is.
OPERATORS = ["Conv", "ConvTranspose", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "Add", "Mul", "Concat", "Resize"]


def save_onnx(program: ExportedProgram, spec: ModelSpec, path: Path) -> None:
    """Write a program of `export_program` as ONNX, atomically, with the spec in its metadata.

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
                f"written as ONNX ({first_line(error)}). docs/how-to/export-onnx.md says which networks can."
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


def quantize(source: Path, target: Path, batches: Iterable[Image]) -> None:
    """Quantize a network statically, weights by output channel (Jacob et al. 2018, https://arxiv.org/abs/1712.05877).

    Args:
        source: ONNX file of `save_onnx`.
        target: the ONNX file to write, atomically.
        batches: (N, height, width, channels) raw pixels, one after the other; of the training split, never of the
            split that is scored. The smallest and the largest value of every layer over them become its range.

    Raises:
        DataError: there is no image to take the ranges from.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[Image] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._left, None)
            return None if batch is None else {INPUT: batch}

    with quiet(), atomic_write(target) as temporary:
        try:
            quantize_static(
                source,
                temporary,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,  # unsigned times signed is what processors have an instruction for
                weight_type=QuantType.QInt8,
                op_types_to_quantize=OPERATORS,
            )
        except ValueError as error:
            if "No data" not in str(error):
                raise
            raise DataError("INT8 needs labeled images of the training split to take its ranges from.") from error
        made, plain = onnx.load(temporary), onnx.load(source, load_external_data=False)
        onnx.helper.set_model_props(made, {prop.key: prop.value for prop in plain.metadata_props})
        onnx.save(made, temporary)
