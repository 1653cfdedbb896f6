"""The MLflow model: it loads in a clean process, without the project and without Kedro."""

from __future__ import annotations

import base64
import io
from importlib import metadata
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array, Map

REQUIREMENTS = (
    "imagecodecs",
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pydantic",
    "safetensors",
    "segmentation-models-pytorch",
    "tifffile",
    "torch",
)
LIMITS = {"max_pixels": 32_000_000, "read_paths": False}  # overridden by model_config when the model is loaded


def build_model(packed: Path, folder: Path) -> None:
    """Build an MLflow model from a packed one (see `package.pack_model`).

    Args:
        packed: folder of the packed model.
        folder: of the MLflow model.
    """
    import pandas as pd

    example = np.load(packed / "example.npy")
    example = pd.DataFrame({"image": [encoded(example.reshape(example.shape[-3:]))]})  # earlier versions packed a batch
    mlflow.pyfunc.save_model(
        path=folder,
        python_model=str(packed / "pyfunc_model.py"),
        artifacts={"weights": str(packed / "best.safetensors"), "inference": str(packed / "inference.json")},
        code_paths=[str(next((packed / "code").iterdir()))],
        model_config=dict(LIMITS),
        signature=signature(),
        input_example=example,
        pip_requirements=requirements(),
    )


def signature() -> ModelSignature:
    """Return the schema of the output, and of the parameter `answer`, which chooses its form.

    The input has no schema: bytes of files, base64 and arrays of any size do not fit one schema of MLflow together. The
    model validates its input itself.
    """
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "mask"),
        ColSpec(DataType.long, "height"),
        ColSpec(DataType.long, "width"),
        ColSpec(Array(DataType.string), "classes"),
        ColSpec(Map(DataType.double), "shares"),
        ColSpec(DataType.double, "confidence"),
    ]
    return ModelSignature(outputs=Schema(outputs), params=ParamSchema([ParamSpec("answer", DataType.string, "auto")]))


def encoded(image: np.ndarray) -> str:
    """Encode an image (height, width, channels) of 8 or 16 bits as an image file in base64.

    PNG for grey and RGB of 8 bits, numpy's format for all else.
    """
    import imagecodecs

    if image.dtype == np.uint8 and image.shape[2] in {1, 3}:
        data = imagecodecs.png_encode(image if image.shape[2] == 3 else image[:, :, 0])
    else:
        stream = io.BytesIO()
        np.save(stream, image)
        data = stream.getvalue()
    return base64.b64encode(data).decode("ascii")


def requirements() -> list[str]:
    """Pin the model's requirements to the installed versions, without the suffix of a local build (`+cu132`)."""
    return [f"{name}=={metadata.version(name).split('+')[0]}" for name in REQUIREMENTS]
