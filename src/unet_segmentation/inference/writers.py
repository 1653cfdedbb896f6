"""Writers of predictions: class ids, an overlay, probabilities, regions. Every file is written atomically."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from unet_segmentation.data.ingestion.urls import file_name
from unet_segmentation.data.io.filesystem import WEB
from unet_segmentation.inference.backends.base import Image, Probabilities
from unet_segmentation.inference.polygons.connected_components import Regions, coco_head, coco_images
from unet_segmentation.inference.sliding_window import argmax_with_confidence
from unet_segmentation.parameters import InferenceParameters
from unet_segmentation.utils.atomic_io import atomic_write, disk_full_error, remove
from unet_segmentation.visualization import as_jpeg, overlay

Row = dict[str, Any]  # of the table of images

ANNOTATIONS = ".annotations"  # a folder: of each image its COCO annotations, to be joined
PARTIAL = ".partial"  # a folder: of files that are being written
OVERLAY = "_overlay.jpg"
POLYGONS = ".geojson"
COCO = "coco.json"
TABLE = "predictions.csv"

_UNSAFE = re.compile(r'[\\:*?"<>|%\x00-\x1f]|(?<=/)[. ]|^[. ]|[. ](?=/)')  # what a file system may refuse


class PredictionWriter:
    """The folder that the results of one source go to."""

    def __init__(self, folder: Path, classes: Sequence[str], outputs: InferenceParameters) -> None:
        self.folder, self._classes, self._outputs = folder, list(classes), outputs
        self._numbers = itertools.count()
        remove(folder / PARTIAL)  # of a run that was killed

    def close(self) -> None:
        """Leave no working folder behind."""
        remove(self.folder / PARTIAL)

    def write(self, image: str, name: str, pixels: Image, probabilities: Probabilities) -> Row:
        """Write the outputs of one image, and return its row of the table.

        Args:
            image: where it came from.
            name: of its results, without ending.
            pixels: (height, width, channels).
            probabilities: (classes, height, width).
        """
        mask, confidence = argmax_with_confidence(probabilities)
        if self._outputs.overlay:
            self._bytes(as_jpeg(overlay(pixels, mask)), self.path(name, OVERLAY))
        if self._outputs.probabilities:
            values = {"probabilities": probabilities.astype(np.float16), "classes": np.array(self._classes)}
            with self._whole(self.path(name, "_probabilities.npz")) as temporary, temporary.open("wb") as stream:
                np.savez(stream, **values)  # type: ignore[arg-type]
        if self._outputs.polygons:
            regions = Regions(mask, confidence)
            self._json(regions.features(self._classes), self.path(name, POLYGONS))
            self._json(list(regions.annotations()), self._annotations(name))
        file = self.path(name, ".png")
        self._png(mask, file)  # last: where it is, everything is
        counts = np.bincount(mask.ravel(), minlength=len(self._classes))
        return self.row(image, file, mask.shape, counts, float(confidence.mean()))

    def row(
        self, image: str, mask: Path, size: tuple[int, ...], counts: NDArray[np.int64], confidence: float, left: int = 0
    ) -> Row:
        """Make the row of a finished image; `left` of its pixels hold no data."""
        valid = max(1, int(counts.sum()))
        shares = {f"share/{name}": int(n) / valid for name, n in zip(self._classes, counts, strict=True)}
        place = mask.relative_to(self.folder).as_posix()
        rest = {"confidence": confidence, "no_data": left / (valid + left), "flags": ""}
        return {"image": image, "mask": place, "height": size[0], "width": size[1], **shares, **rest}

    def path(self, name: str, ending: str) -> Path:
        """Return where a result lies; characters that a file system may refuse are percent-encoded."""
        return self.folder / _safe(name + ending)

    def _annotations(self, name: str) -> Path:
        return self.folder / ANNOTATIONS / _safe(f"{name}.json")

    def join_annotations(self, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
        """Write the COCO file of all images, from the annotations of each; `names` has their results' by image."""
        annotated = [row for row in rows if self._annotations(names[row["image"]]).is_file()]
        ids = itertools.count(1)
        with atomic_write(self.folder / COCO) as temporary, temporary.open("wb") as stream:
            head = orjson.dumps(coco_head(self._classes) | {"images": list(coco_images(map(dict, annotated)))})
            stream.write(head.removesuffix(b"}") + b',"annotations":[')
            between = b"\n"
            for image_id, row in enumerate(annotated, start=1):
                for annotation in orjson.loads(self._annotations(names[row["image"]]).read_bytes()):
                    entry = {"id": next(ids), "image_id": image_id, **annotation}
                    stream.write(between + orjson.dumps(entry))
                    between = b",\n"
            stream.write(b"]}")

    def _png(self, mask: NDArray[np.uint8], file: Path) -> None:
        import imagecodecs

        fast = {"level": 1, "strategy": imagecodecs.PNG.STRATEGY.RLE, "filter": imagecodecs.PNG.FILTER.NO}
        self._bytes(imagecodecs.png_encode(mask, **fast), file)  # ids in areas: smaller than with filters, too

    def _json(self, values: Any, file: Path) -> None:  # noqa: ANN401 - anything that JSON holds
        self._bytes(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY), file)

    def _bytes(self, content: bytes | bytearray, file: Path) -> None:
        with self._whole(file) as temporary:
            temporary.write_bytes(content)

    @contextmanager
    def _whole(self, file: Path) -> Iterator[Path]:
        """Like `atomic_write`, which looks through the file's folder for what a kill left: too slow for many images."""
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / PARTIAL / f"{next(self._numbers)}{file.suffix}"
        temporary.parent.mkdir(exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, file)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            raise disk_full_error(error, file) from error


def results_name(source: str) -> str:
    """Name the results of a source: what it is called, and a hash that keeps two of the same name apart."""
    text = source if "://" in source else str(Path(source).expanduser().absolute())
    last = file_name(text) if text.startswith(WEB) else Path(text.rstrip("/")).name
    called = re.sub(r"[^\w.-]+", "_", last).strip("._") or "images"
    return f"{called[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _safe(path: str) -> str:
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", path)
