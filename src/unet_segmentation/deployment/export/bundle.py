"""The folder that leaves the house: the files, what they are, and a program that predicts without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from unet_segmentation.deployment.export.source import ExportSource
from unet_segmentation.models.model_file import file_sha256
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import PredictorParameters
from unet_segmentation.utils.atomic_io import atomic_write, link_or_copy
from unet_segmentation.visualization import class_colors

FORMAT = 1
LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow", "segmentation-models-pytorch")
NEEDED = ("numpy", "onnxruntime", "pillow")  # by predict.py
# The project's own modules that predict.py uses; they import numpy and onnxruntime, nothing else.
MODULES = (
    "errors.py",
    "data/__init__.py",
    "data/io/__init__.py",
    "data/io/bit_depth.py",
    "models/__init__.py",
    "models/spec.py",
    "inference/__init__.py",
    "inference/backends/__init__.py",
    "inference/backends/base.py",
    "inference/backends/onnxruntime.py",
    "utils/did_you_mean.py",
    "inference/sliding_window.py",
    "inference/test_time_augmentation.py",
    "inference/predictor.py",
    "utils/__init__.py",
    "utils/registry.py",
)


def fill_folder(target: Path, files: Mapping[str, Path], information: Mapping[str, Any]) -> None:
    """Fill an empty folder with an exported model's files, by the name that they get.

    The information is what `model.json` says besides the format, the files' hashes and the versions.
    """
    for name, file in files.items():
        link_or_copy(file, target / name)
    package = Path(__file__).parents[2]
    shutil.copyfile(Path(__file__).with_name("standalone.py"), target / "predict.py")
    for name in MODULES:
        copy = target / package.name / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / name, copy)
    (target / package.name / "__init__.py").write_text(
        '"""What predict.py needs of the project."""\n', encoding="utf-8"
    )
    pinned = [f"{name}=={metadata.version(name)}" for name in NEEDED]
    (target / "requirements.txt").write_text("\n".join(pinned) + "\n", encoding="utf-8")
    described = {
        "format": FORMAT,
        **information,
        "files": {
            name: {"bytes": (target / name).stat().st_size, "sha256": file_sha256(target / name)} for name in files
        },
        "versions": {name: metadata.version(name) for name in LIBRARIES},
    }
    (target / "model.json").write_text(json.dumps(described, indent=2), encoding="utf-8")


def bundle_writer(
    source: ExportSource,
    files: Mapping[str, Path],
    inference: PredictorParameters,
    rest: Mapping[str, object],
    output: Path | None,
) -> Callable[[Path], None]:
    """Return a writer of the bundle of a model, from the files that passed, by their name in the bundle.

    `rest` is what `model.json` says besides; a copy at `output` is replaced as a whole.
    """
    spec = source.spec
    information = {
        "problem": source.problem,
        "classes": list(spec.classes),
        "colors": class_colors(len(spec.classes)).tolist(),
        "input": describe_input(spec, source.dtype),
        "specification": spec.to_json(),
        "predictor": inference.model_dump(),
        "weights_sha256": source.weights_sha256,
        "run_id": source.run_id,
        **rest,
    }

    def write(target: Path) -> None:
        fill_folder(target, files, information)
        if output is not None:
            with atomic_write(output) as copy:
                shutil.copytree(target, copy)

    return write


def describe_input(spec: ModelSpec, dtype: str) -> dict[str, Any]:
    """Describe what the ONNX file and the program take and give, for people who write their own client."""
    multiple, classes = spec.multiple, len(spec.classes)
    return {
        "images": {
            "dtype": dtype,
            "shape": ["batch", "height", "width", spec.in_channels],
            "values": "raw pixels, not normalized; RGB where there are 3 channels",
            "sides": f"multiples of {multiple}; extend images below and to the right by reflection, and cut the result",
        },
        "probabilities": {"dtype": "float32", "shape": ["batch", classes, "height", "width"]},
        "logits": {"dtype": "float32", "shape": ["batch", classes, "height", "width"]},
    }
