"""The MLflow model: a folder that loads in a fresh process, without the project and without Kedro."""

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
LIMITS = {"max_pixels": 32_000_000, "read_paths": False}  # whoever loads the model may set others (model_config)


def build_model(packed: Path, folder: Path) -> None:
    """Turn a packed model (see `package.pack_model`) into an MLflow model.

    Args:
        packed: what `pack_model` filled.
        folder: where the MLflow model is built.
    """
    import pandas as pd

    example = np.load(packed / "example.npy")
    example = pd.DataFrame({"image": [encoded(example.reshape(example.shape[-3:]))]})  # earlier versions packed a batch
    mlflow.pyfunc.save_model(
        path=folder,
        python_model=str(packed / "serving_model.py"),
        artifacts={"weights": str(packed / "best.safetensors"), "inference": str(packed / "inference.json")},
        code_paths=[str(next((packed / "code").iterdir()))],
        model_config=dict(LIMITS),
        signature=signature(),
        input_example=example,
        pip_requirements=requirements(),
    )


def signature() -> ModelSignature:
    """Describe what comes out of the model, and that `answer` chooses the form.

    What goes in is left open: files' bytes, base64 and arrays of any size fit no schema of MLflow together, which would
    refuse all but one of them. The model checks its input itself.
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
    """Write an image (height, width, channels) of 8 or 16 bits as an image file, in base64.

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
    """Pin what the model needs to the versions that made it (a local build's `+cu132` is no version to install)."""
    return [f"{name}=={metadata.version(name).split('+')[0]}" for name in REQUIREMENTS]
