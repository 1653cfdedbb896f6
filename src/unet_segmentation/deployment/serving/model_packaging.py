"""Pack a model for MLflow: weights, the predictor's parameters, an example and the code."""

from __future__ import annotations

import ast
import base64
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_segmentation.models.model_file import read_header

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

    from unet_segmentation.parameters import PredictorParameters

PLUGINS = re.compile(r"unet_segmentation(\.\w+)+")  # a package of a registry, see utils/registry.py
EXAMPLE_SIDE = 64  # pixels; the example is stored as JSON, so it stays small
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


def package_model(folder: Path, *, model: Path, inference: PredictorParameters, example: np.ndarray) -> None:
    """Build the MLflow model of a trained network: it loads in a clean process, without the project and without Kedro.

    The arguments are those of `pack_model`.
    """
    import mlflow.pyfunc
    import pandas as pd

    with tempfile.TemporaryDirectory() as temporary:
        packed = Path(temporary) / "packed"
        pack_model(packed, model=model, inference=inference, example=example)
        mlflow.pyfunc.save_model(
            path=folder,
            python_model=str(packed / "pyfunc_model.py"),
            artifacts={"weights": str(packed / "best.safetensors"), "inference": str(packed / "inference.json")},
            code_paths=[str(next((packed / "code").iterdir()))],
            model_config=dict(LIMITS),
            signature=_signature(),
            input_example=pd.DataFrame({"image": [encoded(np.load(packed / "example.npy"))]}),
            # Pinned, without the suffix of a local build (`+cu132`).
            pip_requirements=[f"{name}=={metadata.version(name).split('+')[0]}" for name in REQUIREMENTS],
        )


def _signature() -> ModelSignature:
    """Return the schema of the output, and of the parameter `answer`, which chooses its form.

    The input has no schema: bytes of files, base64 and arrays of any size do not fit one schema of MLflow together. The
    model validates its input itself.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array, Map

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

    PNG for gray and RGB of 8 bits, numpy's format for all else.
    """
    import imagecodecs

    if image.dtype == np.uint8 and image.shape[2] in {1, 3}:
        data = imagecodecs.png_encode(image if image.shape[2] == 3 else image[:, :, 0])
    else:
        stream = io.BytesIO()
        np.save(stream, image)
        data = stream.getvalue()
    return base64.b64encode(data).decode("ascii")


def pack_model(folder: Path, *, model: Path, inference: PredictorParameters, example: np.ndarray) -> None:
    """Fill a new folder with `best.safetensors`, `inference.json`, `example.npy` and `code/`.

    The example is an image (height, width, channels) or a batch of them.
    """
    import unet_segmentation

    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / "best.safetensors")
    (folder / "inference.json").write_text(inference.model_dump_json(indent=2), encoding="utf-8")
    np.save(folder / "example.npy", _example(example, read_header(model).spec.bands))
    package = Path(unet_segmentation.__file__).parent
    serving = Path(__file__).with_name("pyfunc_model.py")
    shutil.copyfile(serving, folder / serving.name)
    for module in needed_modules(serving, package):
        target = folder / "code" / package.name / module.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, target)


def needed_modules(program: Path, package: Path) -> list[Path]:
    """Find the modules of a package that a program imports, directly or indirectly, at the top or within functions.

    Imports for type checkers do not count.
    """
    modules: set[Path] = set()
    queue = [program]
    while queue:
        for name in _imports(ast.parse(queue.pop().read_text(encoding="utf-8"))):
            new = set(_files(name, package)) - modules
            modules |= new
            queue += new
    return sorted(modules)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield dotted names: `from a.b import c` may mean the module a.b.c, or c in a.b."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PLUGINS.fullmatch(node.value):
            yield f"{node.value}.*"  # a registry imports all modules of its package
        yield from _imports(node)


def _files(name: str, package: Path) -> Iterator[Path]:
    """Yield the files that the import of a dotted name runs: its packages and the module."""
    first, *parts = name.split(".")
    if first != package.name:
        return
    yield package / "__init__.py"
    path = package
    for part in parts:
        if part == "*":
            yield from path.glob("*.py")
        path = path / part
        if (path / "__init__.py").is_file():
            yield path / "__init__.py"
        elif path.with_suffix(".py").is_file():
            yield path.with_suffix(".py")


def _example(example: np.ndarray, bands: Sequence[int] | None) -> np.ndarray:
    """Crop a small image (height, width, channels); selected bands are put where files have them."""
    image = (example[0] if example.ndim == 4 else example)[:EXAMPLE_SIDE, :EXAMPLE_SIDE]
    if bands is None:
        return np.ascontiguousarray(image)
    file = np.zeros((*image.shape[:2], max(bands) + 1), image.dtype)
    file[:, :, list(bands)] = image
    return file
