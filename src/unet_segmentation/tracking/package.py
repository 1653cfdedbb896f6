"""What a model needs to leave the project: weights, the predictor's parameters, an example and the code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from unet_segmentation.parameters import InferenceParameters

EXAMPLE_SIDE = 64  # pixels; the example is stored as JSON, so it stays small
SERVING = {
    "__init__.py",
    "errors.py",
    "atomic.py",
    "depth.py",
    "parameters",
    "predicting",
    "learning",
}  # what the predictor imports


def pack_model(folder: Path, *, model: Path, inference: InferenceParameters, example: np.ndarray) -> None:
    """Fill a folder with `best.safetensors`, `inference.json`, `example.npy` and `code/`."""
    import unet_segmentation

    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / "best.safetensors")
    (folder / "inference.json").write_text(inference.model_dump_json(indent=2), encoding="utf-8")
    np.save(folder / "example.npy", _example(example))
    package = Path(unet_segmentation.__file__).parent
    shutil.copytree(package, folder / "code" / package.name, ignore=_not_needed(package))
    serving = Path(__file__).with_name("serving_model.py")
    shutil.copyfile(serving, folder / serving.name)


def _example(example: np.ndarray) -> np.ndarray:
    """Cut a small batch (1, height, width, channels)."""
    batch = example if example.ndim == 4 else example[None]
    return np.ascontiguousarray(batch[:1, :EXAMPLE_SIDE, :EXAMPLE_SIDE])


def _not_needed(package: Path) -> Callable[[str, list[str]], set[str]]:
    def ignore(folder: str, names: list[str]) -> set[str]:
        needed = SERVING if Path(folder) == package else {name for name in names if name != "__pycache__"}
        return set(names) - needed

    return ignore
