"""The MLflow model: a folder that loads in a fresh process, without the project and without Kedro."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

REQUIREMENTS = ("mlflow", "numpy", "pydantic", "safetensors", "segmentation-models-pytorch", "torch")


def build_model(packed: Path, folder: Path, *, model_id: str, run_id: str, location: str) -> None:
    """Turn a packed model (see `package.pack_model`) into an MLflow model.

    Args:
        packed: what `pack_model` filled.
        folder: where the MLflow model is built.
        model_id: of its entry in MLflow.
        run_id: of the run that made it.
        location: where MLflow will keep it.
    """
    example = np.load(packed / "example.npy")
    mlflow.pyfunc.save_model(
        path=folder,
        mlflow_model=Model(artifact_path=location, run_id=run_id, model_uuid=model_id, model_id=model_id),
        python_model=str(packed / "serving_model.py"),
        artifacts={"weights": str(packed / "best.safetensors"), "inference": str(packed / "inference.json")},
        code_paths=[str(next((packed / "code").iterdir()))],
        signature=signature(example.shape[-1], example.dtype),
        input_example=example,
        pip_requirements=requirements(),
    )


def signature(channels: int, dtype: np.dtype) -> ModelSignature:
    """Images (n, height, width, channels) in, class ids (n, height, width) out; n, height and width are free."""
    return ModelSignature(
        inputs=Schema([TensorSpec(dtype, (-1, -1, -1, channels))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
    )


def requirements() -> list[str]:
    """Pin what the model needs to the versions that made it (a local build's `+cu132` is no version to install)."""
    return [f"{name}=={metadata.version(name).split('+')[0]}" for name in REQUIREMENTS]
