"""Predict images with an exported model: needs Python, numpy, onnxruntime and pillow, and this folder.

    python predict.py IMAGE_OR_FOLDER ... [--output FOLDER] [--int8]

For each image <name>.png is written: class ids from 0, in the classes' colors; the tiles, their blending and the
padding are those of the project that trained the network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(__file__).resolve().parent
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


class ExportedModel:
    """An exported folder, ready to predict.

    Attributes:
        information: what `model.json` says: classes, colors, channels, files, how well it agrees with the network.
        predictor: see `unet_segmentation/inference/predictor.py`.
    """

    def __init__(self, folder: Path = FOLDER, int8: bool = False) -> None:
        """Read the folder; its ONNX file must be the one that was checked when it was exported."""
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        from unet_segmentation.errors import ProjectError
        from unet_segmentation.inference.backends.onnxruntime import OnnxRuntimeBackend
        from unet_segmentation.inference.predictor import Predictor
        from unet_segmentation.models.spec import ModelSpec

        self.information: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        name = "model.int8.onnx" if int8 else "model.onnx"
        noted = self.information["files"].get(name)
        if noted is None:
            raise ProjectError(f"{folder} holds no {name}: it was exported without --int8.")
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != noted["sha256"]:
            raise ProjectError(f"{folder / name} is not the file that model.json describes. Export it again.")
        backend = OnnxRuntimeBackend(folder / name, precision="int8" if int8 else "float32")
        inference: Any = SimpleNamespace(**self.information["predictor"])
        self.spec = ModelSpec.from_json(self.information["specification"])
        self.predictor = Predictor(self.spec, backend, inference)

    def predict(self, image: Any) -> Any:  # noqa: ANN401 - numpy is imported below
        """Return class ids (height, width) of an image (height, width, channels)."""
        return self.predictor.predict(image)

    def read(self, file: Path) -> Any:  # noqa: ANN401
        """Read an image file as the network was trained on it: (height, width, channels), uint8 or uint16."""
        import numpy as np
        from PIL import Image, ImageOps

        channels = self.spec.in_channels
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened)
            gray = picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith("I")
            if picture.mode not in ("L", "RGB", "I;16", "I;16B", "I", "F") and not (
                picture.mode == "RGBA" and channels == 4
            ):
                picture = picture.convert("L" if gray else "RGB")
            pixels = np.asarray(picture)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if self.spec.bands is not None:
            pixels = np.ascontiguousarray(pixels[..., list(self.spec.bands)])
        if pixels.shape[2] == 1 and channels == 3:  # as gray samples were packed among colored ones
            pixels = pixels.repeat(3, axis=2)
        if pixels.dtype == np.uint8 and self.information["input"]["images"]["dtype"] == "uint16":
            raise ValueError(
                "the network was trained on 16 bits, and Pillow reads 8 bits here; read the file with another library "
                "and give the array to ExportedModel().predict"
            )
        return pixels


def main() -> int:
    """Predict what the command line names; a file that cannot be read is reported and left out (exit status 1)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("predictions"))
    parser.add_argument("--int8", action="store_true", help="compute in 8 bits, where the folder holds that file")
    options = parser.parse_args()
    try:
        model = ExportedModel(int8=options.int8)
    except Exception as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    files = [file for path in options.images for file in _files(path)]
    failed = 0
    options.output.mkdir(parents=True, exist_ok=True)
    stems = [file.stem for file in files]
    for file in files:
        name = file.stem if stems.count(file.stem) == 1 else file.name  # a.png and a.jpg do not meet in one file
        try:
            write(options.output / f"{name}.png", model.predict(model.read(file)), model.information["colors"])
        except Exception as error:  # of whatever kind, the others are predicted
            failed += 1
            print(f"{file}: {error}", file=sys.stderr)  # noqa: T201
    print(f"{len(files) - failed} of {len(files)} images predicted into {options.output}")  # noqa: T201
    return 1 if failed or not files else 0


def write(target: Path, mask: Any, colors: list[list[int]]) -> None:  # noqa: ANN401
    """Write class ids as a PNG that viewers show in the classes' colors."""
    from PIL import Image

    picture = Image.fromarray(mask)
    picture.putpalette([value for color in colors for value in color])
    partial = target.with_name(f".{target.name}.partial")
    picture.save(partial, format="PNG")
    partial.replace(target)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS)


if __name__ == "__main__":
    sys.exit(main())
