"""An ONNX file in whole numbers of 8 bits, for CPUs: the ranges come from images of the training split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unet_segmentation.errors import DataError
from unet_segmentation.inference.backends.base import Image
from unet_segmentation.inference.backends.onnx_export import INPUT
from unet_segmentation.inference.backends.torch_export import quiet
from unet_segmentation.utils.atomic_io import atomic_write

# What is computed in 8 bits. The softmax stays as it is.
OPERATORS = ["Conv", "ConvTranspose", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "Add", "Mul", "Concat", "Resize"]


def quantise(source: Path, target: Path, batches: Iterable[Image]) -> None:
    """Quantise a network statically, weights by output channel (Jacob et al. 2018, https://arxiv.org/abs/1712.05877).

    Args:
        source: ONNX file of `onnx_file.save_onnx`.
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
            raise DataError("INT8 needs labelled images of the training split to take its ranges from.") from error
        made, plain = onnx.load(temporary), onnx.load(source, load_external_data=False)
        onnx.helper.set_model_props(made, {prop.key: prop.value for prop in plain.metadata_props})
        onnx.save(made, temporary)
